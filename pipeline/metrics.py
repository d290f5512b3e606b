"""Squared error, kept as whole numbers until the last division.

Sums over bytes are exact integers, so a table, a map and a leaderboard score that are made of the
same errors agree to the last digit, in whatever order the parts were added.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def squared_error(forecast: NDArray[np.uint8], truth: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Return the squared difference of two arrays of bytes, cell by cell.

    Raises:
        ValueError: Their shapes differ.
    """
    if forecast.shape != truth.shape:
        raise ValueError(f"a forecast of {forecast.shape} for a truth of {truth.shape}")
    difference = forecast.astype(np.int32) - truth
    return difference * difference


def mse(forecast: NDArray[np.uint8], truth: NDArray[np.uint8], scale: float = 255.0) -> float:
    """Leaderboard score of one file: mean squared error over every axis of bytes over `scale`."""
    errors = squared_error(forecast, truth)
    return float(errors.sum(dtype=np.int64)) / errors.size / scale**2


def frame_sse(forecast: NDArray[np.uint8], truth: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Sum the squared error of `(..., H, W, C)` over each channel of each frame: `(..., C)`."""
    sums: NDArray[np.int64] = squared_error(forecast, truth).sum(axis=(-3, -2), dtype=np.int64)
    return sums


def error_map(
    forecast: NDArray[np.uint8], truth: NDArray[np.uint8], scale: float = 255.0
) -> NDArray[np.float64]:
    """Where a city is hard: `(..., H, W, C)` in, the mean over all but the cell `(H, W)` out."""
    errors = squared_error(forecast, truth)
    axes = (*range(errors.ndim - 3), errors.ndim - 1)
    sums = errors.sum(axis=axes, dtype=np.int64)
    return np.asarray(sums / (errors.size / sums.size) / scale**2)


def masked_sums(
    errors: NDArray[np.int32], mask: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Sum squared errors `(..., H, W, C)` where a mask is set, and count where: `(..., C)` each.

    Args:
        errors: As `squared_error` returns them.
        mask: Of the same shape, or one that broadcasts to it.
    """
    wide = np.broadcast_to(mask, errors.shape)
    sums: NDArray[np.int64] = np.where(wide, errors, 0).sum(axis=(-3, -2), dtype=np.int64)
    return sums, wide.sum(axis=(-3, -2), dtype=np.int64)


def seen_mask(truth: NDArray[np.uint8], channels: Sequence[str]) -> NDArray[np.bool_]:
    """Return what the Wiedemann variant counts of `(..., H, W, C)`.

    Volumes count everywhere; a speed counts only where the true volume of its heading is not 0,
    for without a probe there is no speed to be wrong about.

    Raises:
        ValueError: A channel is neither `volume_*` nor `speed_*` with its volume beside it.
    """
    mask = np.ones(truth.shape, np.bool_)
    for place, name in enumerate(channels):
        what, _, way = name.partition("_")
        if what == "speed":
            mask[..., place] = truth[..., list(channels).index(f"volume_{way}")] != 0
        elif what != "volume":
            raise ValueError(f"channel {name!r}: the Wiedemann variant knows volumes and speeds")
    return mask
