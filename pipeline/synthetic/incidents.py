"""The ninth channel of 2020: incidents, a few levels at a few places for a while."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LEVELS = (50, 100, 150, 200, 255)
"""Levels seen in the real data of Istanbul; other cities add some between."""
MINUTES = (20, 180)
"""How long an incident lasts."""
PER_THOUSAND_CELLS = 0.5
"""Incidents of a day for each thousand cells with traffic."""


def add_incidents(
    frames: NDArray[np.uint8],
    channel: int,
    cells: NDArray[np.int32],
    rng: np.random.Generator,
) -> None:
    """Draw the incidents of a day into a channel of its frames `(T, H, W, C)`.

    Args:
        frames: A day; its channel of incidents is filled.
        channel: Which that is.
        cells: Row times width plus column of every sighting of the day: incidents are on roads.
        rng: Chance.
    """
    count, _, width, _ = frames.shape
    roads = np.unique(cells)
    if not len(roads):
        return
    per_minute = count / (24 * 60)
    for cell in rng.choice(roads, rng.poisson(1 + PER_THOUSAND_CELLS * len(roads) / 1000)):
        start = int(rng.integers(0, count))
        stop = start + max(1, round(rng.uniform(*MINUTES) * per_minute))
        level = LEVELS[rng.integers(len(LEVELS))]
        row, column = divmod(int(cell), width)
        block = frames[start:stop, row, column, channel]
        np.maximum(block, level, out=block)
