"""Outputs appear whole, or not at all."""

from __future__ import annotations

import errno
import glob
import json
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pipeline.errors import OutputError

STALE_SECONDS = 24 * 3600
REASONS = {
    errno.ENOSPC: "no space left on its disk",
    errno.EDQUOT: "no space left in its owner's quota",
    errno.EFBIG: "larger than a file may be here",
    errno.EROFS: "its disk is read-only",
    errno.EACCES: "its folder may not be written",
    errno.EPERM: "its folder may not be written",
    errno.ENOTDIR: "a part of its path is no folder",
    errno.EEXIST: "a part of its path is no folder",
}
"""What keeps a file from being written, by the system's numbers; all else speaks for itself."""
_writing: set[Path] = set()


@contextmanager
def whole_file(target: Path) -> Iterator[Path]:
    """Yield a path beside `target` to write to; on success it becomes `target`.

    The file is flushed to disk, then renamed over `target`, then the folder is flushed: a reader
    sees the old file or the new one, after a crash too. On an exception nothing is left. What a
    killed process left of an earlier try is swept away; every process writes under a name of its
    own, so one that outlives its parent cannot spoil the next run's file.

    Args:
        target: Where the finished file goes; missing folders are made.

    Yields:
        `<target>.<host>-<process>.partial`, in the same folder.

    Raises:
        OutputError: The disk is full or read-only, or the like; nothing is left half-written.
    """
    with naming_faults(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        sweep(target.parent, target.name)
    partial = target.with_name(f"{target.name}.{_host()}-{os.getpid()}.partial")
    _writing.add(partial)
    try:
        with naming_faults(target):
            yield partial
            _flush(partial)
            partial.replace(target)
            _flush(target.parent)
    except BaseException:
        with suppress(OSError):  # of a folder that is read-only, say: the first fault is the one
            partial.unlink(missing_ok=True)
        raise
    finally:
        _writing.discard(partial)


@contextmanager
def naming_faults(target: Path) -> Iterator[None]:
    """Say of a fault of the disk, inside a `with`, which file it kept from being written.

    A fault that names a file of its own, elsewhere, such as a source that is gone, is not meant.

    Raises:
        OutputError: What the system said is one of `REASONS`.
    """
    try:
        yield
    except OutputError:
        raise
    except OSError as fault:
        if fault.errno not in REASONS or not _concerns(fault.filename, target):
            raise
        raise OutputError(
            f"{target}: cannot be written: {REASONS[fault.errno]}{_room(target)}; mend that and "
            "run again, nothing is left half-written"
        ) from fault


def sweep(folder: Path, name: str = "", *, alone: bool = False) -> None:
    """Remove what dead processes left half-written in a folder, of all files or of one `name`.

    Dead are those of this machine that run no more, whatever the clock says, and those of other
    machines that wrote nothing for a day.

    Args:
        folder: Where; it need not be there.
        name: Of the file that would have been; any, if not given.
        alone: No other run can be writing here, so all are dead.
    """
    here, long_ago = _host(), time.time() - STALE_SECONDS
    for partial in folder.glob(f"{glob.escape(name) or '*'}.*.partial"):
        host, _, process = partial.name.split(".")[-2].rpartition("-")
        ours = host == here and process.isdecimal()
        with suppress(FileNotFoundError):
            if partial in _writing:
                continue
            if alone or (not _alive(int(process)) if ours else partial.stat().st_mtime < long_ago):
                partial.unlink()


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Yield a folder for what is needed for a moment; what killed processes left goes first."""
    host, process = _host(), os.getpid()
    for left in Path(tempfile.gettempdir()).glob(f"t4c-{glob.escape(host)}-*-*"):
        number = left.name.removeprefix(f"t4c-{host}-").partition("-")[0]
        if number.isdecimal() and int(number) != process and not _alive(int(number)):
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f"t4c-{host}-{process}-") as folder:
        yield Path(folder)


def write_text(target: Path, text: str) -> Path:
    """Write a text file whole; return its path."""
    with whole_file(target) as partial:
        partial.write_text(text, encoding="utf-8")
    return target


def write_json(target: Path, value: Any) -> Path:
    """Write JSON whole, indented and in the order given; return its path."""
    return write_text(target, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def _concerns(named: object, target: Path) -> bool:
    """Return whether a file that a fault names, if any, is the target's, or a folder above it."""
    if not isinstance(named, str):
        return True
    return Path(named).parent == target.parent or target.is_relative_to(named)


def _room(target: Path) -> str:
    """Return how much room there is where a file was to go, if anything can say so."""
    folder = next((parent for parent in target.parents if parent.exists()), None)
    if folder is None:
        return ""
    with suppress(OSError):
        return f" ({shutil.disk_usage(folder).free / 1e6:.1f} MB free)"
    return ""


def _host() -> str:
    return socket.gethostname().replace(".", "_")


def _alive(process: int) -> bool:
    """Return whether a process of this machine runs; of itself, it writes what it knows of."""
    if process == os.getpid():
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:  # what nobody has buried yet still answers
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state not in "ZX"


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
