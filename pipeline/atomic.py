"""Outputs appear whole, or not at all."""

from __future__ import annotations

import glob
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

STALE_SECONDS = 24 * 3600


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
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    sweep(target.parent, target.name)
    partial = target.with_name(f"{target.name}.{_host()}-{os.getpid()}.partial")
    try:
        yield partial
        _flush(partial)
        partial.replace(target)
        _flush(target.parent)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def sweep(folder: Path, name: str = "") -> None:
    """Remove what dead processes left half-written in a folder, of all files or of one `name`.

    Dead are those of this machine that run no more, and any that wrote nothing for a day.
    """
    here, long_ago = _host(), time.time() - STALE_SECONDS
    for partial in folder.glob(f"{glob.escape(name) or '*'}.*.partial"):
        host, _, process = partial.name.split(".")[-2].rpartition("-")
        dead = host == here and process.isdecimal() and not _alive(int(process))
        with suppress(FileNotFoundError):
            if dead or partial.stat().st_mtime < long_ago:
                partial.unlink()


def write_text(target: Path, text: str) -> Path:
    """Write a text file whole; return its path."""
    with whole_file(target) as partial:
        partial.write_text(text, encoding="utf-8")
    return target


def write_json(target: Path, value: Any) -> Path:
    """Write JSON whole, indented and in the order given; return its path."""
    return write_text(target, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def _host() -> str:
    return socket.gethostname().replace(".", "_")


def _alive(process: int) -> bool:
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
