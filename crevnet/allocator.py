"""What a training asks of the C library's allocator: memory or time."""

from __future__ import annotations

import ctypes
import sys

RETURNED = 1 << 20
"""Blocks of at least so many bytes go back to the system when freed."""
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4  # M_... of <malloc.h>


def return_large_blocks() -> bool:
    """Have glibc give freed blocks of 1 MiB and more back at once, in the whole process.

    By itself it raises that limit to 32 MiB as blocks are freed, keeps them, and finds them too
    torn for the next tensor: a step at full Traffic4cast size then grows to several times what its
    tensors need.

    Returns:
        Whether it will: false where the C library is another one.
    """
    return _ask((_MMAP_THRESHOLD, RETURNED))


def keep_freed_blocks() -> bool:
    """Have glibc keep all that is freed for what is asked for next, in the whole process.

    By itself it gives blocks of 32 MiB and more back when freed, and every step of a training asks
    for the same ones again: the system then clears each of their pages anew.

    Returns:
        Whether it will: false where the C library is another one.
    """
    return _ask((_MMAP_MAX, 0), (_TRIM_THRESHOLD, 2**31 - 1))


def _ask(*wishes: tuple[int, int]) -> bool:
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # not glibc
        return False
    return all(bool(mallopt(name, value)) for name, value in wishes)
