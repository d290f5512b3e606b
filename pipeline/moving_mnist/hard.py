"""The paper's extremely hard sequences: digits overlap through the whole warm-up (figure 3)."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from pipeline.sources.moving_mnist import DrawnSequences


def overlap(layers: NDArray[np.uint8]) -> float:
    """Return how much two digits overlap in the frame where they do so least.

    Of a frame it is the share of the smaller digit's pixels that the other one covers; of more than
    two digits, that of the pair that stays together most.

    Args:
        layers: `(digits, T, H, W)`, each digit alone.

    Returns:
        From 0 (apart in some frame) to 1 (one covers the other in all).
    """
    ink = layers > 0
    sizes = ink.sum((-2, -1))  # (digits, T)
    least = [0.0]
    for one, other in combinations(range(len(layers)), 2):
        shared = (ink[one] & ink[other]).sum((-2, -1))
        smaller = np.maximum(np.minimum(sizes[one], sizes[other]), 1)
        least.append(float((shared / smaller).min()))
    return max(least)


def hardest(source: DrawnSequences, among: int, count: int) -> list[tuple[int, float]]:
    """Return the sequences whose digits overlap most through the warm-up, hardest first.

    Args:
        source: The set, as it is drawn.
        among: Its first so many sequences are searched.
        count: At most so many are returned; none that are apart in some frame.
    """
    found = [
        (index, overlap(source.layers(index)[:, : source.history]))
        for index in range(min(among, len(source)))
    ]
    found.sort(key=lambda pair: (-pair[1], pair[0]))
    return [(index, share) for index, share in found[:count] if share > 0]
