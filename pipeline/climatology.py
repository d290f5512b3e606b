"""What is usual: the mean of each cell by hour, and by kind of day where there are enough days."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.clock import local_hours
from pipeline.cluster import in_order
from pipeline.editions import City, Edition
from pipeline.errors import StoreError
from pipeline.layout import WHITE
from pipeline.store import Store
from pipeline.windows import Window

Grouping = Literal["hour", "daytype", "weekday"]
GROUPS: dict[Grouping, int] = {"hour": 24, "daytype": 48, "weekday": 168}
ENOUGH_DAYS = 8
"""Days that each weekday, or each of workday and weekend, must have to be told apart."""
STEPS_PER_BYTE = 256
"""Means are kept in steps of 1/256 byte, which no score can tell from exact ones."""


@dataclass(frozen=True, slots=True, eq=False)
class Climatology:
    """The mean of every cell and channel in each group of hours; a `Forecaster`.

    Attributes:
        edition: Whose clock the windows keep.
        city: Whose cells.
        grouping: What is told apart: the hour; hour and workday or weekend; hour and weekday.
        days: Days it was fitted on.
        steps: `(G, H, W, C)` uint16, mean in bytes times 256.
    """

    edition: Edition
    city: City
    grouping: Grouping
    days: tuple[str, ...]
    steps: NDArray[np.uint16]

    def forecast(
        self, history: NDArray[np.float32], windows: Sequence[Window]
    ) -> NDArray[np.float32]:
        """Return the usual frame at each window's leads; the history is not looked at."""
        return np.stack([self._usual(window) for window in windows])

    def _usual(self, window: Window) -> NDArray[np.float32]:
        groups = group_of(self.edition, self.city, window.day, self.grouping)[list(window.future)]
        frames = np.moveaxis(self.steps[groups], -1, -3)  # (L, C, H, W)
        return frames.astype(np.float32) / np.float32(WHITE * STEPS_PER_BYTE)


def group_of(edition: Edition, city: City, day: str, grouping: Grouping) -> NDArray[np.int64]:
    """Return the group of every frame of a day, `(T,)`, by the city's local time."""
    weekday, hour = local_hours(edition, city, day)
    if grouping == "hour":
        return hour
    kind = weekday if grouping == "weekday" else (weekday >= 5).astype(np.int64)
    return kind * 24 + hour


def what_fits_rest_on(edition: Edition, city: City) -> tuple[object, ...]:
    """Return the facts of a city that its fitted values depend on, besides the days' contents."""
    clock = (edition.bin_minutes, edition.time_zone, edition.layout.day_format, city.time_zone)
    return (edition.name, city.name, edition.channels, edition.day_shape, *clock)


def choose_grouping(edition: Edition, days: Sequence[str]) -> Grouping:
    """Return the finest grouping that the days are enough for."""
    weekdays = np.bincount([edition.day_of(day).weekday() for day in days], minlength=7)
    if weekdays.min() >= ENOUGH_DAYS:
        return "weekday"
    if min(weekdays[:5].sum(), weekdays[5:].sum()) >= ENOUGH_DAYS:
        return "daytype"
    return "hour"


@dataclass(frozen=True, slots=True, eq=False)
class GroupSums:
    """Sums over frames by group, the streaming half of a mean.

    Attributes:
        sums: `(G, H, W, C)` uint32, sums of bytes.
        frames: `(G,)` how many frames each is the sum of.
    """

    sums: NDArray[np.uint32]
    frames: NDArray[np.int64]

    def mean(self) -> NDArray[np.uint16]:
        """Return the means in steps of 1/256 byte; groups without a frame take the mean of all."""
        return mean_steps(self, self.sums.sum(axis=0, dtype=np.uint64), int(self.frames.sum()))


def mean_steps(
    groups: GroupSums, everything: NDArray[np.unsignedinteger[Any]], frames: int
) -> NDArray[np.uint16]:
    """Return the mean of each group in steps of 1/256 byte.

    Args:
        groups: The groups.
        everything: One sum over all frames, what a group without a frame takes the mean of.
        frames: How many it is the sum of.
    """
    steps = np.empty(groups.sums.shape, np.uint16)
    for group, count in enumerate(groups.frames):
        sums, over = (groups.sums[group], int(count)) if count else (everything, frames)
        steps[group] = (sums.astype(np.uint64) * STEPS_PER_BYTE + over // 2) // over
    return steps


def fit_sums(
    store: Store,
    days: Sequence[str],
    grouping: Grouping,
    *,
    workers: int = 2,
    cluster: str | None = None,
) -> GroupSums:
    """Add up the frames of some days by group, `workers` days in memory at a time.

    On a cluster, by its address, days are added up there, and their sums here.

    Raises:
        StoreError: There are no days.
    """
    if not days:
        raise StoreError(f"{store.root}: {store.city.name} has no days to fit a climatology on")
    total = GroupSums(
        np.zeros((GROUPS[grouping], *store.edition.frame_shape), np.uint32),
        np.zeros(GROUPS[grouping], np.int64),
    )
    jobs = [(store, day, grouping) for day in days]
    for groups, day in in_order(day_sums, jobs, workers=workers, cluster=cluster):
        np.add.at(total.frames, groups, day.frames)
        for group, sums in zip(groups, day.sums, strict=True):
            total.sums[group] += sums
    return total


def day_sums(store: Store, day: str, grouping: Grouping) -> tuple[NDArray[np.int64], GroupSums]:
    """Add up one day: the groups it touches, in order, and their sums."""
    labels = group_of(store.edition, store.city, day, grouping)
    groups, counts = np.unique(labels, return_counts=True)
    sums = np.zeros((len(groups), *store.edition.frame_shape), np.uint32)
    edges = [0, *(np.flatnonzero(np.diff(labels)) + 1).tolist(), len(labels)]
    for start, stop in pairwise(edges):
        place = int(np.searchsorted(groups, labels[start]))
        sums[place] += store.read(day, start, stop).sum(axis=0, dtype=np.uint32)
    return groups, GroupSums(sums, counts.astype(np.int64))


def fit_climatology(
    store: Store, days: Sequence[str], *, grouping: Grouping | None = None, workers: int = 2
) -> Climatology:
    """Return the climatology of some days; the grouping is chosen by their number if not given."""
    grouping = grouping or choose_grouping(store.edition, days)
    sums = fit_sums(store, days, grouping, workers=workers)
    return Climatology(store.edition, store.city, grouping, tuple(days), sums.mean())
