"""Boxes between pictures of different sizes: cut at the edge, scaled, mirrored.

Boxes are `(N, 4)` float64: left, top, right and bottom, in pixels of a picture, whose own edges lie
at 0 and at its width or height.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pipeline.kitti.labels import Box, KittiObject
from pipeline.kitti.rules import areas

Boxes = NDArray[np.float64]
Size = tuple[int, int]
"""Rows and columns."""
KEPT = 0.5
"""Share of a labelled box that a cut picture must still show for the object to be one."""


def as_boxes(objects: Sequence[KittiObject]) -> Boxes:
    """Return the boxes of objects, `(N, 4)`."""
    return np.array([one.box for one in objects], np.float64).reshape(-1, 4)


def scaled(boxes: Boxes, before: Size, after: Size) -> Boxes:
    """Return where boxes are once the whole picture is resized; the way back has sizes swapped."""
    down, across = after[0] / before[0], after[1] / before[1]
    return np.asarray(boxes * np.array([across, down, across, down]))


def mirrored(boxes: Boxes, width: float) -> Boxes:
    """Return where boxes are in the picture's mirror image, left for right; undoes itself."""
    return np.stack(
        (width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]), axis=1
    ).reshape(-1, 4)


def clipped(boxes: Boxes, size: Size) -> Boxes:
    """Return the parts of boxes inside a picture; of one outside it an edge or a corner is left."""
    height, width = size
    return np.stack(
        (
            np.clip(boxes[:, 0], 0, width),
            np.clip(boxes[:, 1], 0, height),
            np.clip(boxes[:, 2], 0, width),
            np.clip(boxes[:, 3], 0, height),
        ),
        axis=1,
    ).reshape(-1, 4)


def cut_labels(labels: Sequence[KittiObject], size: Size) -> list[KittiObject]:
    """Return labels as they hold for a picture that may be a part of the labelled one.

    A box is clipped to the picture. What is cut off counts as truncated: of the object's visible
    share `1 - truncated` the same share is left as of its box. Where less than `KEPT` of a box is
    left the object becomes a DontCare, since nobody can say whether it is still to be seen there;
    where nothing is left it goes.

    Args:
        labels: In pixels of the whole picture, whose upper left corner is this one's too.
        size: Rows and columns of this picture.
    """
    left_over = []
    boxes = as_boxes(labels)
    inside = clipped(boxes, size)
    for one, box, share in zip(labels, inside, areas(inside) / areas(boxes), strict=True):
        if share <= 0:
            continue
        if share == 1:
            left_over.append(one)
            continue
        left, top, right, bottom = map(float, box)
        cut: Box = left, top, right, bottom
        if one.kind.lower() == "dontcare" or share < KEPT:
            left_over.append(KittiObject("DontCare", cut))
        else:
            gone = 1 - (1 - max(one.truncated, 0.0)) * float(share)
            left_over.append(replace(one, box=cut, truncated=round(gone, 4)))
    return left_over
