"""One image: which detections find which labels, by the development kit's two greedy passes."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipeline.kitti.labels import KittiObject
from pipeline.kitti.rules import DONT_CARE, Difficulty, Rule, areas, intersections, overlaps


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """What of an image counts for a class and a difficulty, labels and detections in file order.

    Attributes:
        near: `(G, D)`, overlaps that are above the class's; 0 elsewhere.
        optional: Of each label, whether it may be found but need not be.
        scores: Of each detection.
        small: Of each detection, whether it is too small to count.
        excused: Of each detection, whether it lies in a DontCare box.
    """

    near: list[list[float]]
    optional: list[bool]
    scores: list[float]
    small: list[bool]
    excused: list[bool]
    _counted: dict[int, tuple[int, int]] = field(default_factory=dict)

    @property
    def wanted(self) -> int:
        """Labels that must be found."""
        return self.optional.count(False)

    def found_scores(self) -> list[float]:
        """Return the scores of true detections, each label taking the surest that finds it."""
        taken, found = [False] * len(self.scores), []
        for row, optional in zip(self.near, self.optional, strict=True):
            best = -1
            for place, near in enumerate(row):
                if near and not taken[place]:
                    best = place if best < 0 or self.scores[place] > self.scores[best] else best
            if best < 0:
                continue
            taken[best] = True
            if not optional and not self.small[best]:
                found.append(self.scores[best])
        return found

    def count(self, threshold: float) -> tuple[int, int]:
        """Return true and false detections among those with at least a score."""
        ordered = sorted(self.scores)
        active = len(ordered) - bisect_left(ordered, threshold)
        if active not in self._counted:  # the same detections, so the same answer
            self._counted[active] = self._count(threshold)
        return self._counted[active]

    def _count(self, threshold: float) -> tuple[int, int]:
        free = [score >= threshold for score in self.scores]
        true = 0
        for row, optional in zip(self.near, self.optional, strict=True):
            best, spare = -1, -1
            for place, near in enumerate(row):
                if not near or not free[place]:
                    continue
                if self.small[place]:
                    spare = place if spare < 0 else spare
                elif best < 0 or near > row[best]:
                    best = place
            taken = best if best >= 0 else spare
            if taken < 0:
                continue
            free[taken] = False
            true += not optional and taken == best
        flags = zip(free, self.small, self.excused, strict=True)
        return true, sum(left and not (small or excused) for left, small, excused in flags)


def scene(
    labels: Sequence[KittiObject],
    detections: Sequence[KittiObject],
    kind: str,
    rule: Rule,
    difficulty: Difficulty,
) -> Scene:
    """Return what of an image counts.

    Args:
        labels: Of the image.
        detections: In the image, each with a score.
        kind: The class.
        rule: Its rule.
        difficulty: Which labels must be found.
    """
    own = kind.lower()
    asked = [one for one in labels if one.kind.lower() in (own, *rule.neighbours)]
    optional = [
        one.kind.lower() != own
        or one.occluded > difficulty.occluded
        or one.truncated > difficulty.truncated
        or one.height < difficulty.height
        for one in asked
    ]
    said = [d for d in detections if d.kind.lower() == own or d.height < difficulty.height]
    boxes, places = _boxes(asked), _boxes(said)
    above = overlaps(boxes, places)
    above[~(above > rule.overlap)] = 0
    left_out = _boxes([one for one in labels if one.kind.lower() == DONT_CARE])
    inside = intersections(places, left_out) / areas(places)[:, None]
    return Scene(
        above.tolist(),
        optional,
        [0.0 if d.score is None else d.score for d in said],
        [d.height < difficulty.height for d in said],
        np.any(inside > rule.overlap, axis=1).tolist(),
    )


def _boxes(objects: Sequence[KittiObject]) -> NDArray[np.float64]:
    return np.array([one.box for one in objects], np.float64).reshape(-1, 4)
