"""One day out of a release's file into a store's: the work of one process, with little in tow.

The chunking policy lives here and nowhere else: one frame a chunk. A release file packs blocks of
18 frames by 62 rows by 55 columns by one channel, so that twelve frames cost the decoding of far
more; here they cost twelve chunks.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.catalog import DayFile
from pipeline.editions import City, Edition, Split
from pipeline.errors import StoreError
from pipeline.grid import Grid
from pipeline.heatmaps import Axis, open_frames, store_writer
from pipeline.manifest import ChannelStatistics, StoredDay


@dataclass(frozen=True, slots=True)
class DayJob:
    """One day to re-chunk: from a release's file into a store."""

    edition: Edition
    city: City
    source: DayFile
    root: Path


def stored_file(city: str, split: Split, day: str) -> str:
    """Return where a store keeps a day, relative to its root."""
    return f"{city}/{split}/{day}.nc"


def day_axes(edition: Edition, city: City, day: str) -> list[Axis]:
    """Return the labelled axes `time, y, x, channel` of a day in a store.

    Time is the start of each bin on the edition's clock. `y` and `x` are degrees at the cells'
    centres: latitude along the rows and longitude along the columns, the other way round in a
    rotated city.
    """
    grid = Grid.of(edition, city)
    minutes = np.arange(edition.frames_per_day, dtype=np.int32) * edition.bin_minutes
    since = f"minutes since {edition.day_of(day).isoformat()} 00:00:00"
    north = {"units": "degrees_north", "standard_name": "latitude"}
    east = {"units": "degrees_east", "standard_name": "longitude"}
    y, x = (grid.latitudes(), north), (grid.longitudes(), east)
    if city.rotated:
        y, x = x, y
    return [
        Axis("time", minutes, {"units": since, "calendar": "proleptic_gregorian"}),
        Axis("y", *y),
        Axis("x", *x),
        Axis("channel", np.array(edition.channels), {"long_name": "channel"}),
    ]


def rechunk_day(job: DayJob) -> StoredDay:
    """Re-chunk one day, slab by slab, and return what the manifest notes of it.

    Raises:
        HeatmapError: The release's file is not a day of this edition.
    """
    edition, source = job.edition, job.source
    file = stored_file(source.city, source.split, source.day)
    before = source.path.stat()
    counts = np.zeros((len(edition.channels), 256), np.int64)
    labels = {"edition": edition.name, "city": source.city, "time_zone": edition.time_zone}
    with (
        open_frames(source.path, edition.day_shape) as frames,
        store_writer(job.root / file, day_axes(edition, job.city, source.day), labels) as target,
    ):
        for start, slab in frames.slabs():
            target.write_direct(slab, dest_sel=np.s_[start : start + len(slab)])
            counts += histogram(slab)
        checksum = sha256(source.path)
        after = source.path.stat()
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise StoreError(f"{source.path}: changed while it was read; ingest again")
    stored = job.root / file
    return StoredDay(
        split=source.split,
        day=source.day,
        file=file,
        source=str(source.path),
        source_bytes=after.st_size,
        source_mtime_ns=after.st_mtime_ns,
        source_sha256=checksum,
        stored_bytes=stored.stat().st_size,
        stored_sha256=sha256(stored),
        statistics=dict(zip(edition.channels, map(_statistics, counts), strict=True)),
    )


def histogram(frames: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Count the bytes of contiguous `(..., C)` frames by channel and value: `(C, 256)`.

    Most cells are empty: eight cells at a time are passed over, then single ones.
    """
    channels = frames.shape[-1]
    cells = frames.reshape(-1, channels)
    whole = len(cells) // 8 * 8
    eights = cells[:whole].reshape(-1).view(np.uint64).reshape(-1, channels)
    busy = eights[_any(eights)].view(np.uint8).reshape(-1, channels)
    active = np.concatenate([busy[_any(busy)], cells[whole:]])
    counts = np.stack([np.bincount(channel, minlength=256) for channel in active.T])
    counts[:, 0] += len(cells) - len(active)
    return counts


def _any(rows: NDArray[np.unsignedinteger[Any]]) -> NDArray[np.bool_]:
    """Return which rows of `(N, C)` hold anything; column by column, as C is small."""
    found: NDArray[np.bool_] = rows[:, 0] != 0
    for column in rows.T[1:]:
        found |= column != 0
    return found


def _statistics(counts: NDArray[np.int64]) -> ChannelStatistics:
    total, values = int(counts.sum()), np.arange(256)
    return ChannelStatistics(
        active=float(1 - counts[0] / total),
        mean=float((counts * values).sum() / total),
        mean_square=float((counts * values**2).sum() / total),
        maximum=int(np.flatnonzero(counts).max()),
    )


def sha256(path: Path) -> str:
    """Return the checksum of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
