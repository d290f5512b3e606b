"""What a file of frames holds, for a person who was handed one."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path

import numpy as np

from pipeline.heatmaps import open_frames


@dataclass(frozen=True, slots=True)
class Header:
    """What a file of frames says of itself, and what its bytes say."""

    path: Path
    shape: tuple[int, ...]
    dtype: str
    chunks: tuple[int, ...] | None
    compression: str | None
    bytes_on_disk: int
    nonzero: float
    mean: float
    maximum: int

    def facts(self) -> dict[str, str | int | float]:
        """Return the same as plain values."""
        return {
            key: str(v) if isinstance(v, Path | tuple) else v for key, v in asdict(self).items()
        }


def read_header(path: Path) -> Header:
    """Return what a file of frames holds, having read all of it.

    Raises:
        HeatmapError: As `open_frames` and `FrameReader.read` say.
    """
    with open_frames(path, None, own=path.suffix == ".nc") as frames:
        nonzero = total = largest = 0
        for _, slab in frames.slabs():
            nonzero += int(np.count_nonzero(slab))
            total += int(slab.sum(dtype=np.int64))
            largest = max(largest, int(slab.max(initial=0)))
        size, dataset = max(1, prod(frames.shape)), frames.dataset
        return Header(
            path,
            frames.shape,
            str(dataset.dtype),
            dataset.chunks,
            dataset.compression,
            path.stat().st_size,
            nonzero / size,
            total / size,
            largest,
        )
