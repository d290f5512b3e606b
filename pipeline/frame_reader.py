"""An open file of frames: read by rows, each value a byte or a fault with its place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import HeatmapError

SLAB_BYTES = 16 * 1024**2


@dataclass(frozen=True, slots=True)
class FrameReader:
    """An open, checked dataset of frames.

    Attributes:
        path: Its file.
        dataset: `(N, ..., H, W, C)`, uint8 or int16, of h5py.
    """

    path: Path
    dataset: Any

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the dataset."""
        return tuple(self.dataset.shape)

    def read(self, start: int = 0, stop: int | None = None) -> NDArray[np.uint8]:
        """Return rows `start` to `stop` of the first axis as uint8.

        Raises:
            HeatmapError: A chunk cannot be decoded, or a value lies outside 0 to 255.
        """
        stop = self.shape[0] if stop is None else stop
        found = np.empty((stop - start, *self.shape[1:]), self.dataset.dtype)
        try:
            if found.size:
                self.dataset.read_direct(found, np.s_[start:stop])
        except (OSError, RuntimeError, ValueError) as fault:
            raise HeatmapError(f"{self.path}: rows {start} to {stop} unreadable: {fault}") from None
        if found.dtype == np.uint8:
            return found
        low, high = found.min(initial=0), found.max(initial=0)
        if low < 0 or high > 255:
            place = found.argmin() if low < 0 else found.argmax()
            index = np.unravel_index(int(place), found.shape)
            where = (int(index[0]) + start, *map(int, index[1:]))
            raise HeatmapError(
                f"{self.path}: value {found[index]} at {where}, expected bytes from 0 to 255"
            )
        return found.astype(np.uint8)

    def slabs(self) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Yield `(start, rows)` from first to last, each chunk decoded once.

        A slab is as many rows as a chunk is long, or several such up to some 16 MB.
        """
        row = prod(self.shape[1:]) * self.dataset.dtype.itemsize
        step = self.dataset.chunks[0] if self.dataset.chunks else 1
        step *= max(1, SLAB_BYTES // max(1, row * step))
        for start in range(0, self.shape[0], step):
            yield start, self.read(start, min(start + step, self.shape[0]))
