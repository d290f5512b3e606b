"""Images in MNIST's IDX format, plain or gzipped; checked before they are believed."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DigitsError

MAX_BYTES = 1 << 30
MAGIC = b"\0\0\x08\x03"
"""Unsigned bytes, three axes."""


def read_images(path: Path, sha256: str | None = None) -> NDArray[np.uint8]:
    """Return the images of an IDX file, `(N, H, W)` uint8.

    Args:
        path: The file; unpacked first when its name ends in `.gz`.
        sha256: Of what is unpacked; not compared, if not given.

    Raises:
        DigitsError: There is no such file; it is damaged, no IDX file of images, or another one.
    """
    data = _unpacked(path)
    found = hashlib.sha256(data).hexdigest()
    if sha256 is not None and found != sha256:
        raise DigitsError(f"{path}: unpacked sha256 {found}, expected {sha256}")
    if data[:4] != MAGIC or len(data) < 16:
        raise DigitsError(f"{path}: begins with {data[:4].hex()}, expected {MAGIC.hex()} (images)")
    sizes = [int.from_bytes(data[at : at + 4], "big") for at in (4, 8, 12)]
    wanted = 16 + sizes[0] * sizes[1] * sizes[2]
    if len(data) != wanted:
        raise DigitsError(f"{path}: {len(data)} bytes, expected {wanted} for images {sizes}")
    return np.frombuffer(data, np.uint8, offset=16).reshape(sizes)


def _unpacked(path: Path) -> bytes:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise DigitsError(f"{path}: no such file") from None
    except (OSError, EOFError, zlib.error) as fault:
        raise DigitsError(f"{path}: cannot be unpacked: {fault}") from None
    if len(data) > MAX_BYTES:
        raise DigitsError(f"{path}: more than {MAX_BYTES:,} bytes, expected fewer")
    return data
