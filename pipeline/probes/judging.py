"""Which fixes count, and why the others do not."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.probes.days import SECOND
from pipeline.probes.fixes import Fixes
from pipeline.probes.report import Reason
from pipeline.probes.settings import Rasterising
from pipeline.probes.steps import Steps, quadrant_at


@dataclass(frozen=True, slots=True)
class Judged:
    """A day's fixes, judged. All arrays are `(N,)`.

    Attributes:
        used: Whether a fix counts.
        kmh: Its speed.
        quadrant: Its heading.
        crossed: Whether its step is one that the vehicle can have made: cells between its ends may
            be filled. It may lead out of the grid.
        dropped: Fixes that do not count, by reason.
    """

    used: NDArray[np.bool_]
    kmh: NDArray[np.float64]
    quadrant: NDArray[np.int64]
    crossed: NDArray[np.bool_]
    dropped: Counter[Reason]


def judge(fixes: Fixes, steps: Steps, inside: NDArray[np.bool_], settings: Rasterising) -> Judged:
    """Judge a day's fixes by the first reason that speaks against each.

    Args:
        fixes: Sorted by vehicle and time.
        steps: The step that ends at each.
        inside: Whether each is on the grid.
        settings: The limits.
    """
    clocked, headed = ~np.isnan(fixes["speed"]), ~np.isnan(fixes["heading"])
    needs_step = ~(clocked & headed)
    same_second = steps.there & (fixes["time"] // SECOND == steps.previous["time"] // SECOND)
    longest = np.inf if settings.max_step_seconds is None else settings.max_step_seconds
    fastest = np.inf if settings.max_speed_kmh is None else settings.max_speed_kmh
    long, jump, fast = (
        steps.seconds > longest,
        steps.kmh >= fastest,
        fixes["speed"] >= fastest,  # never so where it was not measured
    )
    crossed = steps.there & ~same_second & ~long & ~jump & ~fast
    quadrant, heading_known = steps.quadrant, np.ones(len(fixes), bool)
    if settings.standing == "last_heading":
        quadrant, heading_known = _kept_headings(fixes, steps, crossed)
    against = {
        Reason.COPY: _copies(fixes, steps),
        Reason.FIRST: needs_step & ~steps.there,
        Reason.SAME_SECOND: same_second,
        Reason.TOO_LONG: needs_step & long,
        Reason.TOO_FAST: fast | (needs_step & jump),
        Reason.NO_HEADING: ~headed & ~heading_known,
        Reason.OUTSIDE_GRID: ~inside,
    }
    used, dropped = np.ones(len(fixes), bool), Counter[Reason]()
    for reason, holds in against.items():
        dropped[reason] = int((used & holds).sum())
        used &= ~holds
    kmh = np.where(clocked, fixes["speed"], steps.kmh)
    quadrant = np.where(headed, quadrant_at(fixes["heading"]), quadrant)
    return Judged(used, kmh, quadrant, crossed, dropped)


def _kept_headings(
    fixes: Fixes, steps: Steps, counts: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return headings of which a vehicle that stands keeps its last, and where there is one."""
    moves = (steps.north != 0) | (steps.east != 0)
    at = np.arange(len(fixes))
    first = np.append(True, fixes["vehicle"][1:] != fixes["vehicle"][:-1])
    begins = np.maximum.accumulate(np.where(first[: len(at)], at, 0))
    last = np.maximum.accumulate(np.where(moves & counts, at, -1))
    known = last >= begins
    kept = steps.quadrant[np.where(known, last, 0)]
    return np.where(moves, steps.quadrant, kept), moves | known


def _copies(fixes: Fixes, steps: Steps) -> NDArray[np.bool_]:
    """Return which fixes are the previous one over again, bit by bit."""
    size = fixes.dtype.itemsize // 8
    ours, theirs = (rows.view(np.uint64).reshape(-1, size) for rows in (fixes, steps.previous))
    copies: NDArray[np.bool_] = steps.there & (ours == theirs).all(axis=1)
    return copies
