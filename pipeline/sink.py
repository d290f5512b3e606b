"""A file for a library to write to that cannot bear faults: it hears of none."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager
from io import RawIOBase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.atomic import whole_file

if TYPE_CHECKING:
    import xarray as xr
    from _typeshed import ReadableBuffer, WriteableBuffer

SMALL_BYTES = 2**16
"""What is larger is data, which HDF5 does not read again of a file that it makes."""


@contextmanager
def whole_sink(path: Path) -> Iterator[Sink]:
    """Yield where HDF5 may write what becomes a file, whole or not at all; see `whole_file`."""
    with whole_file(path) as partial, Sink(partial) as sink:
        yield sink
        sink.check()


def save_dataset(
    path: Path, dataset: xr.Dataset, encoding: Mapping[Hashable, Mapping[str, Any]]
) -> Path:
    """Write a Dataset in memory as netCDF-4, whole or not at all.

    Inside a job of a Dask cluster xarray would ask the cluster for a lock, and send it the file.

    Raises:
        OutputError: It cannot be written.
    """
    import dask  # late: it takes its time

    with whole_sink(path) as sink, dask.config.set(scheduler="threads"):
        dataset.to_netcdf(sink, engine="h5netcdf", encoding=encoding)
    return path


class Sink(RawIOBase):
    """A new file, unbuffered: what HDF5 asks of a file-like object.

    HDF5 that cannot write all it holds, as on a full disk, is left with a file that it can neither
    finish nor forget, and crashes later, when memory is tidied up or the process ends. So a fault
    of the disk is kept here, and what would have been written since goes nowhere, but for what may
    be read again.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
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

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()

    def write(self, data: ReadableBuffer) -> int:
        """Write all of it at the place sought."""
        place, left = self._file.tell(), memoryview(data).cast("B")
        size = len(left)
        if self._fault is None:
            try:
                while left:
                    left = left[self._file.write(left) :]
            except OSError as fault:
                self._fault = fault
        if self._fault is not None:
            if size < SMALL_BYTES:
                self._since.append((place, bytes(memoryview(data).cast("B"))))
            self._file.seek(place + size)
        return size

    def truncate(self, size: int | None = None) -> int:
        """Make the file so long."""
        size = self._file.tell() if size is None else size
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

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Read what was written at the place sought."""
        wanted = memoryview(buffer).cast("B")
        place, size = self._file.tell(), len(wanted)
        found = bytearray(self._file.read(size).ljust(size, b"\0"))
        for start, data in self._since:
            first, stop = max(start, place), min(start + len(data), place + size)
            if first < stop:
                found[first - place : stop - place] = data[first - start : stop - start]
        wanted[:] = found
        return size

    def readable(self) -> bool:
        """Say so."""
        return True

    def writable(self) -> bool:
        """Say so."""
        return True

    def seekable(self) -> bool:
        """Say so."""
        return True

    def flush(self) -> None:
        """Do nothing: nothing is held back, and `whole_file` has it on disk in the end."""
