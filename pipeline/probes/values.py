"""Columns to plain numbers; what cannot be read is named with its row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.errors import PointsError
from pipeline.probes.points import Column


@dataclass(frozen=True, slots=True)
class Place:
    """Where a column is from, for messages.

    Attributes:
        file: Its file.
        name: Its name.
        row: Row that it starts with, counted from 1.
    """

    file: str
    name: str
    row: int

    def refuse(self, index: int, value: object, expected: str) -> NoReturn:
        """Raise a `PointsError` that names a row."""
        raise PointsError(
            f"{self.file}: row {self.row + index}: {self.name} is {value!r}, expected {expected}"
        )


def to_numbers(column: Column, place: Place) -> NDArray[np.float64]:
    """Return a column as numbers `(N,)`, NaN where there is none.

    Raises:
        PointsError: A value is not a number.
    """
    numbers = cast(column, pa.float64(), place, "a number")
    return np.asarray(pc.fill_null(numbers, np.nan))


def to_words(column: Column, place: Place) -> Column:
    """Return a column as words; a vehicle that is number 7.0 to one file and 7 to another is one.

    Raises:
        PointsError: It holds neither words nor numbers.
    """
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), None, column)
        try:
            column = column.cast(pa.int64())
        except pa.ArrowInvalid:
            return column.cast(pa.string())
    return cast(column, pa.string(), place, "words or numbers")


def plain(column: Column) -> Column:
    """Return a column without a dictionary of its values."""
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def cast(column: Column, kind: pa.DataType, place: Place, expected: str) -> Column:
    """Return a column as another type, blanks around words forgiven.

    Raises:
        PointsError: A value cannot be read as one, or the column is of a kind that never can.
    """
    try:
        return column.cast(kind)
    except pa.ArrowInvalid:
        column = trim(column)
    except pa.ArrowNotImplementedError:
        raise PointsError(
            f"{place.file}: column {place.name!r} holds {column.type}, expected {expected}"
        ) from None
    try:
        return column.cast(kind)
    except pa.ArrowInvalid:
        index, value = _first_fault(column, kind)
        place.refuse(index, value, expected)


def is_text(kind: pa.DataType) -> bool:
    """Return whether a type is words."""
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    return any(test(kind) for test in tests)


def trim(column: Column) -> Column:
    """Take the blanks from around words."""
    return pc.utf8_trim_whitespace(column.cast(pa.string())) if is_text(column.type) else column


def _first_fault(column: Column, kind: pa.DataType) -> tuple[int, object]:
    for index, value in enumerate(column):
        try:
            value.cast(kind)
        except pa.ArrowInvalid:
            return index, value.as_py()
    raise ValueError(f"a column of {column.type} is not {kind}, but each of its values is")
