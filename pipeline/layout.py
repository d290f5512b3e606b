"""The one border for axes, dtype and scale: in, and back out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

WHITE = 255


@dataclass(frozen=True, slots=True)
class Axis:
    """A labelled axis of a day in a store.

    Attributes:
        name: Dimension name.
        values: A number or a word for every place along it.
        attributes: CF attributes, such as `units`.
    """

    name: str
    values: NDArray[Any]
    attributes: dict[str, str]


def to_model(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Turn `(..., H, W, C)` uint8 into `(..., C, H, W)` float32 in [0, 1]."""
    return np.moveaxis(frames, -1, -3).astype(np.float32) / np.float32(WHITE)


def to_heatmap(frames: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Turn `(..., C, H, W)` floats into `(..., H, W, C)` uint8, the way back.

    Values outside [0, 1] are clipped, then rounded to the nearest byte: a bare cast would wrap the
    first and lose half a byte of the second.

    Raises:
        ValueError: A value is not a number.
    """
    if np.isnan(frames).any():
        raise ValueError(f"{int(np.isnan(frames).sum())} forecast values are not numbers")
    grey = np.rint(np.clip(frames, 0.0, 1.0) * np.float32(WHITE))
    frames_last: NDArray[np.uint8] = np.moveaxis(grey, -3, -1).astype(np.uint8)
    return frames_last
