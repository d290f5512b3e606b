"""Simulate nights of a deployment that goes wrong at random, and see that nothing is lost.

    python bench/nights.py [--nights 200] [--seed 0] [--folder DIR]

Every night a day of a tiny city arrives, and one of another; then `ingest` and `submit` run as a
schedule would run them, in a process of their own. At random (by the seed) that process is killed
(before its n-th file operation, or after a random time), the new day is truncated, or replaced or
taken away while it is read, the disk is full or read-only, two runs start at once, or the clock is
off by more than a year. A run that fails is run again, up to three times, but for nights on which
nobody does. What must hold, is looked at after every attempt and after every night; see `Ledger`.

The disk is a tmpfs of its own where the process may mount one (then it is really full, really
read-only); else a full disk is a limit on the size of files, and a read-only one is played. The
clock is what `pipeline.atomic` asks and what the files of the release bear. Prints one JSON object;
exits 1 with what was found wrong, if anything was.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # no threads before a fork

import argparse
import errno
import hashlib
import json
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import cached_property, partial
from pathlib import Path
from zipfile import ZipFile

import numpy as np

import flows.ensembles  # noqa: F401 - with torch, once, and not in every fork
import pipeline.atomic
import pipeline.rechunk
from flows.config import RunConfig, read_config
from flows.ingest import ingest
from flows.submit import find_faults, submit
from pipeline.catalog import day_path
from pipeline.editions import Edition
from pipeline.errors import PipelineError
from pipeline.heatmaps import write_frames
from pipeline.kept_fits import KEPT
from pipeline.manifest import manifest_path, read_manifest
from pipeline.store import Store

FIRST_DAY = date(2018, 1, 1)
KNOWN_DAYS = 6
MOST_OUT_FILES = 1 + 2 + 3 * 2 * KEPT  # the zip, a mix a city, so many of each other fit
CATALOG = """
nights:
  title: A tiny edition
  height: 11
  width: 7
  channels: [volume, speed, heading]
  bin_minutes: 30
  leads: [0, 1, 2, 4]
  test_history: 9
  headings: {0: none, 1: NW, 85: NE, 170: SW, 255: SE}
  cities:
    Aal: {lat_min: 47.0, lat_max: 47.011, lon_min: 9.0, lon_max: 9.007, test_slots: [14, 30]}
    Bex: {lat_min: 46.0, lat_max: 46.007, lon_min: 7.0, lon_max: 7.011, rotated: true,
          test_slots: [10, 40]}
"""
CONFIG = """
edition: nights
catalog: {root}/catalog.yaml
release: {root}/release
store: {root}/store
out: {root}/out
history: 5
stride: 12
workers: 0
ensembles: {{both: {{members: [mix, window_mean], held_out: 1}}}}
submit: {{model: mix}}
"""
FILE_EVENTS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.utime"}
FAULTS = (
    "killed at an operation",
    "killed at a moment",
    "source truncated",
    "source replaced while read",
    "source gone while read",
    "disk full",
    "disk read-only",
    "two at once",
    "clock jump",
)


@dataclass
class World:
    """A release that grows by a day a night, and what is made of it."""

    root: Path
    mounted: bool = False
    clock: float = 0.0
    nights: int = 0
    truncated: dict[Path, bytes] = field(default_factory=dict)

    @property
    def config(self) -> RunConfig:
        """The run's; every fifth night submits a model that is fitted, every tenth a costly one."""
        model = "window_mean" if self.nights % 5 else "both" if self.nights % 10 == 0 else "mix"
        return self._configs[model]

    @cached_property
    def _configs(self) -> dict[str, RunConfig]:
        path = self.root / "run.yaml"
        models = ("window_mean", "mix", "both")
        return {model: read_config(path, [f"submit.model={model}"]) for model in models}

    @cached_property
    def edition(self) -> Edition:
        return self.config.read_edition()

    def build(self) -> None:
        (self.root / "catalog.yaml").write_text(CATALOG)
        (self.root / "run.yaml").write_text(CONFIG.format(root=self.root))
        (self.root / "tmp").mkdir()
        for number in range(KNOWN_DAYS):
            self.arrive(number, "test" if number % 3 == 2 else "training")

    def arrive(self, number: int, split: str) -> list[Path]:
        """A day of each city is there, dated by the world's clock."""
        day, paths = (FIRST_DAY + timedelta(days=number)).strftime("%Y%m%d"), []
        for place, city in enumerate(self.edition.cities):
            path = day_path(self.root / "release", self.edition, city, split, day)
            self.draw(path, [number, place, 0])
            paths.append(path)
        return paths

    def draw(self, path: Path, seed: list[int]) -> None:
        rng = np.random.default_rng(seed)
        frames = rng.integers(0, 256, (48, 11, 7, 3), np.uint8)
        frames[..., 2] = rng.choice([1, 85, 170, 255], frames.shape[:3])
        write_frames(path, frames * (rng.random((48, 11, 7, 1)) < 0.1), gzip=1)
        os.utime(path, (self.clock, self.clock))


