"""Boxes drawn on pictures, to be looked at: found ones in colour, labelled ones in white."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from pipeline.atomic import whole_file
from pipeline.kitti.boxes import Size, as_boxes, scaled
from pipeline.kitti.labels import KittiObject

COLOURS = {
    "Car": "rgb(0, 230, 118)",
    "Pedestrian": "rgb(255, 82, 82)",
    "Cyclist": "rgb(64, 196, 255)",
}
LABELLED, OTHER, INK, PAPER = "white", "rgb(255, 214, 0)", "black", "white"
GAP, LINE = 4, 16
Scene = tuple[str, NDArray[np.uint8], Size, Sequence[KittiObject], Sequence[KittiObject]]
"""Its name; `(H, W, 3)` pixels to draw on; rows and columns that boxes are in; found; labelled."""


def draw_boxes(path: Path, scenes: Sequence[Scene], kinds: Sequence[str]) -> Path:
    """Draw pictures one below the other, each with what is found in it and what is labelled.

    Args:
        path: The PNG.
        scenes: Of one width.
        kinds: Labels of these are drawn.
    """
    width = max(pixels.shape[1] for _, pixels, *_ in scenes)
    height = sum(pixels.shape[0] + GAP + LINE for _, pixels, *_ in scenes) + LINE + 2 * GAP
    page = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(page)
    font = ImageFont.load_default()
    left = GAP
    for kind in kinds:
        draw.rectangle((left, GAP + 3, left + 9, GAP + 12), fill=COLOURS.get(kind, OTHER))
        draw.text((left + 14, GAP), kind, fill=INK, font=font)
        left += 14 + 8 * len(kind) + 12
    draw.text((left, GAP), "with score; labels thin and white", fill=INK, font=font)
    top = LINE + 2 * GAP
    for name, pixels, whole, found, labels in scenes:
        draw.text((GAP, top + 1), name, fill=INK, font=font)
        page.paste(
            _scene(pixels, whole, found, [o for o in labels if o.kind in kinds]), (0, top + LINE)
        )
        top += pixels.shape[0] + GAP + LINE
    with whole_file(path) as partial:
        page.save(partial, format="png", optimize=True)
    return path


def _scene(
    pixels: NDArray[np.uint8],
    whole: Size,
    found: Sequence[KittiObject],
    labels: Sequence[KittiObject],
) -> Image.Image:
    picture = Image.fromarray(pixels)
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default()
    size = picture.height, picture.width
    for one, box in zip(found, scaled(as_boxes(found), whole, size), strict=True):
        colour = COLOURS.get(one.kind, OTHER)
        draw.rectangle(tuple(box), outline=colour, width=3)
        if one.score is not None:
            draw.text((box[0] + 4, max(box[1] - 12, 0)), f"{one.score:.2f}", fill=colour, font=font)
    for box in scaled(as_boxes(labels), whole, size):
        draw.rectangle(tuple(box), outline=LABELLED, width=1)
    return picture
