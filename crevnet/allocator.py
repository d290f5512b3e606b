"""What a frugal training asks of the C library's allocator."""

from __future__ import annotations

import ctypes
import sys

RETURNED = 1 << 20
"""Blocks of at least so many bytes go back to the system when freed."""
_MMAP_THRESHOLD = -3  # M_MMAP_THRESHOLD of <malloc.h>


def return_large_blocks() -> bool:
    """Have glibc give freed blocks of 1 MiB and more back at once, in the whole process.

    By itself it raises that limit to 32 MiB as blocks are freed, keeps them, and finds them too
    torn for the next tensor: a step at full Traffic4cast size then grows to several times what its
    tensors need.

    Returns:
        Whether it will: false where the C library is another one.
    """
    if sys.platform != "linux":
        return False
    try:
        return bool(ctypes.CDLL(None).mallopt(_MMAP_THRESHOLD, RETURNED))
    except AttributeError:  # not glibc
        return False
