"""Frames as pictures of 256 fixed colours: the same byte has the same colour in every film."""

from __future__ import annotations

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image

Indices = NDArray[np.uint8]
LEVELS = 120
"""Colours of values, and as many of differences."""
PAPER, INK, SOFT = 250, 251, 252


def colours() -> bytes:
    """Return 256 colours, three bytes each: values, differences, and then paper and ink."""
    values = colormaps["inferno"](np.linspace(0, 1, LEVELS))[:, :3]
    signs = colormaps["RdBu_r"](np.linspace(0, 1, LEVELS))[:, :3]
    table = np.zeros((256, 3), np.uint8)
    table[: 2 * LEVELS] = np.rint(np.concatenate([values, signs]) * 255)
    table[PAPER], table[INK], table[SOFT] = 255, 20, 150
    return table.tobytes()


def value_indices(frames: NDArray[np.uint8]) -> Indices:
    """Return the colour of each byte; roots, so that the many small volumes are seen too."""
    share = np.sqrt(frames.astype(np.float32) / 255)
    return np.asarray(np.rint(share * (LEVELS - 1)), np.uint8)


def difference_indices(forecast: NDArray[np.uint8], truth: NDArray[np.uint8]) -> Indices:
    """Return the colour of forecast minus truth: red is too much, blue too little, white none."""
    difference = forecast.astype(np.float32) - truth
    share = np.sign(difference) * np.sqrt(np.abs(difference) / 255)
    return np.asarray(np.rint((share + 1) / 2 * (LEVELS - 1)) + LEVELS, np.uint8)


def as_picture(indices: Indices, zoom: int = 1) -> Image.Image:
    """Return `(H, W)` colours as a picture, each cell `zoom` pixels wide and high."""
    picture = Image.fromarray(np.kron(indices, np.ones((zoom, zoom), np.uint8)), mode="P")
    picture.putpalette(colours())
    return picture
