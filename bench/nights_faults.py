"""What befalls a run of the nights: faults by name, and how each is brought about."""

from __future__ import annotations

import errno
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from nights_world import World

import pipeline.rechunk

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


@contextmanager
def befall(
    world: World, fault: str, victim: Path, rng: random.Random, *, seed: int, operations: int
) -> Iterator[Callable[[], None]]:
    """Bring a fault about; yields what the run is to do to itself, then mends what may be mended.

    Args:
        world: Where the run is at work.
        fault: One of `FAULTS`, or any other word for none that is brought about here.
        victim: The new day, should it be a source that suffers.
        rng: Says how much and when.
        seed: Of the frames that replace the victim's.
        operations: How many operations on files a run takes.
    """
    if fault == "killed at an operation":
        number = rng.randrange(1, max(2, operations + 1))
        yield lambda: killed_before(number, str(world.root))
    elif fault == "source truncated":
        world.truncated[victim] = victim.read_bytes()
        victim.write_bytes(world.truncated[victim][: rng.randrange(10, 2000)])
        yield nothing
    elif fault == "source replaced while read":
        yield lambda: while_read(victim, lambda: world.draw(victim, [seed]))
    elif fault == "source gone while read":
        data = victim.read_bytes()
        yield lambda: while_read(victim, victim.unlink)
        if not victim.exists():
            victim.write_bytes(data)
            os.utime(victim, (world.clock, world.clock))
    elif fault == "disk full":
        with full_disk(world, rng) as spoil:
            yield spoil
    elif fault == "disk read-only":
        with sealed_disk(world, rng) as spoil:
            yield spoil
    else:
        yield nothing


def nothing() -> None:
    """What a run does to itself that is to end well."""


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


def killed_before(number: int, root: str) -> None:
    """Kill this process just before its n-th operation on a file."""
    kill = partial(os.kill, os.getpid(), signal.SIGKILL)
    before_operation(number, root, kill, writes=False)


def count_operations(told: dict[str, object], root: str) -> None:
    """Keep in `told["operations"]` how many operations on files this process took."""

    def heard(event: str, details: tuple[object, ...]) -> None:
        if event in FILE_EVENTS and str(details[0]).startswith(root):
            told["operations"] = int(str(told["operations"])) + 1

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
    yield nothing
    ballast.unlink()


@contextmanager
def sealed_disk(world: World, rng: random.Random) -> Iterator[Callable[[], None]]:
    if not world.mounted:
        number = rng.randrange(1, 12)
        yield lambda: before_operation(number, str(world.root), read_only, writes=True)
        return
    subprocess.run(["mount", "-o", "remount,ro", world.root], check=True)
    yield nothing
    subprocess.run(["mount", "-o", "remount,rw", world.root], check=True)


class Clock:
    """What the pipeline takes for `time`: the world's clock, which may be wrong."""

    def __init__(self, now: float) -> None:
        self.offset = now - time.time()

    def time(self) -> float:
        return time.time() + self.offset
