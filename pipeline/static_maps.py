"""What does not change in a city: static maps, street maps, masks, whichever way round they lie.

The maps of 2020 were described as `(H, W, 7)`, seen as `(7, H, W)`; those of 2021 are `(9, H, W)`.
The order is told from the shape, and here they are all layers first.
"""

from __future__ import annotations

from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from pipeline.editions import Edition
from pipeline.errors import HeatmapError
from pipeline.heatmaps import open_frames, read_frames

Mask = NDArray[np.bool_]
FINE = 10
"""Cells of a street map along a cell of the grid."""


def read_static(path: Path, edition: Edition) -> NDArray[np.uint8]:
    """Return a static map `(K, H, W)` uint8, its layers named by `edition.static_layers`.

    Raises:
        HeatmapError: The file is no static map of this edition.
    """
    found = _read(path)
    try:
        return layers_first(found, edition)
    except ValueError as fault:
        raise HeatmapError(f"{path}: {fault}") from None


def layers_first(found: NDArray[np.uint8], edition: Edition) -> NDArray[np.uint8]:
    """Return a static map layers first, told from its shape.

    Raises:
        ValueError: It is neither `(K, H, W)` nor `(H, W, K)`.
    """
    layers, size = len(edition.static_layers), (edition.height, edition.width)
    if found.shape == (layers, *size):
        return found
    if found.shape == (*size, layers):
        return np.ascontiguousarray(np.moveaxis(found, -1, 0))
    raise ValueError(
        f"a static map {found.shape}, expected {(layers, *size)} or {(*size, layers)} of "
        f"{edition.name}"
    )


def road_mask(static: NDArray[np.uint8]) -> Mask:
    """Return where there are roads `(H, W, 1)`: layer 0 of a static map is not 0."""
    return np.asarray(static[0] > 0)[..., None]


def read_high_res(path: Path, edition: Edition) -> NDArray[np.uint8]:
    """Return a street map `(10 H, 10 W)` uint8.

    Raises:
        HeatmapError: The file is none.
    """
    return read_frames(path, (FINE * edition.height, FINE * edition.width))


def read_mask(path: Path, edition: Edition) -> Mask:
    """Return a mask that broadcasts to forecasts `(L, H, W, C)`, or is of a whole file.

    A file may hold a static map, whose roads are the mask; cells `(H, W)`; cells of each channel
    `(H, W, C)`; of each heading `(C / 2, H, W)`; or of a whole submission file `(S, L, H, W, C)`.

    Args:
        path: HDF5, or NumPy's `.npz` with one array.
        edition: Whose grid and channels.

    Raises:
        HeatmapError: It is none of these, or masks everything.
    """
    found = _read(path)
    if not found.any():
        raise HeatmapError(f"{path}: a mask without a cell, expected one at least")
    size, channels = (edition.height, edition.width), edition.forecast_channels
    whole = (len(edition.leads), *size, channels)
    if found.shape[1:] == whole:
        return np.minimum(found, 1, out=found).view(np.bool_)
    if found.shape == (*size, channels):
        return found > 0
    if found.shape == size:
        return np.asarray(found > 0)[..., None]
    if channels % 2 == 0 and found.shape == (channels // 2, *size):
        return np.repeat(np.moveaxis(found, 0, -1) > 0, 2, axis=-1)
    try:
        return road_mask(layers_first(found, edition))
    except ValueError:
        raise HeatmapError(
            f"{path}: a mask {found.shape}, expected {size}, {(*size, channels)}, "
            f"{(channels // 2, *size)}, {('slots', *whole)} or a static map"
        ) from None


def _read(path: Path) -> NDArray[np.uint8]:
    if path.suffix != ".npz":
        with open_frames(path, None) as frames:
            return frames.read()
    try:
        with np.load(path, allow_pickle=False) as arrays:
            names = list(arrays)
            if len(names) != 1:
                raise HeatmapError(f"{path}: arrays {names}, expected one")
            found = arrays[names[0]]
    except (OSError, ValueError, BadZipFile, EOFError) as fault:
        raise HeatmapError(f"{path}: not a readable .npz file: {fault}") from None
    if found.dtype not in (np.dtype(np.uint8), np.dtype(np.bool_)):
        raise HeatmapError(f"{path}: type {found.dtype}, expected uint8 or bool")
    return np.asarray(found, np.uint8)
