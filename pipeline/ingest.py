"""A release's days into a store, each once, in parallel, whatever kills the run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.alone import alone
from pipeline.atomic import sweep, write_text
from pipeline.catalog import DayFile, release_days
from pipeline.editions import SPLITS, UNDATED_TEST, City, Edition
from pipeline.errors import HeatmapError, OutputError, PipelineError
from pipeline.manifest import (
    Manifest,
    StoredDay,
    manifest_path,
    read_manifest,
    write_manifest,
)
from pipeline.quarantine import fan_out
from pipeline.rechunk import (
    DayJob,
    fingerprint,
    rechunk_day,
    sha256,
    source_checksum,
    stored_file,
)
from pipeline.test_slots import table_slots


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What became of a city's days.

    Attributes:
        city: Its name.
        ingested: Days written in this run.
        kept: Days that were in the store already.
        refused: Message for each day that could not be read; where the store had it already, it
            has it still, as it was.
        gone: Days in the store whose release file is not there any more.
        dropped: Days that left the store, as the edition's splits do not want them there.
        unreadable: Refused days whose file could not be read for now: worth another try.
        removed: Files of the store, by path, that were no days of it: the manifest did not list
            them, as where a run was killed between a day's file and its note.
    """

    city: str
    ingested: tuple[str, ...]
    kept: tuple[str, ...]
    refused: dict[str, str]
    gone: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()


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
    notes, or at least the same checksum, and the store's own file its size. Every finished day is
    noted at once, so a killed run loses only the days in hand. A day whose release file is gone
    stays in the store and is named, unless the edition's splits have put it elsewhere since: no day
    that is held out may go on being trained on.

    Args:
        release: Root of the release.
        edition: What its files promise.
        city: Which city.
        root: Root of the store.
        workers: Reader processes; 0 reads here, without isolation from hostile files.
        cluster: Address of a Dask scheduler to use instead.
        verify: Take no file's word for being unchanged: compare checksums, the store's too.
        progress: Told each day of the release as it is found unchanged or ends.

    Raises:
        CatalogError: The release has no such city, or misnamed files.
        StoreError: The store belongs to another edition.
        InUseError: Another run is ingesting the city.
        OutputError: The store's disk is full or read-only; days that were finished stay.
    """
    with alone(root / f".{city.name}.lock", root / city.name, "ingest"):
        return _ingest(release, edition, city, root, workers, cluster, verify, progress)


def _ingest(
    release: Path,
    edition: Edition,
    city: City,
    root: Path,
    workers: int,
    cluster: str | None,
    verify: bool,
    progress: Callable[[str], None] | None,
) -> IngestReport:
    days = release_days(release, edition, city)
    stored = _stored(root, edition, city)
    before, there = dict(stored), {source.day for source in days}
    unwanted = [day for day in stored if day not in there and not _wanted(edition, stored[day])]
    for day in unwanted:
        del stored[day]
    kept: list[str] = []
    jobs: list[DayJob] = []
    for source in days:
        known = _unchanged(stored.get(source.day), source, root, verify)
        if known is not None and edition.layout.test_kind == "blocks" and known.slots:
            moved = known.slots != table_slots(edition, city, source.day)
            known = None if moved else known
        if known is None:
            jobs.append(DayJob(edition, city, source, root))
            continue
        stored[source.day] = known
        kept.append(source.day)
        if progress is not None:
            progress(source.day)
    if stored != before:
        write_manifest(root, Manifest.of(edition, city, stored.values()))
    removed = _tidy(root, city, before, stored)
    ingested: list[str] = []
    refused: dict[str, str] = {}
    unreadable: list[str] = []

    def done(job: DayJob, outcome: StoredDay | PipelineError | OSError) -> None:
        day = job.source.day
        if isinstance(outcome, StoredDay):
            old = stored.get(day)
            stored[day] = outcome
            write_manifest(root, Manifest.of(edition, city, stored.values()))
            if old is not None and old.file != outcome.file:
                (root / old.file).unlink(missing_ok=True)
            ingested.append(day)
        elif isinstance(outcome, OutputError):
            raise outcome  # the next day would find no more room
        else:
            path, said = str(job.source.path), str(outcome)
            kept_as = "; the store keeps the day as it was" if day in stored else ""
            refused[day] = (said if said.startswith(path) else f"{path}: {said}") + kept_as
            if isinstance(outcome, OSError):
                unreadable.append(day)
        if progress is not None:
            progress(day)

    _keep_table(release, edition, root)
    fan_out(rechunk_day, jobs, done, workers=workers, cluster=cluster)
    return IngestReport(
        city.name,
        ingested=tuple(sorted(ingested)),
        kept=tuple(sorted(kept)),
        refused=refused,
        gone=tuple(sorted(set(stored) - there)),
        dropped=tuple(sorted(unwanted)),
        unreadable=tuple(sorted(unreadable)),
        removed=tuple(sorted(map(str, removed))),
    )


def _tidy(
    root: Path, city: City, before: dict[str, StoredDay], stored: dict[str, StoredDay]
) -> list[Path]:
    """Remove what killed runs left half-written, and days that the manifest does not list.

    Where there was no manifest nobody knows what days are; they stay until they are made again.

    Returns:
        Files that the manifest did not list before either; a person's own may be among them.
    """
    sweep(root / city.name, alone=True)
    listed = {root / day.file for day in stored.values()}
    noted = {root / day.file for day in before.values()}
    removed: list[Path] = []
    for split in SPLITS:
        folder = (root / stored_file(city.name, split, "day")).parent
        sweep(folder, alone=True)
        for path in folder.glob("*.nc") if before else ():
            if path not in listed:
                path.unlink(missing_ok=True)
                removed += [] if path in noted else [path]
    return removed


def _keep_table(release: Path, edition: Edition, root: Path) -> None:
    """Copy the table of the slots, so that a release may be put away."""
    if edition.layout.slots is None or not (release / edition.layout.slots).is_file():
        return
    text = (release / edition.layout.slots).read_text(encoding="utf-8")
    kept = root / edition.layout.slots
    if not kept.is_file() or kept.read_text(encoding="utf-8") != text:
        write_text(kept, text)


def _wanted(edition: Edition, stored: StoredDay) -> bool:
    """Return whether the edition's own splits, if it has any, still put a day where it is."""
    layout = edition.layout
    if not edition.splits or stored.day == UNDATED_TEST:
        return True
    if layout.training == layout.validation:
        return stored.split in ("test", edition.split_of(stored.day))
    days = edition.splits.get(stored.split)
    return days is not None and edition.day_of(stored.day) in days


def _stored(root: Path, edition: Edition, city: City) -> dict[str, StoredDay]:
    if not manifest_path(root, city.name).exists():
        return {}
    return dict(read_manifest(root, edition, city).by_day())


def _unchanged(
    known: StoredDay | None, source: DayFile, root: Path, verify: bool
) -> StoredDay | None:
    """Return what the manifest should note of a day that need not be read again, or nothing."""
    if known is None or known.split != source.split:
        return None
    file = root / known.file
    if not file.is_file() or file.stat().st_size != known.stored_bytes:
        return None
    if verify and sha256(file) != known.stored_sha256:
        return None
    try:
        size, changed = fingerprint(source)
    except HeatmapError:  # it is for the reader to say what is missing
        return None
    if size != known.source_bytes:
        return None
    if changed == known.source_mtime_ns and not verify:
        return known
    if source_checksum(source) != known.source_sha256:
        return None
    return replace(known, source_mtime_ns=changed)
