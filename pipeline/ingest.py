"""A release's days into a store, each once, in parallel, whatever kills the run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pipeline.atomic import sweep
from pipeline.catalog import DayFile, release_days
from pipeline.editions import City, Edition
from pipeline.errors import PipelineError
from pipeline.manifest import (
    Manifest,
    StoredDay,
    manifest_path,
    read_manifest,
    write_manifest,
)
from pipeline.quarantine import fan_out
from pipeline.rechunk import DayJob, rechunk_day, sha256, stored_file


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
    fan_out(rechunk_day, jobs, done, workers=workers, cluster=cluster)
    if kept != {day: known for day, known in stored.items() if day in kept} or not jobs:
        stored.update(kept)
        write_manifest(root, Manifest.of(edition, city.name, stored.values()))
    return IngestReport(city.name, tuple(sorted(ingested)), tuple(sorted(kept)), refused)


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
    return sha256(source.path) == known.source_sha256
