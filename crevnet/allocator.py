"""What a training asks of the C library's allocator: memory or time."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from crevnet.autoencoder import MemoryMode

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4  # M_... of <malloc.h>
_MAPPED = 65536
"""Blocks that glibc maps each for itself, at most, if it is asked for nothing else."""


@contextmanager
def allocating(memory: MemoryMode) -> Iterator[None]:
    """Have the allocator serve a training of this memory, in the whole process, inside a `with`."""
    (return_large_blocks if memory == "frugal" else keep_freed_blocks)()
    try:
        yield
    finally:
        as_before()


def return_large_blocks() -> bool:
    """Have glibc give freed blocks of 1 MiB and more back at once; costs CPU time.

    By itself it raises that limit to 32 MiB as blocks are freed, keeps them, and finds them too
    torn for the next tensor: a step at full Traffic4cast size then grows to several times what its
    tensors need. Where blocks were kept before in the same process, room that is left among them is
    used first, and held.

    Returns:
        Whether it will: false where the C library is another one.
    """
    return _ask({_MMAP_MAX: _MAPPED, _TRIM_THRESHOLD: 128 << 10, _MMAP_THRESHOLD: 1 << 20})


def keep_freed_blocks() -> bool:
    """Have glibc keep all that is freed for what is asked for next; costs memory.

    By itself it gives blocks of 32 MiB and more back when freed, and every step of a training asks
    for the same ones again: the system then clears each of their pages anew.

    Returns:
        Whether it will: false where the C library is another one.
    """
    return _ask({_MMAP_MAX: 0, _TRIM_THRESHOLD: -1})


def as_before() -> bool:
    """Have glibc do what it does by itself in a process that has freed large blocks before.

    Returns:
        Whether it will: false where the C library is another one.
    """
    return _ask({_MMAP_MAX: _MAPPED, _TRIM_THRESHOLD: 64 << 20, _MMAP_THRESHOLD: 32 << 20})


def _ask(wishes: dict[int, int]) -> bool:
    """Set what is wished; what is free and may go by that goes at once."""
    if sys.platform != "linux":
        return False
    library = ctypes.CDLL(None)
    try:
        mallopt, trim = library.mallopt, library.malloc_trim
    except AttributeError:  # not glibc
        return False
    heard = [bool(mallopt(name, value)) for name, value in wishes.items()]
    if wishes[_MMAP_MAX]:
        trim(0)
    return all(heard)
