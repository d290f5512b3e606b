"""What is usual at each frame of a day, as training needs it: a day never knows itself.

A network that corrects the climatology must see in training what it will see later: a usual that
its own day had no part in. So each training day gets the climatology of the *other* training days;
every other day gets that of all of them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.climatology import (
    GROUPS,
    STEPS_PER_BYTE,
    Grouping,
    GroupSums,
    choose_grouping,
    day_sums,
    fit_sums,
    group_of,
    mean_steps,
)
from pipeline.clock import local_minutes
from pipeline.errors import StoreError
from pipeline.kept_fits import digest, map_array, note_use, save_array
from pipeline.layout import WHITE
from pipeline.mix import Mix, fingerprint, fit_mix, load_mix, save_mix
from pipeline.store import Store
from pipeline.windows import Cut

KEEP_DAYS = 4
MINUTES_PER_HOUR = 60
ALL = slice(None)
HALVES = (np.arange(1 << 16) / (WHITE * STEPS_PER_BYTE)).astype(np.float16)
"""Steps of 1/256 byte as float16 in [0, 1]: looking up is many times as fast as rounding."""
DaySteps = tuple[NDArray[np.int64], NDArray[np.uint16]]


@dataclass(slots=True, eq=False)
class UsualFrames:
    """The usual frame at any bin of any day of a city, from a list of training days.

    Picklable, without its arrays: the sums are mapped from their file, so workers share them; the
    means of a few days are kept by each process.

    Attributes:
        store: The city's days.
        days: Days it was fitted on; each is left out of its own usual.
        grouping: What is told apart, as in `Climatology`.
        path: Sums over all days by group, `(G, C, H, W)` uint32 in an npy file.
        interpolated: Whether a frame lies on the line between the hours about it, each taken for
            its middle, instead of being its hour's mean: no steps at full hours, and less noise.
        keep: Days whose means are kept in memory, 2 bytes a cell, channel and hour each.
    """

    store: Store
    days: tuple[str, ...]
    grouping: Grouping
    path: Path
    keep: int = KEEP_DAYS
    interpolated: bool = False
    _total: tuple[GroupSums, NDArray[np.uint64]] | None = field(default=None, repr=False)
    _kept: OrderedDict[str | bytes, DaySteps] = field(default_factory=OrderedDict, repr=False)
    _mapped: NDArray[np.uint32] | None = field(default=None, repr=False)  # outlives its file

    @classmethod
    def fit(
        cls,
        store: Store,
        days: Sequence[str],
        folder: Path,
        *,
        keep: int = KEEP_DAYS,
        interpolated: bool = False,
        workers: int = 2,
        cluster: str | None = None,
    ) -> UsualFrames:
        """Return what is usual by these days; sums are added up once and kept under `folder`.

        Here, or on a Dask cluster by its address.

        Raises:
            StoreError: There are fewer than two days, or one is not in the store.
        """
        grouping = choose_grouping(store.edition, days)
        path = folder / f"usual_{store.city.name}_{digest(store, days, grouping)[:16]}.npy"
        if len(days) < 2:
            raise StoreError(
                f"{store.root}: {store.city.name} has {len(days)} training days to fit on, "
                "what is usual needs 2"
            )
        with suppress(StoreError):  # sums that are missing or spoiled are made again
            mapped = map_array(path, _sums_shape(store, grouping))
            note_use(path)
            return cls(store, tuple(days), grouping, path, keep, interpolated, _mapped=mapped)
        total = fit_sums(store, days, grouping, workers=workers, cluster=cluster)
        save_array(path, np.moveaxis(total.sums, -1, -3))
        mapped = map_array(path, _sums_shape(store, grouping))
        note_use(path)
        return cls(store, tuple(days), grouping, path, keep, interpolated, _mapped=mapped)

    def frames(self, day: str, start: int, stop: int) -> NDArray[np.float32]:
        """Return what is usual at frames `start` to `stop`, `(n, C, H, W)` in [0, 1]."""
        self._check(day, start, stop)
        if self.interpolated:
            return self._between(day, start, stop)
        labels, (groups, steps) = self._labels(day)[start:stop], self._day(day)
        return _to_unit(steps[np.searchsorted(groups, labels)])

    def half(
        self, day: str, start: int, stop: int, rows: slice = ALL, columns: slice = ALL
    ) -> NDArray[np.float16]:
        """Return the same of some rows and columns, `(n, C, h, w)` float16: what training reads."""
        self._check(day, start, stop)
        if self.interpolated:
            return self._between(day, start, stop, rows, columns).astype(np.float16)
        labels, (groups, steps) = self._labels(day)[start:stop], self._day(day)
        part = steps[:, :, rows, columns]
        usual = np.empty((len(labels), *part.shape[1:]), np.float16)
        edges = [0, *(np.flatnonzero(np.diff(labels)) + 1).tolist(), len(labels)]
        for first, end in pairwise(edges):
            if first < end:
                usual[first:end] = HALVES[part[np.searchsorted(groups, labels[first])]]
        return usual

    def _between(
        self, day: str, start: int, stop: int, rows: slice = ALL, columns: slice = ALL
    ) -> NDArray[np.float32]:
        """Return frames on the lines between the hours; at a day's ends, its first and last."""
        edition, labels, (groups, steps) = self.store.edition, self._labels(day), self._day(day)
        _, minute = local_minutes(edition, self.store.city, day)
        half = MINUTES_PER_HOUR // edition.bin_minutes // 2
        middle = minute[start:stop] % MINUTES_PER_HOUR + edition.bin_minutes / 2
        share = (middle / MINUTES_PER_HOUR + 0.5) % 1  # of the later hour
        frames, last = np.arange(start, stop), len(labels) - 1
        part = steps[:, :, rows, columns]
        earlier, later = (
            _to_unit(part[np.searchsorted(groups, labels[np.clip(at, 0, last)])])
            for at in (frames - half, frames + half)
        )
        weight = share.astype(np.float32)[:, None, None, None]
        return earlier * (1 - weight) + later * weight

    def mean(self) -> NDArray[np.float32]:
        """Return the mean of all frames of all days, `(C, H, W)` in [0, 1]."""
        total, everything = self._sums()
        mean: NDArray[np.float32] = (everything / total.frames.sum() / WHITE).astype(np.float32)
        return mean

    def _labels(self, day: str) -> NDArray[np.int64]:
        return group_of(self.store.edition, self.store.city, day, self.grouping)

    def _check(self, day: str, start: int, stop: int) -> None:
        if not 0 <= start <= stop <= self.store.edition.frames_per_day:
            raise StoreError(
                f"{self.store.root}: frames {start} to {stop} of {day}, "
                f"expected 0 to {self.store.edition.frames_per_day}"
            )

    def _day(self, day: str) -> DaySteps:
        """Return the groups that a day touches, in order, and their means `(g, C, H, W)`."""
        groups = np.unique(group_of(self.store.edition, self.store.city, day, self.grouping))
        key = day if day in self.days else groups.tobytes()
        if key not in self._kept:
            total, everything = self._sums()
            sums, frames = total.sums[groups], total.frames[groups]
            count = int(total.frames.sum())
            if day in self.days:
                _, own = day_sums(self.store, day, self.grouping)
                own_sums = np.moveaxis(own.sums, -1, -3)
                sums, frames = sums - own_sums, frames - own.frames
                everything = everything - own_sums.sum(axis=0, dtype=np.uint64)
                count -= int(own.frames.sum())
            self._kept[key] = groups, mean_steps(GroupSums(sums, frames), everything, count)
            while len(self._kept) > max(1, self.keep):
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]

    def _sums(self) -> tuple[GroupSums, NDArray[np.uint64]]:
        """Return the sums by group, mapped from their file, and those over all groups."""
        if self._total is None:
            edition, city = self.store.edition, self.store.city
            sums = self._mapped
            if sums is None:
                sums = map_array(self.path, _sums_shape(self.store, self.grouping))
            labels = [group_of(edition, city, day, self.grouping) for day in self.days]
            frames = np.bincount(np.concatenate(labels), minlength=GROUPS[self.grouping])
            self._total = GroupSums(sums, frames), sums.sum(axis=0, dtype=np.uint64)
        return self._total

    def __getstate__(self) -> tuple[Store, tuple[str, ...], Grouping, Path, int, bool]:
        return self.store, self.days, self.grouping, self.path, self.keep, self.interpolated

    def __setstate__(self, state: tuple[Store, tuple[str, ...], Grouping, Path, int, bool]) -> None:
        self.store, self.days, self.grouping, self.path, self.keep, self.interpolated = state
        self._total, self._kept, self._mapped = None, OrderedDict(), None


