"""A file of frames of 2019 as one by heading, and back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.errors import HeatmapError
from pipeline.headings import merge_headings, split_headings
from pipeline.heatmaps import open_frames, write_frames


@dataclass(frozen=True, slots=True)
class Conversion:
    """A file to convert, where to, and how hard to pack it."""

    source: Path
    target: Path
    gzip: int = 4


def convert_file(job: Conversion) -> tuple[int, ...]:
    """Write frames `(..., 3)` as `(..., 8)`, or `(..., 8 or 9)` as `(..., 3)`; return their shape.

    Raises:
        HeatmapError: The file cannot be read, or its channels are neither.
    """
    with open_frames(job.source, None) as frames:
        apart = frames.shape[-1] == 3
        converted = np.empty((*frames.shape[:-1], 8 if apart else 3), np.uint8)
        try:
            for start, slab in frames.slabs():
                part = split_headings(slab) if apart else merge_headings(slab)
                converted[start : start + len(slab)] = part
        except ValueError as fault:
            raise HeatmapError(f"{job.source}: {fault}") from None
    write_frames(job.target, converted, gzip=job.gzip)
    return converted.shape
