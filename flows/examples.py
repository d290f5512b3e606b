"""From a city's windows to what a training step sees."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from crevnet.batch import Example
from pipeline.context import Context
from pipeline.flips import AXES, Axis, Mirror, combined, mirror
from pipeline.sources import TrafficSource
from pipeline.store import Store
from pipeline.usual import ALL, KEEP_DAYS, UsualFrames
from pipeline.windows import Window

NEEDS_USUAL = ("climatology", "mix")
Half = NDArray[np.float16]


@dataclass(frozen=True, slots=True, eq=False)
class CityInputs:
    """What a network is told of a city besides the frames; picklable.

    All of it follows from the store and the list of days it was fitted on.

    Attributes:
        days: Days it was fitted on.
        usual: What is usual, if the network's base needs it.
        context: Extra planes, if it has any.
    """

    days: tuple[str, ...]
    usual: UsualFrames | None = None
    context: Context | None = None

    @classmethod
    def fit(
        cls,
        store: Store,
        days: Sequence[str],
        base: str,
        names: Sequence[str],
        folder: Path,
        *,
        interpolated: bool = False,
        known: Sequence[str] = (),
        keep: int = KEEP_DAYS,
        workers: int = 2,
        cluster: str | None = None,
    ) -> CityInputs:
        """Return the inputs by some training days; what is fitted is kept under `folder`.

        Args:
            store: The city's days.
            days: Days to fit on; each is left out of its own usual.
            base: What the network corrects, as in `crevnet.task.Task`.
            names: Extra planes, as in `pipeline.context`.
            folder: Where fitted values are kept.
            interpolated: Whether what is usual lies on lines between the hours.
            known: Cities that have a plane of `city`, by `pipeline.context.label`.
            keep: Days whose usual frames stay in memory.
            workers: Days read at once.
            cluster: Address of a Dask scheduler that adds up what is usual instead.

        Raises:
            ConfigError: A name is unknown.
            StoreError: There are too few days, or one is not in the store.
        """
        usual = None
        if base in NEEDS_USUAL or "usual" in names:
            more: dict[str, Any] = {"workers": workers, "cluster": cluster}
            usual = UsualFrames.fit(
                store, days, folder, keep=keep, interpolated=interpolated, **more
            )
        context = None
        if names:
            how: dict[str, Any] = {"usual": usual, "known": known, "workers": workers}
            context = Context.fit(store, days, names, folder, **how)
        return cls(tuple(days), usual if base in NEEDS_USUAL else None, context)

    def of(
        self, window: Window, rows: slice = ALL, columns: slice = ALL, *, forget: bool = False
    ) -> tuple[Half | None, Half | None]:
        """Return what is usual `(T + horizon, C, h, w)` and the planes `(S, h, w)`, or none.

        Args:
            window: Which.
            rows: Its rows.
            columns: Its columns.
            forget: Do not say which city it is.
        """
        usual = static = None
        if self.usual is not None:
            usual = self.usual.half(window.day, window.start, window.stop, rows, columns)
        if self.context is not None:
            static = self.context.planes(window, rows, columns, forget=forget)
        return usual, static

    def mirrored(
        self, turn: Mirror, usual: Half | None, static: Half | None
    ) -> tuple[Half | None, Half | None]:
        """Return the same of one window, or of several, mirrored: see `mirrored`."""
        return mirrored(self.context, turn, usual, static)

    def told(
        self, history: NDArray[np.float32], windows: Sequence[Window]
    ) -> tuple[Half | None, Half | None]:
        """Return what goes with several windows' frames, which are not looked at."""
        return self.side_by_side(windows)

    def side_by_side(self, windows: Sequence[Window]) -> tuple[Half | None, Half | None]:
        """Return the same of several windows, `(B, T + horizon, C, H, W)` and `(B, S, H, W)`."""
        found = [self.of(window) for window in windows]
        usual = [one for one, _ in found if one is not None]
        static = [other for _, other in found if other is not None]
        return np.stack(usual) if usual else None, np.stack(static) if static else None


