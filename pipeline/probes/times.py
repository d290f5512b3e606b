"""Times as people write them to microseconds since 1970-01-01 UTC."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.errors import PointsError
from pipeline.probes.days import to_utc
from pipeline.probes.points import Column
from pipeline.probes.settings import Rasterising, TimeUnit
from pipeline.probes.values import Place, cast, is_text, to_numbers, trim

Times = tuple[NDArray[np.int64], NDArray[np.bool_]]
"""Microseconds since 1970-01-01 UTC, and where there is a time at all; each `(N,)`."""

EARLIEST = int(datetime(1900, 1, 1, tzinfo=UTC).timestamp() * 1e6)
LATEST = int(datetime(2200, 1, 1, tzinfo=UTC).timestamp() * 1e6)
"""A time outside was counted in another unit."""
NANOSECONDS: dict[TimeUnit, int] = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
OFFSET = r"[+-]\d\d(:?\d\d)?$|Z$"


def to_times(column: Column, settings: Rasterising, place: Place) -> Times:
    """Return times in UTC, whole microseconds.

    Timestamps and ISO 8601 words with an offset are taken at their word, those without by
    `settings.naive_time_zone`, numbers by `settings.time_unit`.

    Raises:
        PointsError: A time cannot be read, or names no zone and none is set.
    """
    if settings.time_unit is not None and not pa.types.is_timestamp(column.type):
        return _counted(column, NANOSECONDS[settings.time_unit], place)
    if is_text(column.type):
        column = _written(column, place)
    if not pa.types.is_timestamp(column.type):
        raise PointsError(
            f"{place.file}: column {place.name!r} holds {column.type}, expected timestamps, "
            "ISO 8601, or numbers with `time_unit`"
        )
    there = np.asarray(column.is_valid())
    naive = column.type.tz is None
    stamps = column.cast(pa.timestamp("us", column.type.tz), safe=False)
    times = np.asarray(pc.fill_null(stamps.cast(pa.int64()), 0))
    _check_range(times.astype(np.float64), there, column, place)
    if naive and there.any():
        if settings.naive_time_zone is None:
            row = int(there.argmax())
            value = str(column[row].as_py())
            place.refuse(row, value, "a UTC offset behind it, or `naive_time_zone` set")
        times = to_utc(times, ZoneInfo(settings.naive_time_zone))
    return times, there


def _counted(column: Column, unit: int, place: Place) -> Times:
    """Read numbers; whole ones stay whole: a float cannot hold the nanoseconds of our days."""
    there = np.asarray(column.is_valid())
    try:
        if pa.types.is_floating(column.type):
            raise pa.ArrowInvalid("may have a fraction")
        whole = np.asarray(pc.fill_null(trim(column).cast(pa.int64()), 0))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        numbers = to_numbers(column, place)
        there &= ~np.isnan(numbers)
        rough = np.where(there, np.floor(numbers * (unit / 1000)), 0)
        _check_range(rough, there, column, place)
        return rough.astype(np.int64), there
    _check_range(whole * (unit / 1000), there, column, place)
    return (whole // 1000 if unit == 1 else whole * (unit // 1000)), there


def _written(column: Column, place: Place) -> Column:
    """Read ISO 8601; a batch is with offsets or without, not both."""
    for text in (column, _tidy(column)):
        for kind in (pa.timestamp("ns", "UTC"), pa.timestamp("ns")):
            try:
                return text.cast(kind)
            except pa.ArrowInvalid:
                continue
    text = _tidy(column)
    zoned = pc.any(pc.match_substring_regex(text.drop_null()[:1], OFFSET)).as_py()
    if zoned:
        return cast(text, pa.timestamp("ns", "UTC"), place, "a time like 2008-05-31T18:00:00-07:00")
    return cast(text, pa.timestamp("ns"), place, "a time like 2008-05-31T18:00:00")


def _tidy(column: Column) -> Column:
    """Write the ends of times the one way that Arrow reads."""
    text = pc.replace_substring_regex(trim(column), r"\s*(UTC|z)$", "Z")
    return pc.replace_substring_regex(text, r"\s+([+-]\d\d(:?\d\d)?)$", r"\1")


def _check_range(
    times: NDArray[np.float64],
    there: NDArray[np.bool_],
    column: Column,
    place: Place,
) -> None:
    wild = there & ~((times >= EARLIEST) & (times < LATEST))
    if wild.any():
        row = int(wild.argmax())
        value = str(column[row].as_py())
        place.refuse(row, value, "a time from 1900 to 2200; is `time_unit` right?")
