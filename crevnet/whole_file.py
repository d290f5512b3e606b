"""Files of a training appear whole, or not at all; a disk that is full is said to be so."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError


class UnwritableError(OSError):
    """A file that could not be written: says which, why, and how much room there is."""


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` to write to; on success it is flushed, and becomes `path`.

    Raises:
        UnwritableError: It cannot be written; nothing is left of it.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        with naming_faults(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield partial
            _flush(partial)
            partial.replace(path)
            _flush(path.parent)
    except BaseException:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


@contextmanager
def naming_faults(path: Path) -> Iterator[None]:
    """Say of whatever keeps a file from being written, inside a `with`, which file it was.

    torch and safetensors raise kinds of their own for a full disk.

    Raises:
        UnwritableError: Anything did.
    """
    try:
        yield
    except UnwritableError:
        raise
    except (OSError, RuntimeError, SafetensorError) as fault:
        told: BaseException = fault
        while not isinstance(told, OSError) and told.__context__ is not None:
            told = told.__context__  # what torch made of a fault, back to the fault
        why = told.strerror if isinstance(told, OSError) and told.strerror else str(told)
        raise UnwritableError(
            f"{path}: cannot be written: {why.splitlines()[0]}{_room(path.parent)}; mend that and "
            "run again"
        ) from fault


def _room(folder: Path) -> str:
    with suppress(OSError):
        return f" ({shutil.disk_usage(folder).free / 1e6:.1f} MB free)"
    return ""


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
