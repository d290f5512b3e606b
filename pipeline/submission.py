"""Leaderboard submissions: written streaming, resumed after a kill, checked without mercy."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.archive import Expected, member_file, name_faults, write_zip
from pipeline.atomic import sweep, whole_file
from pipeline.editions import City, Edition
from pipeline.errors import PipelineError, SubmissionError
from pipeline.forecasters import Forecaster
from pipeline.heatmaps import open_frames, write_frames
from pipeline.layout import to_heatmap, to_model
from pipeline.quarantine import fan_out
from pipeline.store import Store
from pipeline.windows import slot_windows


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


def member_name(edition: Edition, city: City, day: str) -> str:
    """Return the name of a test day's forecast in a submission."""
    return edition.layout.submission.format(city=city.name, day=day)


def expected_members(
    edition: Edition, test_days: Mapping[str, list[str]]
) -> dict[str, tuple[int, ...]]:
    """Return the members of a submission and their shapes, from the test days of each city.

    Raises:
        SubmissionError: There is not one test day.
    """
    members: dict[str, tuple[int, ...]] = {}
    for name, days in test_days.items():
        city = edition.city(name)
        members |= {member_name(edition, city, day): edition.forecast_shape(city) for day in days}
    if not members:
        raise SubmissionError(f"{edition.name}: no test days of {sorted(test_days)}")
    return members


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
    """Forecast every test day and write the zip; one city-day is in memory at a time.

    Finished members wait in a folder beside the zip, named by a digest of all that shapes them, so
    that a killed run goes on where it was and never with another model's files. The same inputs
    give the same bytes.

    Args:
        target: The zip.
        stores: A store for every city, with its test days.
        forecaster: What forecasts a city.
        identity: What tells this forecaster from any other, its fitted values included.
        history: Frames it sees.
        gzip: Compression level of the members, 0 to 9.
        progress: Told each member as it is there.

    Raises:
        SubmissionError: There are no test days.
        WindowError: Test days give less history than the forecaster wants.
    """
    edition = stores[0].edition
    days = {store.city.name: store.days("test") for store in stores}
    expected_members(edition, days)
    parts = target.with_name(f"{target.stem}.{_digest(stores, identity, history, gzip)}.parts")
    for stale in target.parent.glob(f"{target.stem}.*.parts"):
        if stale != parts:
            shutil.rmtree(stale)
    members, resumed = {}, 0
    for store in stores:
        model = forecaster(store.city)
        for day in days[store.city.name]:
            name = member_name(edition, store.city, day)
            members[name] = parts / name
            if members[name].exists():
                resumed += 1
            else:
                write_frames(members[name], forecast_day(store, model, day, history), gzip=gzip)
            if progress is not None:
                progress(name)
    with whole_file(target) as partial:
        write_zip(partial, members)
        with partial.open("rb") as file:
            checksum = hashlib.file_digest(file, "sha256").hexdigest()
    shutil.rmtree(parts)
    sweep(target.parent, target.name)
    return Submission(target, checksum, len(members), target.stat().st_size, resumed)


def forecast_day(store: Store, model: Forecaster, day: str, history: int) -> NDArray[np.uint8]:
    """Return the forecasts of a test day, `(S, L, H, W, C)` uint8, slot by slot."""
    frames = []
    for window in slot_windows(store.edition, store.city, day, history=history):
        seen = to_model(store.read(day, window.start, window.split)[None])
        frames.append(to_heatmap(model.forecast(seen, [window]))[0])
    return np.stack(frames)[..., : store.edition.forecast_channels]


def check_submission(path: Path, expected: Expected, *, workers: int = 2) -> list[str]:
    """Return every fault of a submission, a line each; an empty list is a submission to send.

    Held against the competition's rules and beyond them: the members are exactly those expected,
    safely named; each can be unpacked and is an HDF5 file with `array` and nothing else, uint8, of
    the exact shape, all of it readable.
    """
    faults = name_faults(path, expected)
    if len(faults) == 1 and ("no such" in faults[0] or "not a readable zip" in faults[0]):
        return faults
    jobs = [Member(path, name, shape) for name, shape in sorted(expected.items())]
    missing = {fault.removeprefix(f"{path}: missing ") for fault in faults}

    def done(job: Member, outcome: PipelineError | OSError | None) -> None:
        if outcome is not None:
            faults.append(f"{path}: {job.name}: {_plain(str(outcome), path)}")

    jobs = [job for job in jobs if job.name not in missing]
    fan_out(read_member, jobs, done, workers=workers)
    return sorted(faults)


@dataclass(frozen=True, slots=True)
class Member:
    """A member of a submission, to be read by a process that may die of it."""

    path: Path
    name: str
    shape: tuple[int, ...]


def read_member(member: Member) -> None:
    """Read a member to its end.

    Raises:
        PipelineError: Anything is wrong with it.
    """
    with (
        member_file(member.path, member.name, member.shape) as file,
        open_frames(file, member.shape, strict=True) as frames,
    ):
        for _ in frames.slabs():
            pass


def _plain(message: str, path: Path) -> str:
    """Drop where a member was unpacked for the occasion."""
    head, _, tail = message.partition(": ")
    return tail if head.endswith(".h5") or head == str(path) else message


def _digest(stores: list[Store], identity: str, history: int, gzip: int) -> str:
    facts = [identity, history, gzip, stores[0].edition.name] + [
        [store.city.name, stored.day, stored.source_sha256]
        for store in stores
        for stored in store.manifest.days
        if stored.split == "test"
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
