"""Numbers that depend on a seed, a purpose and an index alone, on every machine alike.

Raw words of a bit generator are made into whole numbers here: numpy promises the words for ever,
not what its own distributions make of them.
"""

from __future__ import annotations

import zlib

import numpy as np


def words(seed: int, purpose: str, index: int, count: int) -> list[int]:
    """Return `count` words of 64 bits."""
    sequence = np.random.SeedSequence([seed, zlib.crc32(purpose.encode()), index])
    raw = np.random.PCG64(sequence).random_raw(count)
    return [int(word) for word in raw]


def below(word: int, limit: int) -> int:
    """Return a whole number from 0 to `limit - 1`; `limit` is at most 2^32."""
    return (word >> 32) * limit >> 32
