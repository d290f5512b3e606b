"""Random numbers that depend on what they are for and on nothing else."""

from __future__ import annotations

import zlib

import numpy as np


def generator(seed: int, *purpose: str | int) -> np.random.Generator:
    """Return a generator for a purpose: the same in any process and any order of calls.

    Args:
        seed: The seed a person gave, 0 or more.
        purpose: What the numbers are for: names and whole numbers from 0 on.
    """
    words = [zlib.crc32(word.encode()) if isinstance(word, str) else word for word in purpose]
    return np.random.Generator(np.random.PCG64DXSM(np.random.SeedSequence([seed, *words])))
