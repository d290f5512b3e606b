"""From a frame of a file to the hour and weekday that people live by."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from functools import cache
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from pipeline.editions import City, Edition


def local_hours(
    edition: Edition, city: City, day: str
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return weekday (Monday is 0) and hour of every frame of a day in the city's local time.

    Files of an edition with a clock of its own (UTC in 2019) are shifted; files that are cut by
    local midnight already, whose zone is the city's, are taken at their word.

    Returns:
        Two arrays `(T,)`.
    """
    weekday, minute = local_minutes(edition, city, day)
    return weekday, minute // 60


def local_minutes(
    edition: Edition, city: City, day: str
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return weekday and minute since midnight of every frame, `(T,)` each, in local time."""
    weekday, minute = _local_minutes(
        edition.day_of(day).isoformat(),
        edition.bin_minutes,
        edition.frames_per_day,
        edition.clock(city),
        city.time_zone or edition.clock(city),
    )
    return weekday.copy(), minute.copy()


@cache
def _local_minutes(
    day: str, minutes: int, frames: int, clock: str, zone: str
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    midnight = datetime.combine(datetime.fromisoformat(day), time())
    starts = [midnight + timedelta(minutes=minutes * frame) for frame in range(frames)]
    if clock != zone:
        here, there = ZoneInfo(clock), ZoneInfo(zone)
        starts = [s.replace(tzinfo=here).astimezone(UTC).astimezone(there) for s in starts]
    minute = [60 * s.hour + s.minute for s in starts]
    return np.array([s.weekday() for s in starts]), np.array(minute)
