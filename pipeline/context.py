"""What a network may see besides the frames: extra input planes by name, from training days only.

| name | planes | what, all in [0, 1] |
|---|---|---|
| `activity` | 1 | share of frames in which any channel of the cell is not zero |
| `activity_channels` | C | the same for each channel |
| `mean` | C | mean of each channel over all frames |
| `usual` | C | what is usual at the first lead, the window's own day left out |
| `hour` | 2 | sine and cosine of the local time of day at the split |
| `weekday` | 2 | sine and cosine of the day of the week, Monday first |
| `weekend` | 1 | whether it is Saturday or Sunday |
| `city` | K | 1 on the plane of the city that it is, of the K that a network knows; else 0 |

A city that a network does not know is all zeros there, and so is any city in a share of training
(`reading.forget_city`): the network has learned what to say of a city that it cannot name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.clock import local_minutes
from pipeline.editions import MINUTES_PER_DAY, City, Edition
from pipeline.errors import ConfigError, StoreError
from pipeline.kept_fits import digest, map_array, save_array
from pipeline.store import Store
from pipeline.usual import ALL, UsualFrames
from pipeline.windows import Window

BY_CELL = ("activity",)
BY_CHANNEL = ("activity_channels", "mean", "usual")
OF_VALUES = ("mean", "usual")
"""Planes that are means of the channels' values, not counts."""
FRAMES_AT_ONCE = 24


def label(edition: Edition, city: City) -> str:
    """Return what a city is called among those of several editions."""
    return f"{edition.name}/{city.name}"


def count(name: str, edition: Edition, known: Sequence[str] = ()) -> int:
    """Return how many planes a name stands for, where some cities are known by `label`.

    Raises:
        ConfigError: There is no such input.
    """
    sizes = {name: len(edition.channels) for name in BY_CHANNEL} | {"city": len(known)}
    sizes |= dict.fromkeys(BY_CELL, 1) | {name: planes for name, (planes, _) in CLOCK.items()}
    if name not in sizes:
        raise ConfigError(f"inputs: no {name!r}; there are {sorted(sizes)}")
    return sizes[name]


@dataclass(frozen=True, slots=True, eq=False)
class Context:
    """The extra planes of a city; picklable.

    Attributes:
        edition: What its frames are.
        city: Whose cells and clock.
        names: Which planes, in order.
        fixed: Planes that no window changes, `(n, H, W)` float16, by name.
        usual: What is usual, where it is asked for.
        known: Cities that have a plane of `city`, by `label`.
    """

    edition: Edition
    city: City
    names: tuple[str, ...]
    fixed: Mapping[str, NDArray[np.float16]]
    usual: UsualFrames | None = None
    known: tuple[str, ...] = ()

    @classmethod
    def fit(
        cls,
        store: Store,
        days: Sequence[str],
        names: Sequence[str],
        folder: Path,
        *,
        usual: UsualFrames | None = None,
        known: Sequence[str] = (),
        workers: int = 2,
    ) -> Context:
        """Return the context of a city from these days alone; counts are kept under `folder`.

        Args:
            store: The city's days.
            days: Training days.
            names: Planes, in the order a network takes them.
            folder: Where what is fitted is kept.
            usual: What is usual by the same days, if it is at hand already.
            known: Cities that have a plane of `city`, by `label`.
            workers: Days read at once.

        Raises:
            ConfigError: A name is unknown, or given twice.
            StoreError: There are too few days, or one is not in the store.
        """
        planes(names, store.edition, known)
        if usual is None and set(OF_VALUES) & set(names):
            usual = UsualFrames.fit(store, days, folder, workers=workers)
        fixed: dict[str, NDArray[np.float32]] = {}
        if {"activity", "activity_channels"} & set(names):
            shares = fit_activity(store, days, folder)
            fixed = {"activity": shares[:1], "activity_channels": shares[1:]}
        if usual is not None and "mean" in names:
            fixed["mean"] = usual.mean()
        wanted = {name: fixed[name].astype(np.float16) for name in names if name in fixed}
        asked = usual if "usual" in names else None
        return cls(store.edition, store.city, tuple(names), wanted, asked, tuple(known))

    @property
    def size(self) -> int:
        """Number of planes S."""
        return planes(self.names, self.edition, self.known)

    def planes(
        self, window: Window, rows: slice = ALL, columns: slice = ALL, *, forget: bool = False
    ) -> NDArray[np.float16]:
        """Return the planes of a window, `(S, h, w)` in [0, 1], of some rows and columns.

        To `forget` is not to say which city it is.
        """
        height, width, _ = self.edition.frame_shape
        sides = len(range(height)[rows]), len(range(width)[columns])
        found = np.empty((self.size, *sides), np.float16)
        place = 0
        for name in self.names:
            part = found[place : place + count(name, self.edition, self.known)]
            if name in self.fixed:
                part[:] = self.fixed[name][:, rows, columns]
            elif name in CLOCK:
                part[:] = self._clock(name, window)
            elif name == "city":
                part[:] = self._which_city(forget)
            elif self.usual is not None:
                first = window.future[0]
                part[:] = self.usual.half(window.day, first, first + 1, rows, columns)[0]
            place += len(part)
        return found

    def by_window(self, window: Window, history: NDArray[np.float32]) -> NDArray[np.float16]:
        """Return planes that rest on no day of the city, but on a window's own history alone.

        Means and shares over days are those over the history's frames.

        Args:
            window: Which.
            history: Its frames `(T, C, H, W)` in [0, 1].
        """
        there, mean = history > 0, history.mean(axis=0)
        of_history = {
            "activity": there.any(axis=1).mean(axis=0)[None],
            "activity_channels": there.mean(axis=0),
            "mean": mean,
            "usual": mean,
        }
        parts = []
        for name in self.names:
            if name in CLOCK or name == "city":
                flat = self._clock(name, window) if name in CLOCK else self._which_city()
                parts.append(np.broadcast_to(flat, (len(flat), *mean.shape[1:])))
            else:
                parts.append(of_history[name].astype(np.float16))
        return np.concatenate(parts)

    def _clock(self, name: str, window: Window) -> NDArray[np.float16]:
        weekday, minute = local_minutes(self.edition, self.city, window.day)
        split = min(window.split, len(minute) - 1)
        said = CLOCK[name][1](int(weekday[split]), int(minute[split]))
        return np.array(said, np.float16)[:, None, None]

    def _which_city(self, forget: bool = False) -> NDArray[np.float16]:
        own = None if forget else label(self.edition, self.city)
        return np.array([one == own for one in self.known], np.float16)[:, None, None]

    def order(self, channels: Sequence[int]) -> tuple[int, ...]:
        """Return where each plane comes from when the channels are put in another order, `(S,)`."""
        order: list[int] = []
        for name in self.names:
            size = count(name, self.edition, self.known)
            taken = channels if name in BY_CHANNEL else range(size)
            first = len(order)
            order += [first + place for place in taken]
        return tuple(order)