def mirrored(
    context: Context | None, turn: Mirror, usual: Half | None, static: Half | None
) -> tuple[Half | None, Half | None]:
    """Return what is usual and the planes of one window, or of several, mirrored.

    Raises:
        ConfigError: What is usual is a mean of heading codes.
    """
    if usual is not None:
        usual = turn.means(usual)
    if static is not None and context is not None:
        static = turn.planes(static, context.order(turn.order))
    return usual, static


class Pick(NamedTuple):
    """A window and when it is taken; how it is cropped and flipped follows from both."""

    number: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Augment:
    """How examples vary.

    Attributes:
        crop: Rows and columns of a piece cut at random; whole frames, if none.
        flips: What is reversed in half the examples.
        seed: Another seed is another choice.
        forget_city: Share of examples that do not say which city they are of.
    """

    crop: tuple[int, int] | None = None
    flips: tuple[Axis, ...] = ()
    seed: int = 0
    forget_city: float = 0.0

    def forgets(self, pick: Pick) -> bool:
        """Return whether a pick does not say which city it is of: the same for ever."""
        if not self.forget_city:
            return False
        rng = np.random.default_rng([self.seed, *reversed(pick), 1])
        return bool(rng.random() < self.forget_city)

    def draw(self, pick: Pick, height: int, width: int) -> tuple[slice, slice, tuple[Axis, ...]]:
        """Return rows, columns and flips of an example: the same for the same pick."""
        rng = np.random.default_rng([self.seed, *reversed(pick)])
        top, left = rng.random(2)
        flips = tuple(axis for axis in AXES if rng.random() < 0.5 and axis in self.flips)
        if self.crop is None:
            return ALL, ALL, flips
        first = int(top * (height - self.crop[0] + 1)), int(left * (width - self.crop[1] + 1))
        rows, columns = (slice(at, at + size) for at, size in zip(first, self.crop, strict=True))
        return rows, columns, flips


@dataclass(slots=True, eq=False)
class Examples(Dataset[Example]):
    """The windows of several cities end to end; the same pick gives the same example for ever.

    Attributes:
        sources: Windows of each city.
        inputs: What else is told of it.
        augment: How examples vary; not at all, if none.
    """

    sources: tuple[TrafficSource, ...]
    inputs: tuple[CityInputs, ...]
    augment: Augment | None = None
    _ends: list[int] = field(init=False, repr=False)
    _mirrors: list[Mapping[tuple[Axis, ...], Mirror]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._ends = list(accumulate(len(source) for source in self.sources))
        every = combined(self.augment.flips if self.augment else ())
        stores = [source.store for source in self.sources]
        self._mirrors = [
            {axes: mirror(store.edition, store.city, axes) for axes in every} for store in stores
        ]

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, pick: Pick | int) -> Example:
        """Return an example; a plain number is taken in epoch 0."""
        if not isinstance(pick, Pick):
            pick = Pick(pick, 0)
        if not 0 <= pick.number < len(self):
            raise IndexError(f"example {pick.number} of {len(self)}")
        at = bisect_right(self._ends, pick.number)
        source, inputs = self.sources[at], self.inputs[at]
        clip = source[pick.number - (self._ends[at] - len(source))]
        rows, columns = ALL, ALL
        flips: tuple[Axis, ...] = ()
        if self.augment is not None:
            height, width, _ = source.store.edition.frame_shape
            rows, columns, flips = self.augment.draw(pick, height, width)
        history, future = (part[..., rows, columns] for part in (clip.history, clip.future))
        forget = self.augment is not None and self.augment.forgets(pick)
        usual, static = inputs.of(clip.where, rows, columns, forget=forget)
        if flips:
            turn = self._mirrors[at][flips]
            history, future = turn.frames(history), turn.frames(future)
            usual, static = inputs.mirrored(turn, usual, static)
        where = f"{clip.where.city} {clip.where.day} from frame {clip.where.start}"
        history, future = np.ascontiguousarray(history), np.ascontiguousarray(future)
        return Example(history, future, usual, static, where)
