"""What a file of frames may claim of itself; judged before a byte of its data is read.

A filter run twice multiplies what a small file can swell to, and a filter that plain h5py lacks
makes a file that others cannot read: few are allowed, each of them once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

MAX_BYTES = 4 * 1024**3
"""No file of one day or one submission comes near it; a claim above it is a bomb."""
MAX_CHUNK_BYTES = 512 * 1024**2
FOREIGN_FILTERS = {
    1: "deflate",
    2: "shuffle",
    3: "fletcher32",
    4: "szip",
    6: "scaleoffset",
    32000: "lzf",
}
"""What plain h5py unpacks, by HDF5's numbers: all that a file from elsewhere may ask for."""
STORE_FILTERS = FOREIGN_FILTERS | {32004: "lz4"}

Shape = Sequence[int | None]


@dataclass(frozen=True, slots=True)
class Claims:
    """What a dataset says of itself.

    Attributes:
        shape: Its axes; `None` for a dataset of nothing.
        type: `"uint8"` or `"int16"`, or what it is instead.
        itemsize: Bytes of a value.
        chunks: Shape of a chunk; `None` if it has none.
        filters: HDF5's numbers of its filters, in the order they are run.
    """

    shape: tuple[int, ...] | None
    type: str
    itemsize: int
    chunks: tuple[int, ...] | None
    filters: tuple[int, ...]


def claim_faults(
    claims: Claims, shape: Shape | None, types: Sequence[str], *, own: bool
) -> Iterator[str]:
    """Yield what is wrong with the claims.

    Args:
        claims: What the dataset says.
        shape: What it must measure; `None` leaves an axis, or all of them, open.
        types: What it may be made of.
        own: The file is a store's.
    """
    found = claims.shape
    if shape is None:
        shape = (None,) * max(1, len(found or ()))
    if (
        found is None
        or len(found) != len(shape)
        or any(size not in (None, here) for size, here in zip(shape, found, strict=True))
    ):
        wanted = "(" + ", ".join("any" if size is None else str(size) for size in shape) + ")"
        yield f"shape {found}, expected {wanted}"
    if claims.type not in types:
        yield f"type {claims.type}, expected {' or '.join(types)}"
    size = prod(found or ()) * claims.itemsize
    if size > MAX_BYTES:
        yield f"claims {size:,} bytes, expected at most {MAX_BYTES:,}"
    chunk = prod(claims.chunks or (0,)) * claims.itemsize
    if chunk > MAX_CHUNK_BYTES:
        yield f"chunks of {chunk:,} bytes, expected at most {MAX_CHUNK_BYTES:,}"
    filters = STORE_FILTERS if own else FOREIGN_FILTERS
    for code, times in Counter(claims.filters).items():
        if code not in filters:
            yield f"compressed with filter {code}, expected {' or '.join(filters.values())}"
        elif times > 1:
            yield f"runs the filter {filters[code]} {times} times, expected once"
