"""Leaderboard submissions: written streaming, resumed after a kill, checked without mercy."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.alone import alone
from pipeline.archive import (
    Expected,
    Member,
    list_members,
    read_member,
    reader_memory,
    weight_faults,
    write_zip,
)
from pipeline.atomic import sweep, whole_file
from pipeline.editions import City
from pipeline.errors import OutputError, PipelineError, SubmissionError
from pipeline.forecasters import Forecaster
from pipeline.heatmaps import row_writer, write_frames
from pipeline.layout import to_heatmap, to_model
from pipeline.members import expected_members, listed_days, member_name
from pipeline.quarantine import fan_out
from pipeline.store import Store


@dataclass(frozen=True, slots=True)
class Submission:
    """A finished submission.

    Attributes:
        path: The zip.
        sha256: Its checksum.
        members: How many files it holds.
        bytes: Its size.
        resumed: How many of its files an earlier, killed run had left.
    """

    path: Path
    sha256: str
    members: int
    bytes: int
    resumed: int


def write_submission(
    target: Path,
    stores: list[Store],
    forecaster: Callable[[City], Forecaster],
    *,
    identity: str,
    history: int,
    gzip: int = 4,
    progress: Callable[[str], None] | None = None,
) -> Submission:
    """Forecast every test day and write the zip; one test file is in memory at a time.

    Where the layout packs by row (2021), it is one slot. Finished members wait in a folder beside
    the zip, named by a digest of all that shapes them, so that a killed run goes on where it was
    and never with another model's files. The same inputs give the same bytes.

    Args:
        target: The zip.
        stores: A store for every city, with its test days.
        forecaster: What forecasts a city.
        identity: What tells this forecaster from any other, its fitted values included.
        history: Frames it sees.
        gzip: Compression level of the members, 0 to 9.
        progress: Told each member as it is there.

    Raises:
        SubmissionError: There are no test days or slots.
        InUseError: Another run is writing the zip.
        OutputError: The disk is full or read-only.
        ChangedError: A day was ingested anew while it was being forecast.
        WindowError: Test days give less history than the forecaster wants.
    """
    if not stores:
        raise SubmissionError(f"{target}: no city of the run has tests")
    edition = stores[0].edition
    days = {store.city.name: _test_days(store) for store in stores}
    expected_members(edition, days)
    parts = target.with_name(f"{target.stem}.{_digest(stores, identity, history, gzip)}.parts")
    lock = target.with_name(f".{target.stem}.lock")  # parts are named by the stem, so is their lock
    with alone(lock, target, "submit"):
        _sweep_parts(target, keep=parts)
        members, resumed = {}, 0
        for store in stores:
            model = forecaster(store.city)
            for day in days[store.city.name]:
                name = member_name(edition, store.city, day)
                members[name] = parts / name
                if members[name].exists():
                    resumed += 1
                else:
                    _write_member(members[name], store, model, day, history, gzip)
                if progress is not None:
                    progress(name)
        for store in stores:
            store.check_unchanged()
        with whole_file(target) as partial:
            write_zip(partial, members)
            with partial.open("rb") as file:
                checksum = hashlib.file_digest(file, "sha256").hexdigest()
        shutil.rmtree(parts)
        sweep(target.parent, target.name)
    return Submission(target, checksum, len(members), target.stat().st_size, resumed)


def forecast_day(store: Store, model: Forecaster, day: str, history: int) -> NDArray[np.uint8]:
    """Return the forecasts of a test day, `(S, L, H, W, C)` uint8, slot by slot."""
    return np.stack(list(forecast_slots(store, model, day, history)))


def forecast_slots(
    store: Store, model: Forecaster, day: str, history: int
) -> Iterator[NDArray[np.uint8]]:
    """Yield the forecast of each slot of a test file, `(L, H, W, C)` uint8, in its order."""
    for place, window in enumerate(store.slot_windows(day, history=history)):
        seen = to_model(store.slot_history(day, place, window)[None])
        frames = to_heatmap(model.forecast(seen, [window]))[0]
        yield frames[..., : store.edition.forecast_channels]


def _test_days(store: Store) -> list[str]:
    """Return the test days of a store.

    Raises:
        SubmissionError: One that the rules list is not there; lists them all.
    """
    found = store.days("test")
    listed = listed_days(store.edition, store.city)
    if missing := [day for day in listed or () if day not in found]:
        raise SubmissionError(
            f"{store.root}: {store.city.name} lacks test files {missing}; `t4c ingest` takes them "
            "from the release"
        )
    return found if listed is None else listed


def _write_member(
    path: Path, store: Store, model: Forecaster, day: str, history: int, gzip: int
) -> None:
    if store.edition.layout.chunks == "auto":
        write_frames(path, forecast_day(store, model, day, history), gzip=gzip)
        return
    shape = store.edition.forecast_shape(store.city, day)
    with row_writer(path, shape, gzip=gzip) as write:
        for place, frames in enumerate(forecast_slots(store, model, day, history)):
            write(place, frames)


def check_submission(
    path: Path, expected: Expected, *, workers: int = 2, most_mib: int | None = None
) -> list[str]:
    """Return every fault of a submission, a line each; an empty list is a submission to send.

    Held against the competition's rules and beyond them: the members are exactly those expected,
    safely named; each can be unpacked and is an HDF5 file with `array` and nothing else, uint8, of
    the exact shape, all of it readable; a zip weighs no more than `most_mib`.
    """
    listing = list_members(path, expected)
    faults = [*weight_faults(path, most_mib), *listing.faults]

    def done(job: Member, outcome: PipelineError | OSError | None) -> None:
        if isinstance(outcome, SubmissionError):
            faults.append(str(outcome))
        elif isinstance(outcome, OutputError):
            raise outcome  # nothing is known of the submission
        elif outcome is not None:
            faults.append(f"{path}: {job.name}: {outcome}")

    jobs = [Member(path, name, expected[name]) for name in sorted(listing.readable)]
    fan_out(read_member, jobs, done, workers=workers, memory=reader_memory(expected))
    return sorted(faults)


def _sweep_parts(target: Path, *, keep: Path) -> None:
    """Remove what runs of other facts left of a target, and of no other target."""
    parts = re.compile(rf"{re.escape(target.stem)}\.[0-9a-f]{{16}}\.parts")
    for folder in target.parent.iterdir():
        if parts.fullmatch(folder.name) and folder != keep:
            shutil.rmtree(folder)


def _digest(stores: list[Store], identity: str, history: int, gzip: int) -> str:
    facts = [identity, history, gzip, repr(stores[0].edition)] + [
        [repr(store.city), stored.day, stored.source_sha256]
        for store in stores
        for stored in store.manifest.days
        if stored.split == "test"
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