@dataclass(slots=True)
class Ending:
    """How an attempt ended: by a signal, by a named fault, or well."""

    killed: bool
    faults: list[str]
    refused: bool = False
    operations: int = 0
    seconds: float = 0.0


def night_run(world: World) -> list[str]:
    """What a schedule runs; returns the named faults."""
    config = world.config
    found = ingest(config).faults
    return found + submit(config).faults


def attempt(world: World, spoil: Callable[[], None]) -> tuple[int, int, float]:
    """Fork a run that spoils itself; return its process, what it tells by, and when it began."""
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        return child, reading, time.monotonic()
    told: dict[str, object] = {"operations": 0}
    try:
        os.close(reading)
        tempfile.tempdir = str(world.root / "tmp")
        pipeline.atomic.time = _Clock(world.clock)
        _count(told, str(world.root))
        spoil()
        try:
            told["faults"] = night_run(world)
        except (PipelineError, OSError) as fault:
            told["faults"] = [str(fault)]
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    except BaseException:
        told["bug"] = traceback.format_exc()
    with suppress(BaseException):
        os.write(writing, json.dumps(told).encode()[:60000])
    os._exit(0)


def ended(world: World, run: tuple[int, int, float]) -> Ending:
    child, reading, began = run
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        if os.WTERMSIG(status) != signal.SIGKILL:
            raise AssertionError(f"the run died of signal {os.WTERMSIG(status)}")
        return Ending(True, [])
    told = json.loads(said)
    if "bug" in told:
        raise AssertionError(f"no named error:\n{told['bug']}")
    refused = any("another run is at work" in fault for fault in told["faults"])
    seconds = time.monotonic() - began
    return Ending(False, told["faults"], refused, told["operations"], seconds)


class _Clock:
    """What the pipeline takes for `time`: the world's clock, which may be wrong."""

    def __init__(self, now: float) -> None:
        self.offset = now - time.time()

    def time(self) -> float:
        return time.time() + self.offset


def _count(told: dict[str, object], root: str) -> None:
    def heard(event: str, details: tuple[object, ...]) -> None:
        if event in FILE_EVENTS and str(details[0]).startswith(root):
            told["operations"] = int(str(told["operations"])) + 1

    sys.addaudithook(heard)


def before_operation(number: int, root: str, act: Callable[[], None], *, writes: bool) -> None:
    """Do something just before the process's n-th operation on a file, or n-th on one it writes."""
    left = number

    def heard(event: str, details: tuple[object, ...]) -> None:
        nonlocal left
        if event not in FILE_EVENTS or not str(details[0]).startswith(root):
            return
        flags = details[2] if event == "open" and isinstance(details[2], int) else os.O_RDWR
        if writes and not flags & (os.O_WRONLY | os.O_RDWR):
            return
        left -= 1
        if left == 0:
            act()

    sys.addaudithook(heard)


def while_read(path: Path, act: Callable[[], None]) -> None:
    """Do something once, when a source has been read and not yet been summed."""
    whole = pipeline.rechunk.source_checksum

    def meddled(source: pipeline.rechunk.DayFile) -> str:
        if source.path == path:
            pipeline.rechunk.source_checksum = whole
            act()
        return whole(source)

    pipeline.rechunk.source_checksum = meddled