def planes(names: Sequence[str], edition: Edition, known: Sequence[str] = ()) -> int:
    """Return how many planes all names stand for together, where some cities are known by `label`.

    Raises:
        ConfigError: A name is unknown, or given twice.
    """
    if len(set(names)) < len(names):
        raise ConfigError(f"inputs: {list(names)} names one twice")
    return sum(count(name, edition, known) for name in names)


def fit_activity(store: Store, days: Sequence[str], folder: Path) -> NDArray[np.float32]:
    """Return the share of frames in which a cell is not zero, `(1 + C, H, W)`.

    Plane 0 is of any channel, the others of each. Counts are kept under `folder`.

    Raises:
        StoreError: There are no days, or one is not in the store.
    """
    if not days:
        raise StoreError(f"{store.root}: {store.city.name} has no days to count activity on")
    height, width, channels = store.edition.frame_shape
    path = folder / f"activity_{store.city.name}_{digest(store, days, 'activity')[:16]}.npy"
    shape = (1 + channels, height, width)
    counts = None
    with suppress(StoreError):  # counts that are missing or spoiled are made again
        counts = map_array(path, shape)
    if counts is None:
        counts = np.zeros(shape, np.uint32)
        for day in days:
            for first in range(0, store.edition.frames_per_day, FRAMES_AT_ONCE):
                last = min(first + FRAMES_AT_ONCE, store.edition.frames_per_day)
                active = np.moveaxis(store.read(day, first, last) > 0, -1, 0)  # (C, T, H, W)
                counts[1:] += active.sum(axis=1, dtype=np.uint32)
                counts[0] += active.any(axis=0).sum(axis=0, dtype=np.uint32)
        save_array(path, counts)
    frames = len(days) * store.edition.frames_per_day
    return np.asarray(counts / frames, np.float32)


def _circle(share: float) -> tuple[float, float]:
    """Return sine and cosine of a share of a turn, mapped to [0, 1]."""
    turn = 2 * np.pi * share
    return 0.5 + 0.5 * float(np.sin(turn)), 0.5 + 0.5 * float(np.cos(turn))


CLOCK: Mapping[str, tuple[int, Callable[[int, int], tuple[float, ...]]]] = {
    "hour": (2, lambda weekday, minute: _circle(minute / MINUTES_PER_DAY)),
    "weekday": (2, lambda weekday, minute: _circle(weekday / 7)),
    "weekend": (1, lambda weekday, minute: (float(weekday >= 5),)),
}
"""Planes of one value each: how many, and their values from weekday and minute of the day."""
