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
from pipeline.editions import City, Edition, Slot, Split
from pipeline.errors import ChangedError, HeatmapError
from pipeline.grid import Grid
from pipeline.heatmaps import open_frames, store_writer
from pipeline.layout import Axis
from pipeline.manifest import ChannelStatistics, StoredDay
from pipeline.test_slots import read_additional, table_slots


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


def day_axes(edition: Edition, city: City, day: str, slots: tuple[Slot, ...] = ()) -> list[Axis]:
    """Return the labelled axes `time, y, x, channel` of a day in a store.

    Time is the start of each bin on the edition's clock; the axis of a test file of input hours,
    slot after slot, is called `frame` and holds the bin counted from midnight. `y` and `x` are
    degrees at the cells' centres: latitude along the rows and longitude along the columns, the
    other way round in a rotated city.
    """
    grid = Grid.of(edition, city)
    if slots:
        firsts = np.array([slot.first - edition.test_history for slot in slots], np.int32)
        bins = np.add.outer(firsts, np.arange(edition.test_history, dtype=np.int32)).ravel()
        time = Axis("frame", bins, {"long_name": "bin counted from midnight, slot after slot"})
    else:
        minutes = np.arange(edition.frames_per_day, dtype=np.int32) * edition.bin_minutes
        since = f"minutes since {edition.day_of(day).isoformat()} 00:00:00"
        time = Axis("time", minutes, {"units": since, "calendar": "proleptic_gregorian"})
    north = {"units": "degrees_north", "standard_name": "latitude"}
    east = {"units": "degrees_east", "standard_name": "longitude"}
    y, x = (grid.latitudes(), north), (grid.longitudes(), east)
    if city.rotated:
        y, x = x, y
    return [
        time,
        Axis("y", *y),
        Axis("x", *x),
        Axis("channel", np.array(edition.channels), {"long_name": "channel"}),
    ]


def rechunk_day(job: DayJob) -> StoredDay:
    """Re-chunk one day, slab by slab, and return what the manifest notes of it.

    Of a test file of input hours `(S, T, H, W, C)` the store keeps the frames one after another.

    Raises:
        HeatmapError: The release's file is not a day of this edition, or nothing tells its slots.
        ChangedError: It changed or vanished while it was read.
        OutputError: The store's disk is full or read-only.
    """
    edition, source = job.edition, job.source
    file = stored_file(source.city, source.split, source.day)
    before, untouched = fingerprint(source), _identity(source)
    slots = _slots(job)
    shape = edition.test_shape(job.city, source.day) if slots else edition.day_shape
    counts = np.zeros((len(edition.channels), 256), np.int64)
    clock = edition.clock(job.city)
    labels = {"edition": edition.name, "city": source.city, "time_zone": clock}
    axes = day_axes(edition, job.city, source.day, slots)
    with (
        open_frames(source.path, shape) as frames,
        store_writer(job.root / file, axes, labels) as target,
    ):
        per_row = edition.test_history if slots else 1
        for start, slab in frames.slabs():
            flat = slab.reshape(-1, *edition.frame_shape)
            first = start * per_row
            target.write_direct(flat, dest_sel=np.s_[first : first + len(flat)])
            counts += histogram(flat)
        try:
            checksum = source_checksum(source)
            same = untouched == _identity(source)
        except FileNotFoundError as fault:
            raise ChangedError(f"{fault.filename}: vanished while it was read") from None
        if not same:
            raise ChangedError(f"{source.path}: changed while it was read; ingest again")
    stored = job.root / file
    return StoredDay(
        split=source.split,
        day=source.day,
        file=file,
        source=str(source.path),
        source_bytes=before[0],
        source_mtime_ns=before[1],
        source_sha256=checksum,
        stored_bytes=stored.stat().st_size,
        stored_sha256=sha256(stored),
        statistics=dict(zip(edition.channels, map(_statistics, counts), strict=True)),
        slots=slots,
    )


def _slots(job: DayJob) -> tuple[Slot, ...]:
    """Return where a test file of input hours alone was cut; nothing for whole days."""
    edition, source = job.edition, job.source
    if source.split != "test" or edition.layout.test_kind == "blanked":
        return ()
    if source.beside is not None:
        return read_additional(source.beside, edition)
    slots = table_slots(edition, job.city, source.day)
    if not slots:
        raise HeatmapError(f"{source.path}: {edition.layout.slots} tells no slots of this day")
    return slots


def fingerprint(source: DayFile) -> tuple[int, int]:
    """Return sizes and times of change of a release's file and of what stands beside it, summed.

    Raises:
        HeatmapError: One of them is not there.
    """
    missing = [path for path in _files(source) if not path.is_file()]
    if missing:
        raise HeatmapError(f"{missing[0]}: no such file")
    stats = [path.stat() for path in _files(source)]
    return sum(stat.st_size for stat in stats), sum(stat.st_mtime_ns for stat in stats)


def _identity(source: DayFile) -> list[tuple[int, ...]]:
    """Return what no file keeps that is written to or replaced, whatever its size and time say.

    Who sets a file's time back cannot set back `st_ctime`. Device and inode would add nothing, and
    some network and user-space file systems make them up at every look.
    """
    stats = [path.stat() for path in _files(source)]
    return [(s.st_size, s.st_mtime_ns, s.st_ctime_ns) for s in stats]


def source_checksum(source: DayFile) -> str:
    """Return the checksum of a release's file and of what stands beside it."""
    digest = hashlib.sha256()
    for path in _files(source):
        with path.open("rb") as file:
            while piece := file.read(1024**2):
                digest.update(piece)
    return digest.hexdigest()


def _files(source: DayFile) -> list[Path]:
    return [source.path, *([] if source.beside is None else [source.beside])]


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
