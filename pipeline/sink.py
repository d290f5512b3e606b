"""A file for a library to write to that cannot bear faults: it hears of none."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

SMALL_BYTES = 2**16
"""What is larger is data, which HDF5 does not read again of a file that it makes."""


class Sink:
    """A new file, unbuffered: what HDF5 asks of a file-like object.

    HDF5 that cannot write all it holds, as on a full disk, is left with a file that it can neither
    finish nor forget, and crashes later, when memory is tidied up or the process ends. So a fault
    of the disk is kept here, and what would have been written since goes nowhere, but for what may
    be read again.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("w+b", buffering=0)
        self._fault: OSError | None = None
        self._since: list[tuple[int, bytes]] = []

    def check(self) -> None:
        """Say whether all that was written is in the file.

        Raises:
            OSError: It is not: the disk's first fault.
        """
        if self._fault is not None:
            raise self._fault

    def __enter__(self) -> Sink:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def write(self, data: bytes | memoryview) -> int:
        """Write all of it at the place sought."""
        place, left = self._file.tell(), memoryview(data)
        if self._fault is None:
            try:
                while left:
                    left = left[self._file.write(left) :]
            except OSError as fault:
                self._fault = fault
        if self._fault is not None:
            if len(data) < SMALL_BYTES:
                self._since.append((place, bytes(data)))
            self._file.seek(place + len(data))
        return len(data)

    def truncate(self, size: int) -> int:
        """Make the file so long."""
        try:
            if self._fault is None:
                self._file.truncate(size)
        except OSError as fault:
            self._fault = fault
        return size

    def seek(self, place: int, whence: int = 0) -> int:
        """Go to a place."""
        return self._file.seek(place, whence)

    def tell(self) -> int:
        """Return where it is."""
        return self._file.tell()

    def readinto(self, buffer: memoryview) -> int:
        """Read what was written at the place sought."""
        place, size = self._file.tell(), len(buffer)
        found = bytearray(self._file.read(size).ljust(size, b"\0"))
        for start, data in self._since:
            first, stop = max(start, place), min(start + len(data), place + size)
            if first < stop:
                found[first - place : stop - place] = data[first - start : stop - start]
        buffer[:] = found
        return size

    def read(self, size: int) -> bytes:
        """Read so many bytes; h5py knows a file-like object by it."""
        found = bytearray(size)
        self.readinto(memoryview(found))
        return bytes(found)

    def flush(self) -> None:
        """Do nothing: nothing is held back, and `whole_file` has it on disk in the end."""
