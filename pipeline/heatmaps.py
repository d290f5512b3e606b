"""One HDF5 file of traffic frames in, one out; the only room that knows h5py.

A file holds one dataset `(..., H, W, C)` of bytes, by the organisers' custom under the key
`array`. Files come from strangers: everything that can be judged before the data is read is judged
then. What the HDF5 library itself may still do with a hostile file (crash, hang, swell) is held in
by `pipeline.quarantine`.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from math import prod
from operator import add
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from pipeline.claims import Claims, Shape, claim_faults
from pipeline.errors import HeatmapError
from pipeline.frame_reader import FrameReader
from pipeline.layout import Axis
from pipeline.sink import Sink, whole_sink

KEY = "array"
TYPES = {
    "uint8": (h5py.h5t.STD_U8LE, h5py.h5t.STD_U8BE),
    "int16": (h5py.h5t.STD_I16LE, h5py.h5t.STD_I16BE),
}


@contextmanager
def open_frames(
    path: Path, shape: Shape | None, *, strict: bool = False, own: bool = False
) -> Iterator[FrameReader]:
    """Open a file of frames once every claim it makes has been checked; read nothing yet.

    Args:
        path: The file.
        shape: What its dataset must measure; `None` leaves an axis, or all of them, open.
        strict: Hold the file to what a submission must be: `array` and nothing beside it, uint8.
        own: The file is a store's, and may be packed with LZ4.

    Raises:
        HeatmapError: There is no such file; it is not HDF5, or truncated; it has no `array` and not
            exactly one other dataset; the dataset is a link to or a view of another file; its
            shape, type, compression or chunks are not what they may be.
    """
    if not path.is_file():
        raise HeatmapError(f"{path}: no such file")
    if own:
        _lz4()
    try:
        file = h5py.File(path, "r", locking="best-effort")
    except (OSError, RuntimeError, ValueError) as fault:
        raise HeatmapError(f"{path}: not a readable HDF5 file: {fault}") from None
    with file:
        try:
            dataset = _dataset(path, file, strict=strict)
            types = ["uint8"] if strict else list(TYPES)
            wrong = next(claim_faults(_claims(path, dataset), shape, types, own=own), None)
            if wrong is not None:
                raise HeatmapError(f"{path}: {wrong}")
        except (OSError, RuntimeError, ValueError, KeyError, TypeError, OverflowError) as fault:
            raise HeatmapError(f"{path}: damaged HDF5 file: {fault}") from None
        yield FrameReader(path, dataset)


def read_frames(path: Path, shape: Shape) -> NDArray[np.uint8]:
    """Return all frames of a file as uint8, in the shape asked for.

    Raises:
        HeatmapError: As `open_frames` and `FrameReader.read` say.
    """
    with open_frames(path, shape) as frames:
        return frames.read()


def write_frames(
    path: Path, frames: NDArray[np.uint8], *, gzip: int = 9, rows: bool = False
) -> Path:
    """Write frames as the organisers do: key `array`, gzip, h5py's own chunks; whole or not at all.

    With `rows` a chunk is a row of the first axis, as in 2021.

    Chunks are packed here and handed over whole: outside HDF5's lock, so that threads pack side by
    side, and those of nothing but zeros, which are most, only once.

    Raises:
        ValueError: The frames are not bytes.
    """
    if frames.dtype != np.uint8:
        raise ValueError(f"{path}: {frames.dtype} frames, expected uint8")
    with _hdf5(path, "latest") as (file, sink):
        dataset = file.create_dataset(
            KEY,
            frames.shape,
            np.uint8,
            chunks=(1, *frames.shape[1:]) if rows else True,
            compression="gzip",
            compression_opts=gzip,
        )
        nothing = zlib.compress(bytes(prod(dataset.chunks)), gzip)
        for start in product(*map(range, [0] * frames.ndim, frames.shape, dataset.chunks)):
            ends = map(add, start, dataset.chunks)
            part = frames[tuple(map(slice, start, ends))]
            packed = nothing
            if part.any():
                missing = [(0, c - s) for c, s in zip(dataset.chunks, part.shape, strict=True)]
                packed = zlib.compress(np.pad(part, missing).tobytes(), gzip)
            dataset.id.write_direct_chunk(start, packed)
            sink.check()
    return path


@contextmanager
def row_writer(
    path: Path, shape: tuple[int, ...], *, gzip: int = 9
) -> Iterator[Callable[[int, NDArray[np.uint8]], None]]:
    """Yield what writes a row of the first axis at its place, in any order, a chunk each.

    No more than a row is ever in memory. The file appears, whole, when all rows are there; the
    same rows in the same order give the same bytes.

    Raises:
        ValueError: A row is not bytes of its shape, is given twice, or is missing at the end.
    """
    missing = set(range(shape[0]))
    with _hdf5(path, "latest") as (file, sink):
        chunks = (1, *shape[1:])
        dataset = file.create_dataset(
            KEY, shape, np.uint8, chunks=chunks, compression="gzip", compression_opts=gzip
        )

        def write(place: int, row: NDArray[np.uint8]) -> None:
            if row.dtype != np.uint8 or row.shape != shape[1:] or place not in missing:
                raise ValueError(
                    f"{path}: row {place} of {row.dtype} {row.shape}, expected a row of "
                    f"{shape} uint8, each once"
                )
            missing.remove(place)
            packed = zlib.compress(np.ascontiguousarray(row).data, gzip)
            dataset.id.write_direct_chunk((place, *[0] * len(row.shape)), packed)
            sink.check()

        yield write
        if missing:
            raise ValueError(f"{path}: rows {sorted(missing)[:10]} are missing")


@contextmanager
def store_writer(
    path: Path, axes: Sequence[Axis], attributes: dict[str, str]
) -> Iterator[h5py.Dataset]:
    """Yield an empty uint8 dataset for windows to be cut from; the file appears when it is full.

    One row of the first axis a chunk; LZ4, which unpacks half again as fast as zstd for a third
    more bytes. A netCDF-4 reader that has hdf5plugin finds the axes as coordinates.
    """
    sizes = tuple(len(axis.values) for axis in axes)
    with _hdf5(path, "v110") as (file, _):
        dataset = file.create_dataset(KEY, sizes, np.uint8, chunks=(1, *sizes[1:]), **_lz4())
        dataset.attrs.update(attributes)
        for place, axis in enumerate(axes):
            labels = axis.values
            if labels.dtype.kind == "U":
                labels = labels.astype(h5py.string_dtype())
            scale = file.create_dataset(axis.name, data=labels)
            scale.attrs.update(axis.attributes)
            scale.make_scale(axis.name)
            dataset.dims[place].attach_scale(scale)
        yield dataset


@contextmanager
def _hdf5(path: Path, version: str) -> Iterator[tuple[h5py.File, Sink]]:
    """Yield an HDF5 file to fill, which appears whole or not at all, and where its bytes go."""
    with whole_sink(path) as sink, h5py.File(sink, "w", libver=version) as file:
        yield file, sink


def _lz4() -> dict[str, Any]:
    """Return the options that pack a dataset with LZ4; from here on this process can unpack it."""
    import hdf5plugin  # late: who reads foreign files only is to have no decoders for them to reach

    return dict(hdf5plugin.LZ4())


def _dataset(path: Path, file: h5py.File, *, strict: bool) -> h5py.Dataset:
    keys = list(file)
    if strict and keys != [KEY]:
        raise HeatmapError(f"{path}: keys {keys[:10]}, expected {KEY!r} and nothing else")
    key = KEY if KEY in keys or len(keys) != 1 else keys[0]
    if key not in keys:
        raise HeatmapError(f"{path}: keys {keys[:10]}, expected {KEY!r} or one dataset alone")
    link = file.get(key, getlink=True)
    if not isinstance(link, h5py.HardLink):
        raise HeatmapError(f"{path}: {key!r} is a {type(link).__name__}, expected data of its own")
    dataset = file[key]
    if not isinstance(dataset, h5py.Dataset):
        raise HeatmapError(f"{path}: {key!r} is a {type(dataset).__name__}, expected a dataset")
    return dataset


def _claims(path: Path, dataset: h5py.Dataset) -> Claims:
    if dataset.external is not None:
        raise HeatmapError(f"{path}: keeps its data in other files, expected data of its own")
    if dataset.is_virtual:
        raise HeatmapError(f"{path}: a virtual view of other files, expected data of its own")
    kind = dataset.id.get_type()  # not the dtype, in which an enum or a bit field shows as bytes
    name = next((n for n, kinds in TYPES.items() if any(map(kind.equal, kinds))), None)
    if name is None and dataset.dtype.name in TYPES:
        name = f"{dataset.dtype.name}, not plain ({type(kind).__name__})"
    filters = dataset.id.get_create_plist()
    return Claims(
        shape=dataset.shape,
        type=name or str(dataset.dtype),
        itemsize=dataset.dtype.itemsize,
        chunks=dataset.chunks,
        filters=tuple(filters.get_filter(n)[0] for n in range(filters.get_nfilters())),
    )
