"""One training a folder: who has it open, keeps everybody else out."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

LOCK = ".lock"
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)
"""What a file system says that has no locks; there nobody is kept out."""
NOTE_BYTES = 1024
_held: set[FolderLock] = set()


class FolderInUseError(Exception):
    """Another training has the folder."""


class FolderLock:
    """A lock on a folder, until it is let go or the process is gone, however it goes."""

    def __init__(self, folder: Path) -> None:
        """Take it.

        Raises:
            FolderInUseError: It is taken.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._file = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as fault:
            if fault.errno not in NO_LOCKS:
                told = os.pread(self._file, NOTE_BYTES, 0).decode(errors="replace")
                holder = f" ({told})" if told else ""
                os.close(self._file)
                if isinstance(fault, BlockingIOError):
                    raise FolderInUseError(f"{folder}: in use by another process{holder}") from None
                raise
        with suppress(OSError):  # a full disk keeps nobody from training unnamed
            since = datetime.now(UTC).isoformat(timespec="seconds")
            note = f"process {os.getpid()} on {socket.gethostname()}, since {since}"
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, note.encode(), 0)
        _held.add(self)

    def let_go(self) -> None:
        """Let others have it."""
        if self in _held:
            _held.discard(self)
            with suppress(OSError):  # where there are no locks
                fcntl.flock(self._file, fcntl.LOCK_UN)
            os.close(self._file)

    @staticmethod
    def leave_to_parent() -> None:
        """Close what a fork copied: the child may outlive its parent, the lock shall not."""
        while _held:
            os.close(_held.pop()._file)


os.register_at_fork(after_in_child=FolderLock.leave_to_parent)