def mix_weights(
    store: Store,
    days: Sequence[str],
    cut: Cut,
    folder: Path,
    *,
    workers: int = 2,
    cluster: str | None = None,
) -> NDArray[np.float64]:
    """Return the best mix's weights of the history's mean `(L, C)`, fitted on these days alone.

    A fit is kept under `folder` by the fingerprint of its days and cut; the one that `t4c score`
    keeps of all training days is taken where it is the same.

    Raises:
        StoreError: There are fewer than two days.
    """
    wanted = fingerprint(store, days, cut)
    own = folder / f"mix_{store.city.name}_{wanted[:16]}.nc"
    for path in (own, folder / f"{store.city.name}.nc"):
        with suppress(StoreError):
            mix: Mix = load_mix(path, store.edition, store.city)
            if mix.fingerprint == wanted:
                if path == own:
                    note_use(own)
                return mix.weights
    mix = fit_mix(store, days, cut, workers=workers, cluster=cluster)
    save_mix(own, mix)
    note_use(own)
    return mix.weights


def _sums_shape(store: Store, grouping: Grouping) -> tuple[int, int, int, int]:
    height, width, channels = store.edition.frame_shape
    return GROUPS[grouping], channels, height, width


def _to_unit(steps: NDArray[np.uint16]) -> NDArray[np.float32]:
    return steps.astype(np.float32) / np.float32(WHITE * STEPS_PER_BYTE)