def read_only() -> None:
    raise OSError(errno.EROFS, "Read-only file system", None)


@contextmanager
def full_disk(world: World, rng: random.Random) -> Iterator[Callable[[], None]]:
    """A disk with little room left; yields what to do in the run itself."""
    if not world.mounted:
        room = rng.choice([0, 1000, rng.randrange(60_000)])
        limit = (room, resource.getrlimit(resource.RLIMIT_FSIZE)[1])
        yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        return
    ballast, page = world.root / "release" / ".ballast", 4096
    free = os.statvfs(world.root).f_bavail * page
    ballast.write_bytes(b"x" * max(0, free - page * rng.randrange(1, 24)))
    yield lambda: None
    ballast.unlink()


@contextmanager
def sealed_disk(world: World, rng: random.Random) -> Iterator[Callable[[], None]]:
    if not world.mounted:
        number = rng.randrange(1, 12)
        yield lambda: before_operation(number, str(world.root), read_only, writes=True)
        return
    subprocess.run(["mount", "-o", "remount,ro", world.root], check=True)
    yield lambda: None
    subprocess.run(["mount", "-o", "remount,rw", world.root], check=True)


class Ledger:
    """What must hold, and what was found so far.

    After every attempt, killed ones too: the manifest can be read, every day it lists is there with
    its checksum, no day that it listed before was written again unless its source is another one,
    and the submission is whole: the one of before, or a new one that breaks no rule. After every
    night that ended well, besides: every day that is whole is in the manifest once, with the
    checksum of its source; the store, the outputs and the folder for temporary files hold nothing
    else, no lock and nothing half-written; the outputs do not grow with the nights.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.files: dict[Path, tuple[int, int, str]] = {}
        self.submission = ""
        self.most_out = 0

    def after_attempt(self) -> None:
        config, edition, held = self.world.config, self.world.edition, {}
        for city in edition.cities:
            if not manifest_path(config.store, city.name).exists():
                continue
            listed = read_manifest(config.store, edition, city).days
            assert len({day.day for day in listed}) == len(listed), "a day is listed twice"
            for day in listed:
                path = config.store / day.file
                assert sha256(path) == day.stored_sha256, f"{path} is not as the manifest says"
                state = path.stat()
                held[path] = (state.st_ino, state.st_mtime_ns, day.source_sha256)
                before = self.files.get(path)
                written_again = before is not None and before[:2] != held[path][:2]
                assert not written_again or before[2] != day.source_sha256, f"{path} twice"
        self.files = held
        target = config.out / config.submit.file
        if target.exists() and sha256(target) != self.submission:
            assert find_faults(config, target) == [], "a submission breaks rules"
            with ZipFile(target) as archive:
                assert archive.testzip() is None, "a member is damaged"
            self.submission = sha256(target)

    def after_night(self) -> None:
        config, edition = self.world.config, self.world.edition
        unreadable = [path for path in self.world.truncated if "_test" in path.parent.name]
        faults = [] if unreadable else find_faults(config, config.out / config.submit.file)
        assert faults == [], faults
        expected, size = set(), 0
        for city in edition.cities:
            store = Store.open(config.store, edition, city)
            expected.add(manifest_path(config.store, city.name))
            for day in store.manifest.days:
                expected.add(config.store / day.file)
                size += day.stored_bytes
                assert sha256(Path(day.source)) == day.source_sha256, f"{day.source} is another"
            sources = {Path(day.source) for day in store.manifest.days}
            there = set((config.release / city.name).rglob("*.h5"))
            missing = there - sources - set(self.world.truncated)
            assert not missing, f"not ingested: {missing}"
            assert sources <= there, f"gone: {sources - there}"
        assert files_of(config.store) == expected, files_of(config.store) ^ expected
        assert files_of(self.world.root / "tmp") == set(), "temporary files are left"
        out = files_of(config.out)
        odd = [p.name for p in out if p.suffix in {".partial", ".lock"} or ".parts" in str(p)]
        assert not odd, odd
        assert len(out) <= MOST_OUT_FILES, f"{len(out)} files in {config.out}"
        assert not list((config.release).rglob("*.partial"))
        self.most_out = max(self.most_out, sum(path.stat().st_size for path in out))


def files_of(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if not path.is_dir()}


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@dataclass(slots=True)
class Tally:
    """What became of attempts, by the fault they met."""

    attempts: Counter[str] = field(default_factory=Counter)
    killed: Counter[str] = field(default_factory=Counter)
    named: Counter[str] = field(default_factory=Counter)
    well: Counter[str] = field(default_factory=Counter)
    said: dict[str, str] = field(default_factory=dict)
    last: deque[tuple[str, Ending]] = field(default_factory=lambda: deque(maxlen=5))

    def add(self, fault: str, ending: Ending) -> None:
        self.last.append((fault, ending))
        self.attempts[fault] += 1
        kind = self.killed if ending.killed else self.named if ending.faults else self.well
        kind[fault] += 1
        if ending.faults:
            self.said.setdefault(fault, ending.faults[0])


def one_night(
    world: World, number: int, rng: random.Random, ledger: Ledger, tally: Tally, usual: Ending
) -> tuple[Ending, bool]:
    """A night and its faults; returns its last ending, and whether anybody ran it to the end."""
    world.clock = datetime.combine(FIRST_DAY, datetime.min.time()).timestamp()
    world.clock += (number + 1) * 86400.0 + 9000.0
    for path, data in list(world.truncated.items()):  # what came truncated comes whole
        path.write_bytes(data)
        os.utime(path, (world.clock, world.clock))
        del world.truncated[path]
    split = "test" if number % 25 == 24 else "validation" if number % 10 == 9 else "training"
    fault = rng.choice(FAULTS) if rng.random() < 0.7 else "none"
    if fault == "clock jump":
        world.clock += rng.choice([-400, 400]) * 86400.0
    if split == "test" and fault == "source gone while read":
        fault = "source replaced while read"  # without the test day it is another release
    world.nights = number
    arrived = world.arrive(number, split)
    persists = rng.random() < 0.15  # nobody runs it again tonight
    ending = Ending(False, [])
    for tries in range(4):
        fault = fault if tries < 3 else "none"
        ending = one_attempt(world, fault, arrived, rng, usual, tally, tries)
        ledger.after_attempt()
        waits = fault == "source truncated" and not ending.killed
        if not (ending.killed or ending.faults) or waits:
            break
        if persists:
            return ending, False
        others = [f for f in FAULTS if f not in {"source truncated", "source gone while read"}]
        fault = rng.choice(others) if rng.random() < 0.4 else "none"
    ledger.after_night()
    return ending, True


def one_attempt(
    world: World,
    fault: str,
    arrived: list[Path],
    rng: random.Random,
    usual: Ending,
    tally: Tally,
    tries: int,
) -> Ending:
    root, victim = str(world.root), rng.choice(arrived)
    spoil: Callable[[], None] = lambda: None  # noqa: E731
    place = int(arrived[0].name[:8]) * 10 + tries + 1
    if fault == "killed at an operation":
        number = rng.randrange(1, max(2, usual.operations + 1))

        def spoil() -> None:
            kill = partial(os.kill, os.getpid(), signal.SIGKILL)
            before_operation(number, root, kill, writes=False)

    elif fault == "source truncated":
        world.truncated[victim] = victim.read_bytes()
        victim.write_bytes(world.truncated[victim][: rng.randrange(10, 2000)])
    elif fault == "source replaced while read":
        spoil = lambda: while_read(victim, lambda: world.draw(victim, [place]))  # noqa: E731
    elif fault == "source gone while read":
        data = victim.read_bytes()
        spoil = lambda: while_read(victim, victim.unlink)  # noqa: E731
    if fault in {"disk full", "disk read-only"}:
        make = full_disk if fault == "disk full" else sealed_disk
        with make(world, rng) as spoil:
            ending = ended(world, attempt(world, spoil))
    else:
        run = attempt(world, spoil)
        other = attempt(world, lambda: None) if fault == "two at once" else None
        if fault == "killed at a moment":
            time.sleep(rng.uniform(0, usual.seconds))
            with suppress(ProcessLookupError):
                os.kill(run[0], signal.SIGKILL)
        ending = ended(world, run)
        if other is not None:
            second = ended(world, other)
            tally.add(fault, second)
            for one in (ending, second):
                waits = any("lacks test files" in said for said in one.faults)  # of the other one
                assert not one.faults or one.refused or waits, one.faults
            ending = ending if not ending.faults else second
    if fault == "source gone while read" and not victim.exists():
        victim.write_bytes(data)
        os.utime(victim, (world.clock, world.clock))
    tally.add(fault, ending)
    if fault not in {"none", "clock jump", "two at once"} or ending.killed:
        return ending
    assert not ending.faults or fault == "two at once", f"{fault}: {ending.faults}"
    return ending


def undisturbed(world: World, ledger: Ledger) -> None:
    """The same release, ingested in one calm run into a new store, gives the same files."""
    before = {p.relative_to(world.root): sha256(p) for p in files_of(world.root / "store")}
    zip_before = sha256(world.config.out / world.config.submit.file)
    for name in ("store", "out"):
        (world.root / name).rename(world.root / f"{name}.nights")
    ending = ended(world, attempt(world, lambda: None))
    assert not ending.faults, ending.faults
    after = {p.relative_to(world.root): sha256(p) for p in files_of(world.root / "store")}
    assert before == after, sorted(n for n in before | after if before.get(n) != after.get(n))
    assert zip_before == sha256(world.config.out / world.config.submit.file), "another submission"


def simulate(root: Path, nights: int, seed: int, *, mounted: bool = False) -> dict[str, object]:
    """Run so many nights in an empty folder; raises AssertionError at the first thing amiss."""
    world, rng = World(root, mounted), random.Random(seed)
    world.build()
    ledger, tally = Ledger(world), Tally()
    usual = ended(world, attempt(world, lambda: None))
    assert not usual.faults, usual.faults
    ledger.after_attempt()
    ledger.after_night()
    first_out, left_alone, began = ledger.most_out, 0, time.monotonic()
    for number in range(KNOWN_DAYS, KNOWN_DAYS + nights):
        try:
            ending, whole = one_night(world, number, rng, ledger, tally, usual)
        except BaseException as fault:
            fault.add_note(f"in night {number}, after {tally.last}")
            raise
        if number % 20 == 0:
            print(f"night {number}", file=sys.stderr, flush=True)
        left_alone += not whole
        if whole and ending.operations:
            usual = ending
    for path, data in list(world.truncated.items()):
        path.write_bytes(data)
        del world.truncated[path]
    ending = ended(world, attempt(world, lambda: None))
    assert not ending.faults, ending.faults
    ledger.after_attempt()
    ledger.after_night()
    undisturbed(world, ledger)
    return {
        "nights": nights,
        "seed": seed,
        "disk": "a tmpfs of its own" if mounted else "limits played",
        "days": len(ledger.files),
        "attempts": sum(tally.attempts.values()),
        "nights_left_alone": left_alone,
        "faults": {
            fault: {
                "attempts": tally.attempts[fault],
                "killed": tally.killed[fault],
                "named_error": tally.named[fault],
                "well": tally.well[fault],
            }
            for fault in ("none", *FAULTS)
        },
        "said": {fault: said.replace(str(root), "") for fault, said in tally.said.items()},
        "out_bytes_first": first_out,
        "out_bytes_most": ledger.most_out,
        "seconds": round(time.monotonic() - began, 1),
        "lost": 0,
    }


@contextmanager
def own_disk(folder: Path) -> Iterator[bool]:
    """Mount a tmpfs on a folder, if that may be done."""
    command = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", folder]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        yield False
        return
    try:
        yield True
    finally:
        subprocess.run(["umount", folder], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nights", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="Where to keep what is made; else thrown away.")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the disk is given back
    if options.folder:
        options.folder.mkdir(parents=True)
        print(json.dumps(simulate(options.folder, options.nights, options.seed), indent=1))
        return
    with tempfile.TemporaryDirectory() as name, own_disk(Path(name)) as mounted:
        found = simulate(Path(name), options.nights, options.seed, mounted=mounted)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
