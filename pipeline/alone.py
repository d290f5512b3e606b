"""One run at a time: who has a folder or a file to write, keeps every other run out of it.

The hold is a lock of the operating system (`flock`) on a small hidden file, so it ends with the
process, however that ends; what the file says only tells others whom they wait for. On NFS the
lock holds between machines too, where its lock service runs (Linux passes it on since 2.6.12). A
file system that has no locks says so, and there nobody is kept out.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from pipeline.atomic import naming_faults
from pipeline.errors import InUseError

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)
TAKEN = (errno.EAGAIN, errno.EACCES)
NOTE_BYTES = 4096
_held: set[int] = set()


@contextmanager
def alone(lock: Path, target: Path, work: str) -> Iterator[None]:
    """Hold a target against all other runs, inside a `with`.

    Args:
        lock: The lock's file; it is there for as long as it is held, or until the next run takes
            over what a killed one left.
        target: What is held: a folder or file, for the message.
        work: What is done to it, for the message of who is refused, as `"ingest"`.

    Raises:
        InUseError: Another run has it: says which process, of which machine, since when.
        OutputError: The lock cannot be written there.
    """
    with naming_faults(lock):
        descriptor = _take(lock, target, work)
    _held.add(descriptor)
    try:
        yield
    finally:
        if descriptor in _held:  # else this is a fork of the process that holds it
            _held.discard(descriptor)
            with suppress(OSError):  # before it is let go: the next run makes a file of its own
                lock.unlink(missing_ok=True)
            os.close(descriptor)


def _take(lock: Path, target: Path, work: str) -> int:
    lock.parent.mkdir(parents=True, exist_ok=True)
    while True:
        descriptor, mine = _open(lock)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as fault:
            if fault.errno in TAKEN:
                holder = _holder(descriptor)
                os.close(descriptor)
                raise InUseError(
                    f"{target}: another run is at work here: {holder}; wait for it or stop it, "
                    "then run again"
                ) from None
            if fault.errno not in NO_LOCKS:
                os.close(descriptor)
                raise
        try:
            here = os.path.samestat(os.fstat(descriptor), lock.stat())
        except FileNotFoundError:  # a run that just ended took this file away
            here = False
        if here and not mine:  # left over: made anew, if the folder lets us, to sign it
            with suppress(OSError):
                lock.unlink()
                here = False
        if here:
            _sign(descriptor, work)
            return descriptor
        os.close(descriptor)


def _open(lock: Path) -> tuple[int, bool]:
    """Open the lock's file; return whether it may be written too, as another user's may not."""
    try:
        return os.open(lock, os.O_RDWR | os.O_CREAT, 0o666), True
    except PermissionError as fault:
        try:
            return os.open(lock, os.O_RDONLY), False
        except OSError:
            raise fault from None


def _sign(descriptor: int, work: str) -> None:
    """Say who holds it; a full disk keeps nobody from holding it unnamed."""
    note = {
        "work": work,
        "process": os.getpid(),
        "host": socket.gethostname(),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    with suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(note).encode(), 0)


def _holder(descriptor: int) -> str:
    try:
        note = json.loads(os.pread(descriptor, NOTE_BYTES, 0))
        return (
            f"`{note['work']}`, process {note['process']} on {note['host']}, since {note['since']}"
        )
    except (OSError, ValueError, KeyError, TypeError):
        return "one that has not said which"


def _leave_to_parent() -> None:
    """Close what a fork copied: the child may outlive its parent, the hold shall not."""
    while _held:
        os.close(_held.pop())


os.register_at_fork(after_in_child=_leave_to_parent)
