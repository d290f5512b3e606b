"""The wall clock of a city's files; days are cut at its midnight.

Frames are bins of the wall clock, as a person reads it off: the hour that is skipped in spring
leaves its frames empty, and the hour that is shown twice in autumn falls into the same frames
twice. Steps from fix to fix are measured in real seconds and do not notice.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from pipeline.editions import Edition, Split

SECOND = 1_000_000
"""Times are counted in microseconds since 1970-01-01."""
MINUTE = 60 * SECOND
DAY = 24 * 60 * MINUTE
EPOCH = date(1970, 1, 1)


def wall_clock(
    times: NDArray[np.int64], zone: ZoneInfo
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the day and the minute of it that the clocks of a zone show.

    Args:
        times: `(N,)` microseconds since 1970-01-01 UTC.
        zone: Whose clocks.

    Returns:
        Days since 1970-01-01 and minutes since midnight, each `(N,)`.
    """
    if zone.key == "UTC":
        local = times
    else:
        minutes, which = np.unique(times // MINUTE, return_inverse=True)
        offsets = [
            datetime.fromtimestamp(m * 60, UTC).astimezone(zone).utcoffset() for m in minutes
        ]
        local = times + _microseconds(offsets)[which]
    return local // DAY, local % DAY // MINUTE


def to_utc(naive: NDArray[np.int64], zone: ZoneInfo) -> NDArray[np.int64]:
    """Return the UTC of what the clocks of a zone showed, both `(N,)` microseconds.

    Of an hour that is shown twice the first is meant.
    """
    minutes, which = np.unique(naive // MINUTE, return_inverse=True)
    start = datetime(1970, 1, 1, tzinfo=zone)
    offsets = [(start + timedelta(minutes=int(minute))).utcoffset() for minute in minutes]
    utc: NDArray[np.int64] = naive - _microseconds(offsets)[which]
    return utc


def split_of(edition: Edition, day: int) -> Split | None:
    """Return the split of a day; without splits all are for training."""
    if not edition.splits:
        return "training"
    for split, days in edition.splits.items():
        if calendar(day) in days:
            return split
    return None


def calendar(day: int) -> date:
    """Return the date of a day counted from 1970-01-01."""
    return EPOCH + timedelta(days=day)


def _microseconds(offsets: list[timedelta | None]) -> NDArray[np.int64]:
    whole = [0 if offset is None else round(offset.total_seconds()) for offset in offsets]
    return np.array(whole, np.int64) * SECOND
