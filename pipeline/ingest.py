"""A release's days into a store, each once, in parallel, whatever kills the run."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.atomic import sweep
from pipeline.catalog import DayFile, release_days
from pipeline.editions import City, Edition
from pipeline.errors import PipelineError, StoreError
from pipeline.heatmaps import open_frames, store_writer
from pipeline.manifest import (
    ChannelStatistics,
    Manifest,
    StoredDay,
    manifest_path,
    read_manifest,
    write_manifest,
)
from pipeline.quarantine import fan_out
from pipeline.store import day_axes, stored_file


@dataclass(frozen=True, slots=True)
class DayJob:
    """One day to re-chunk: from a release's file into a store."""

    edition: Edition
    city: City
    source: DayFile
    root: Path


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What became of a city's days.

    Attributes:
        city: Its name.
        ingested: Days written in this run.
        kept: Days that were in the store already.
        refused: Message for each day that could not be read.
    """

    city: str
    ingested: tuple[str, ...]
    kept: tuple[str, ...]
    refused: dict[str, str]


def ingest_city(
    release: Path,
    edition: Edition,
    city: City,
    root: Path,
    *,
    workers: int = 2,
    cluster: str | None = None,
    verify: bool = False,
    progress: Callable[[str], None] | None = None,
) -> IngestReport:
    """Bring a store up to date with a release: new and changed days are read, others left alone.

    A day counts as unchanged when its file has the size and time of change that the manifest
    notes, or at least the same checksum. Every finished day is noted at once, so a killed run loses
    only the days in hand. A day whose release file is gone stays in the store.

    Args:
        release: Root of the release.
        edition: What its files promise.
        city: Which city.
        root: Root of the store.
        workers: Reader processes; 0 reads here, without isolation from hostile files.
        cluster: Address of a Dask scheduler to use instead.
        verify: Take no file's word for being unchanged: compare checksums.
        progress: Told each day of the release as it is found unchanged or ends.

    Raises:
        CatalogError: The release has no such city, or misnamed files.
        StoreError: The store belongs to another edition.
    """
    days = release_days(release, edition, city)
    stored = _stored(root, edition, city)
    kept, jobs = {}, []
    for source in days:
        known = stored.get(source.day)
        if known is not None and _unchanged(known, source, root, verify):
            kept[source.day] = known
            if progress is not None:
                progress(source.day)
        else:
            jobs.append(DayJob(edition, city, source, root))
    refused: dict[str, str] = {}
    ingested: list[str] = []

    def done(job: DayJob, outcome: StoredDay | PipelineError | OSError) -> None:
        day = job.source.day
        if isinstance(outcome, StoredDay):
            before = stored.get(day)
            stored[day] = outcome
            write_manifest(root, Manifest.of(edition, city.name, stored.values()))
            if before is not None and before.file != outcome.file:
                (root / before.file).unlink(missing_ok=True)
            ingested.append(day)
        else:
            path = str(job.source.path)
            said = str(outcome)
            refused[day] = said if said.startswith(path) else f"{path}: {said}"
        if progress is not None:
            progress(day)

    for source in days:
        sweep((root / stored_file(city.name, source.split, source.day)).parent)
    fan_out(ingest_day, jobs, done, workers=workers, cluster=cluster)
    if kept != {day: known for day, known in stored.items() if day in kept} or not jobs:
        stored.update(kept)
        write_manifest(root, Manifest.of(edition, city.name, stored.values()))
    return IngestReport(city.name, tuple(sorted(ingested)), tuple(sorted(kept)), refused)


def ingest_day(job: DayJob) -> StoredDay:
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
        checksum = _sha256(source.path)
        after = source.path.stat()
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise StoreError(f"{source.path}: changed while it was read; ingest again")
    return StoredDay(
        split=source.split,
        day=source.day,
        file=file,
        source=str(source.path),
        source_bytes=after.st_size,
        source_mtime_ns=after.st_mtime_ns,
        source_sha256=checksum,
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


def _stored(root: Path, edition: Edition, city: City) -> dict[str, StoredDay]:
    if not manifest_path(root, city.name).exists():
        return {}
    return dict(read_manifest(root, edition, city.name).by_day())


def _unchanged(known: StoredDay, source: DayFile, root: Path, verify: bool) -> bool:
    if known.split != source.split or not (root / known.file).is_file():
        return False
    found = source.path.stat()
    if found.st_size != known.source_bytes:
        return False
    if found.st_mtime_ns == known.source_mtime_ns and not verify:
        return True
    return _sha256(source.path) == known.source_sha256


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
