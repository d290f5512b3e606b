"""What KITTI's development kit fixes for detection in 2D: classes, overlaps, difficulties."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

ClassName = Literal["Car", "Pedestrian", "Cyclist"]
DONT_CARE = "dontcare"


@dataclass(frozen=True, slots=True)
class Rule:
    """A class that is evaluated.

    Attributes:
        overlap: A box is found by one whose intersection over union is above this, not at it.
        neighbours: Kinds that are neither wanted nor wrong, in lower case.
    """

    overlap: float
    neighbours: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Difficulty:
    """Which labels must be found; others of the class may be.

    Attributes:
        height: Rows of the smallest box, pixels. Detections below are not counted, whatever their
            class. The kit cuts a detection's height to whole pixels, which for whole limits is one.
        occluded: The highest level.
        truncated: The highest share.
    """

    height: int
    occluded: int
    truncated: float


RULES: dict[ClassName, Rule] = {
    "Car": Rule(0.7, ("van",)),
    "Pedestrian": Rule(0.5, ("person_sitting",)),
    "Cyclist": Rule(0.5),
}
DIFFICULTIES = {
    "easy": Difficulty(40, 0, 0.15),
    "moderate": Difficulty(25, 1, 0.30),
    "hard": Difficulty(25, 2, 0.50),
}


def intersections(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the area that boxes `(N, 4)` and `(M, 4)` share, `(N, M)`; no pixel is added."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    return np.asarray(np.prod(np.maximum(high - low, 0), -1))


def areas(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the areas of boxes `(N, 4)`."""
    return np.asarray((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))


def overlaps(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return intersection over union of boxes `(N, 4)` and `(M, 4)`, `(N, M)`."""
    shared = intersections(a, b)
    return np.asarray(shared / (areas(a)[:, None] + areas(b)[None] - shared))
