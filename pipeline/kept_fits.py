"""What was fitted, kept on disk: the digest of what it rests on, and arrays mapped from files."""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.atomic import whole_file
from pipeline.climatology import what_fits_rest_on
from pipeline.errors import StoreError
from pipeline.store import Store

KEPT = 8
"""Fits of a kind and city that stay: every day that arrives makes new ones of those before."""
DIGEST = "[0-9a-f]" * 16
FIT_VERSION = 1
"""Of the way sums are kept: a new one adds up every city anew."""


def digest(store: Store, days: Sequence[str], *facts: object) -> str:
    """Return a digest of days, by their checksums, and of whatever else a fit depends on.

    Not of an edition's title, terms or other cities: to change these disowns no fit.

    Raises:
        StoreError: A day is not in the store.
    """
    stored = store.manifest.by_day()
    unknown = [day for day in days if day not in stored]
    if unknown:
        raise StoreError(f"{store.root}: {store.city.name} has no days {unknown}")
    parts = [repr((FIT_VERSION, *what_fits_rest_on(store.edition, store.city), *facts))]
    parts += [f"{day} {stored[day].source_sha256}" for day in days]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def note_use(path: Path) -> None:
    """Note that a fit is in use, and remove all but the last used of its kind and city.

    Args:
        path: `<kind and city>_<16 digits of a digest>.<suffix>`; it stays, whatever the clock says.
    """
    with suppress(OSError):  # of a folder that may only be read
        os.utime(path)
        kind = path.stem[:-16]
        others = [
            (other.stat().st_mtime_ns, other)
            for other in path.parent.glob(f"{glob.escape(kind)}{DIGEST}{path.suffix}")
            if other != path
        ]
        for _, other in sorted(others, reverse=True)[KEPT - 1 :]:
            other.unlink(missing_ok=True)


def save_array(path: Path, array: NDArray[np.uint32]) -> Path:
    """Write an array whole, as npy."""
    with whole_file(path) as partial, partial.open("wb") as file:
        np.save(file, np.ascontiguousarray(array))
    return path


def map_array(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint32]:
    """Return an array mapped from its file, read when touched.

    Raises:
        StoreError: There is no such file, or it is not a uint32 array of that shape.
    """
    try:
        array: NDArray[np.uint32] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as fault:
        raise StoreError(f"{path}: not an array: {fault}") from None
    if array.shape != shape or array.dtype != np.uint32:
        raise StoreError(f"{path}: {array.dtype} {array.shape}, expected uint32 {shape}")
    return array
