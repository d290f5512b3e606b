"""Outputs appear whole, or not at all."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


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
    partial = target.with_name(f"{target.name}.{socket.gethostname()}-{os.getpid()}.partial")
    try:
        yield partial
        _flush(partial)
        partial.replace(target)
        _flush(target.parent)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def sweep(folder: Path, name: str = "*") -> None:
    """Remove what dead processes of this machine left half-written of `name` in a folder."""
    for partial in folder.glob(f"{name}.{socket.gethostname()}-*.partial"):
        process = partial.name.removesuffix(".partial").rpartition("-")[2]
        if process.isdecimal() and not _alive(int(process)):
            partial.unlink(missing_ok=True)


def write_text(target: Path, text: str) -> Path:
    """Write a text file whole; return its path."""
    with whole_file(target) as partial:
        partial.write_text(text, encoding="utf-8")
    return target


def write_json(target: Path, value: Any) -> Path:
    """Write JSON whole, indented and in the order given; return its path."""
    return write_text(target, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
