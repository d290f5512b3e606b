"""Cells that a vehicle crossed between two fixes.

A step is taken as a straight line at a steady pace. Every cell that it enters, but those of its two
ends, gets one mark, of the speed and heading that its last fix has. The mark falls into the frame
of the moment at which the vehicle was half way through the cell; what came before midnight goes
into the first frame of the day that the step ends in.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.editions import Edition
from pipeline.grid import Grid
from pipeline.probes.cells import Marks
from pipeline.probes.days import SECOND, wall_clock
from pipeline.probes.fixes import Fixes
from pipeline.probes.judging import Judged
from pipeline.probes.settings import zone
from pipeline.probes.steps import Steps

SLIVER = 1e-9
"""A line through the corner of a cell stays in it for no more than this share of the step."""
CROSSINGS = 2**18
"""About so many grid lines are looked at in one go, to bound memory."""

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


def fill(
    fixes: Fixes, steps: Steps, judged: Judged, grid: Grid, edition: Edition, day: int
) -> Marks:
    """Return a mark for every cell that is crossed, in the order of the fixes.

    Args:
        fixes: A day's, sorted by vehicle and time.
        steps: The step that ends at each.
        judged: What became of them.
        grid: The cells.
        edition: Its clock and bins.
        day: Counted from 1970-01-01.
    """
    clock = zone(edition.clock(grid.city))
    start, end = _ends(steps.previous, grid), _ends(fixes, grid)
    skips = np.abs(start[0] - end[0]) + np.abs(start[1] - end[1]) > 1
    parts = [Marks.none()]
    for step, share in _stretches(np.flatnonzero(judged.crossed & skips), steps, grid):
        row, column, crossed = grid.cells(
            steps.previous["latitude"][step] + share * steps.north[step],
            steps.previous["longitude"][step] + share * steps.east[step],
        )
        for ends in (start, end):
            crossed &= (row != ends[0][step]) | (column != ends[1][step])
        step, share, row, column = step[crossed], share[crossed], row[crossed], column[crossed]
        seconds = np.rint(share * steps.seconds[step] * SECOND).astype(np.int64)
        on, minute = wall_clock(steps.previous["time"][step] + seconds, clock)
        frame = np.where(on < day, 0, minute // edition.bin_minutes)
        parts.append(Marks(frame, row, column, judged.kmh[step], judged.quadrant[step]))
    return Marks.joined(parts)


def _ends(fixes: Fixes, grid: Grid) -> tuple[Integers, Integers]:
    row, column, _ = grid.cells(fixes["latitude"], fixes["longitude"])
    return row, column


def _stretches(of: Integers, steps: Steps, grid: Grid) -> Iterator[tuple[Integers, Floats]]:
    """Yield, for the stretches that grid lines cut steps into, the step and where its middle is.

    Where is a share of the step, from 0 at its start to 1 at its end.
    """
    box = grid.city
    axes = (
        _Axis.of(
            _lines(box.lat_min, box.lat_max, len(grid.latitudes())),
            steps.previous["latitude"][of],
            steps.north[of],
        ),
        _Axis.of(
            _lines(box.lon_min, box.lon_max, len(grid.longitudes())),
            steps.previous["longitude"][of],
            steps.east[of],
        ),
    )
    if not of.size:
        return
    crossings = np.cumsum(axes[0].count + axes[1].count)
    cuts = np.searchsorted(crossings, np.arange(CROSSINGS, crossings[-1], CROSSINGS))
    for some in np.split(np.arange(of.size), cuts):
        if not some.size:
            continue
        crossed = [axis.crossed(some) for axis in axes]
        step = np.concatenate([some, some, *(step for step, _ in crossed)])
        share = np.concatenate(
            [np.zeros(some.size), np.ones(some.size), *(share for _, share in crossed)]
        )
        order = np.argsort(step - some[0] + share / 2)  # by step, then by share
        step, share = step[order], share[order]
        length = np.diff(share)
        whole = (step[1:] == step[:-1]) & (length > SLIVER)
        yield of[step[1:][whole]], (share[1:] - length / 2)[whole]


@dataclass(frozen=True, slots=True)
class _Axis:
    """Where steps `(N,)` cross the grid's lines of latitude, or of longitude.

    Attributes:
        lines: Degrees, rising.
        start: Where the steps start, degrees.
        way: How far they go.
        first: First line that each crosses.
        count: How many.
    """

    lines: Floats
    start: Floats
    way: Floats
    first: Integers
    count: Integers

    @classmethod
    def of(cls, lines: Floats, start: Floats, way: Floats) -> _Axis:
        end = start + way
        first = np.searchsorted(lines, np.minimum(start, end), "left")
        count = np.searchsorted(lines, np.maximum(start, end), "right") - first
        return cls(lines, start, way, first, np.where(way != 0, count, 0))

    def crossed(self, some: Integers) -> tuple[Integers, Floats]:
        """Return each crossing's step, and where on its way it is, from 0 to 1."""
        count = self.count[some]
        step = np.repeat(some, count)
        nth = np.arange(step.size) - np.repeat(np.cumsum(count) - count, count)
        share = (self.lines[self.first[step] + nth] - self.start[step]) / self.way[step]
        return step, np.clip(share, 0, 1)


def _lines(low: float, high: float, cells: int) -> Floats:
    return low + np.arange(cells + 1, dtype=np.float64) * ((high - low) / cells)
