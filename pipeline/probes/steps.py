"""From fix to fix of one vehicle: how long, how far, how fast, which way."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.probes.days import SECOND
from pipeline.probes.fixes import FIX, Fixes

QUADRANTS = ("NE", "SE", "SW", "NW")
"""Quadrants from 0, 90, 180 and 270 degrees on, each without its end: due east is SE. Ties between
them fall in this order."""


@dataclass(frozen=True, slots=True)
class Steps:
    """The step that ends at each fix, from the same vehicle's previous fix, whatever became of it.

    Of a vehicle's first fix only `there` means anything. All arrays are `(N,)`.

    Attributes:
        previous: The fix that the step starts from.
        there: Whether there is one.
        seconds: How long it took.
        north: How far, degrees of latitude.
        east: How far, degrees of longitude, the short way round.
        kmh: Its speed; infinite where it took no time.
        quadrant: Its heading, an index of `QUADRANTS`; a step that does not move heads NE, the
            quadrant of bearing 0.
    """

    previous: Fixes
    there: NDArray[np.bool_]
    seconds: NDArray[np.float64]
    north: NDArray[np.float64]
    east: NDArray[np.float64]
    kmh: NDArray[np.float64]
    quadrant: NDArray[np.int64]

    @classmethod
    def between(
        cls, fixes: Fixes, before: Fixes, *, metres_north: float, metres_east: float
    ) -> Steps:
        """Return the steps of a day.

        Args:
            fixes: Its fixes, sorted by vehicle and time.
            before: The last earlier fix of each of its vehicles that has one, sorted by vehicle.
            metres_north: Length of a degree of latitude.
            metres_east: Length of a degree of longitude.
        """
        previous, there = _previous(fixes, before)
        seconds = (fixes["time"] - previous["time"]) / SECOND
        north = fixes["latitude"] - previous["latitude"]
        east = fixes["longitude"] - previous["longitude"]
        east = np.where(np.abs(east) > 180, east - np.copysign(360, east), east)
        metres = np.hypot(north * metres_north, east * metres_east)
        kmh = np.full(len(fixes), np.inf)
        np.divide(metres * 3.6, seconds, out=kmh, where=seconds > 0)
        return cls(previous, there, seconds, north, east, kmh, quadrant_of(north, east))


def quadrant_of(north: NDArray[np.float64], east: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the quadrant that a way heads to, by the signs alone."""
    south_east = (east > 0) & (north <= 0)
    south_west = (north < 0) & (east <= 0)
    north_west = (east < 0) & (north >= 0)
    return np.select([south_east, south_west, north_west], [1, 2, 3], 0)


def quadrant_at(heading: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the quadrant of headings in degrees, from 0 to below 360; 0 where there is none."""
    return np.nan_to_num(heading // 90).astype(np.int64)


def _previous(fixes: Fixes, before: Fixes) -> tuple[Fixes, NDArray[np.bool_]]:
    previous = np.empty(len(fixes), FIX)
    previous[1:] = fixes[:-1]
    there = np.ones(len(fixes), bool)
    firsts = np.flatnonzero(np.append(True, fixes["vehicle"][1:] != fixes["vehicle"][:-1]))
    known = np.isin(fixes["vehicle"][firsts], before["vehicle"], assume_unique=True)
    previous[firsts[known]] = before
    previous[firsts[~known]] = fixes[firsts[~known]]
    there[firsts[~known]] = False
    return previous, there
