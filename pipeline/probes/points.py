"""A file of points, Parquet or CSV, streamed piece by piece as Arrow columns."""

from __future__ import annotations

import csv
import io
import lzma
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import IO, TypeAlias

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from pipeline.errors import PointsError

PARQUET = (".parquet", ".pq")
PACKED = {".gz": "gzip", ".bz2": "bz2", ".xz": "xz", ".zst": "zstd"}
PIECE_ROWS = 2**20
"""A Dask task reads row groups of about so many rows, or a whole CSV file, ..."""
BATCH_ROWS = 2**17
BLOCK_BYTES = 2**23
"""... and never holds more than a batch or a block of it."""

Column: TypeAlias = pa.Array
Batch: TypeAlias = pa.RecordBatch


@dataclass(frozen=True, slots=True)
class Piece:
    """What one task reads.

    Attributes:
        path: A file of points.
        groups: Row groups of a Parquet file; none for a CSV file, which is read from end to end.
        first_row: Row of the file that the piece starts with, counted from 1.
    """

    path: Path
    groups: tuple[int, ...] = ()
    first_row: int = 1


def pieces_of(path: Path) -> list[Piece]:
    """Cut a file into pieces; its points are not read yet.

    Raises:
        PointsError: It is not Parquet where its name says so, is truncated or empty, or its name
            says nothing.
    """
    if not _is_parquet(path):
        with _decoded(path) as stream:
            if not stream.read(1):
                raise PointsError(f"{path}: empty, expected a CSV header and points")
        return [Piece(path)]
    with _parquet(path) as file:
        rows = [file.metadata.row_group(g).num_rows for g in range(file.num_row_groups)]
    if not sum(rows):
        raise PointsError(f"{path}: holds no points, only columns")
    pieces, groups = [], []
    starts = [1, *(1 + total for total in accumulate(rows))]
    for group in range(len(rows)):
        groups.append(group)
        if starts[group + 1] - starts[groups[0]] >= PIECE_ROWS or group == len(rows) - 1:
            pieces.append(Piece(path, tuple(groups), starts[groups[0]]))
            groups = []
    return pieces


def read_piece(piece: Piece, columns: list[str], delimiter: str = ",") -> Iterator[Batch]:
    """Yield the columns asked for, a batch of rows at a time; those of CSV files hold text.

    Raises:
        PointsError: A column is missing, or the file is damaged.
    """
    read = _read_parquet(piece, columns) if piece.groups else _read_csv(piece, columns, delimiter)
    try:
        yield from read
    except (pa.ArrowException, OSError, EOFError, lzma.LZMAError, UnicodeError) as fault:
        raise PointsError(f"{piece.path}: damaged: {_first_line(fault)}") from None


def _read_parquet(piece: Piece, columns: list[str]) -> Iterator[Batch]:
    with _parquet(piece.path) as file:
        _check_columns(piece.path, columns, file.schema_arrow.names)
        yield from file.iter_batches(
            BATCH_ROWS, row_groups=list(piece.groups), columns=columns, use_threads=False
        )


def _read_csv(piece: Piece, columns: list[str], delimiter: str) -> Iterator[Batch]:
    with _decoded(piece.path) as stream:
        text = io.TextIOWrapper(stream, "utf-8-sig", errors="replace", newline="")
        header = next(csv.reader(text, delimiter=delimiter), [])
        text.detach()
    _check_columns(piece.path, columns, header)
    with _decoded(piece.path) as stream:
        yield from pa_csv.open_csv(
            stream,
            read_options=pa_csv.ReadOptions(block_size=BLOCK_BYTES),
            parse_options=pa_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            convert_options=pa_csv.ConvertOptions(
                include_columns=columns,
                column_types=dict.fromkeys(columns, pa.string()),
                strings_can_be_null=True,
            ),
        )


def _check_columns(path: Path, columns: list[str], found: list[str]) -> None:
    missing = [name for name in columns if name not in found]
    if missing:
        raise PointsError(
            f"{path}: no column {', '.join(map(repr, missing))}; it has {found}; "
            "`columns` and `delimiter` say which is which"
        )
    twice = [name for name in columns if found.count(name) > 1]
    if twice:
        raise PointsError(f"{path}: two columns named {', '.join(map(repr, twice))}")


def _is_parquet(path: Path) -> bool:
    name = path.name.lower()
    for ending in PACKED:
        name = name.removesuffix(ending)
    if name.endswith(".csv"):
        return False
    if name.endswith(PARQUET) and path.name.lower() == name:
        return True
    raise PointsError(
        f"{path}: cannot tell what it is, expected a name in .parquet or .csv "
        f"(or .csv with {', '.join(PACKED)})"
    )


@contextmanager
def _parquet(path: Path) -> Iterator[pq.ParquetFile]:
    try:
        with path.open("rb") as file:
            marked = file.read(4) == b"PAR1"
        parquet = pq.ParquetFile(path, buffer_size=2**20, pre_buffer=False)
    except (pa.ArrowException, OSError) as fault:
        what = "truncated or damaged Parquet" if marked else "not a Parquet file"
        raise PointsError(f"{path}: {what}: {_first_line(fault)}") from None
    with parquet:
        yield parquet


@contextmanager
def _decoded(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for its content, whatever it is packed in."""
    try:
        packed = PACKED.get(path.suffix.lower())
        if packed == "xz":
            with lzma.open(path) as stream:
                yield stream
        else:
            with pa.input_stream(path, compression=packed) as stream:
                yield stream
    except (lzma.LZMAError, EOFError, OSError, pa.ArrowException) as fault:
        raise PointsError(f"{path}: damaged: {_first_line(fault)}") from None


def _first_line(fault: BaseException) -> str:
    return str(fault).strip().splitlines()[0] if str(fault).strip() else type(fault).__name__
