"""When people drive: the day's course, in the time they live by."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from pipeline.editions import City, Edition
from pipeline.synthetic.style import CityStyle

Floats = NDArray[np.float64]
MORNING, EVENING = 8.0, 17.4
"""Local hours of the two rush hours."""


@dataclass(frozen=True, slots=True)
class Course:
    """How much is driven at each frame `(T,)` of a day, as a share of a weekday's mean.

    Attributes:
        plateau: Traffic without aim.
        morning: What the morning rush adds.
        evening: What the evening rush adds.
    """

    plateau: Floats
    morning: Floats
    evening: Floats

    @property
    def total(self) -> Floats:
        """All of it."""
        return self.plateau + self.morning + self.evening


def local_clock(edition: Edition, city: City, day: date) -> tuple[Floats, NDArray[np.int64]]:
    """Return local hour (0 to 24) and weekday (Monday is 0) at the middle of each frame of a file.

    Frame 0 starts at midnight in the edition's time zone; people live in the city's.
    """
    midnight = datetime.combine(day, time(), ZoneInfo(edition.clock(city))).astimezone(UTC)
    home = ZoneInfo(city.time_zone or edition.clock(city))
    middles = (
        midnight + timedelta(minutes=edition.bin_minutes * (frame + 0.5))
        for frame in range(edition.frames_per_day)
    )
    moments = [middle.astimezone(home) for middle in middles]
    hours = [moment.hour + moment.minute / 60 + moment.second / 3600 for moment in moments]
    return np.array(hours), np.array([moment.weekday() for moment in moments])


def day_course(
    hours: Floats, weekdays: NDArray[np.int64], rng: np.random.Generator, style: CityStyle
) -> Course:
    """Return the course of one day, which is like other days of its kind but not the same."""
    lively = float(np.exp(rng.normal(0.0, style.day_variety)))
    rush = style.rush * rng.uniform(0.85, 1.15, 2)
    peaks = np.array([MORNING, EVENING]) + rng.normal(0.0, 0.15, 2)
    scale = lively / _weekday(np.arange(288) / 12, style).total.mean()
    course = _weekday(hours, style, rush, peaks)
    saturday, sunday = style.weekend
    level = np.where(weekdays == 5, saturday, np.where(weekdays == 6, sunday, 1.0)) * scale
    working = np.where(weekdays < 5, scale, 0.0)
    late = _plateau(hours - 1.5, style)  # nobody gets up early at the weekend
    plateau = np.where(weekdays < 5, course.plateau, late) * level
    return Course(plateau, course.morning * working, course.evening * working)


def _weekday(
    hours: Floats,
    style: CityStyle,
    rush: Floats | None = None,
    peaks: Floats | None = None,
) -> Course:
    morning, evening = (style.rush, style.rush) if rush is None else rush
    first, second = (MORNING, EVENING) if peaks is None else peaks
    return Course(
        _plateau(hours, style),
        morning * np.exp(-(((hours - first) / 1.0) ** 2)),
        evening * np.exp(-(((hours - second) / 1.4) ** 2)),
    )


def _plateau(hours: Floats, style: CityStyle) -> Floats:
    """Return the height of the day at local hours: a night, a day, slopes between them."""
    hours = hours % 24
    rise = 1.0 / (1.0 + np.exp((6.3 - hours) / 0.6))
    fall = 1.0 / (1.0 + np.exp((hours - 20.3) / 1.5))
    still_up = 1.0 / (1.0 + np.exp((hours + 24.0 - 20.3) / 1.5))  # since the evening before
    return np.asarray(style.night + (1.0 - style.night) * np.maximum(rise * fall, still_up))
