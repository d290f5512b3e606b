"""A city of an edition, a stretch of days, a slot of a test: small facts, no I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo

from pydantic import Field

Natural = Annotated[int, Field(ge=0)]
Latitude = Annotated[float, Field(ge=-90, le=90)]
Longitude = Annotated[float, Field(ge=-180, le=180)]


@dataclass(frozen=True, slots=True)
class Slot:
    """A place of a test file.

    Attributes:
        day: Day as the release writes it; where only its weekday is told, a day of
            `Edition.undated_week`.
        first: First frame to forecast, counted from midnight on the edition's clock.
    """

    day: str
    first: int


@dataclass(frozen=True, slots=True)
class City:
    """A city of an edition.

    Attributes:
        name: As the release writes it in its paths.
        lat_min: South edge of the bounding box, degrees.
        lat_max: North edge.
        lon_min: West edge.
        lon_max: East edge.
        rotated: Rows run from east to west and columns from north to south (Moscow, Antwerp);
            else rows run from north to south and columns from west to east.
        test_slots: First frame to forecast of each test block of a day, in time order.
        slots_by_day: The same for days that have others, by the day as the release writes it; in
            the order of the test file, which need not be that of time.
        tested: Test files of it belong to the release.
        time_zone: IANA name of the zone people live in; used where a forecaster wants local time.
    """

    name: str
    lat_min: Latitude
    lat_max: Latitude
    lon_min: Longitude
    lon_max: Longitude
    rotated: bool = False
    test_slots: tuple[Natural, ...] = ()
    time_zone: str | None = None
    slots_by_day: dict[str, tuple[Natural, ...]] = field(default_factory=dict)
    tested: bool = True

    def __post_init__(self) -> None:
        if self.lat_min >= self.lat_max or self.lon_min >= self.lon_max:
            raise ValueError(
                f"{self.name}: an empty box, latitude {self.lat_min} to {self.lat_max}, "
                f"longitude {self.lon_min} to {self.lon_max}"
            )
        check_zone(self.time_zone)
        if list(self.test_slots) != sorted(set(self.test_slots)):
            raise ValueError(f"{self.name}: slots {list(self.test_slots)} are not in rising order")
        for day, slots in self.slots_by_day.items():
            if len(set(slots)) < len(slots):
                raise ValueError(f"{self.name}: slots {list(slots)} of {day} are not all different")
        if "/" in self.name or self.name in {"", ".", ".."}:
            raise ValueError(f"{self.name!r}: a city's name is a folder's name")


@dataclass(frozen=True, slots=True)
class Streets:
    """Where a city's street lines are, to be drawn on its maps.

    Attributes:
        file: GeoJSON, `{city}` in the path; maps are drawn without where it is not.
        credit: Whose lines they are, written on every map that shows them.
    """

    file: str
    credit: str

    def path(self, city: str) -> Path:
        """Return the file of a city."""
        return Path(self.file.replace("{city}", city))


@dataclass(frozen=True, slots=True)
class Days:
    """A stretch of days, both ends included.

    Attributes:
        first: Its first day.
        last: Its last.
        without: Days between them that are left out.
        also: Other stretches that belong to it, as where cities have days of different years.
    """

    first: date
    last: date
    without: tuple[date, ...] = ()
    also: tuple[Days, ...] = ()

    def __post_init__(self) -> None:
        if self.first > self.last:
            raise ValueError(f"days from {self.first} to {self.last}: the end is before the start")
        if beside := [str(day) for day in self.without if not self.first <= day <= self.last]:
            raise ValueError(f"days from {self.first} to {self.last} without {beside}: not in them")

    def __contains__(self, day: date) -> bool:
        here = self.first <= day <= self.last and day not in self.without
        return here or any(day in stretch for stretch in self.also)

    def meets(self, other: Days) -> bool:
        """Return whether two stretches overlap, from first days to last."""
        return any(
            mine.first <= theirs.last and theirs.first <= mine.last
            for mine in (self, *self.also)
            for theirs in (other, *other.also)
        )


def check_zone(name: str | None) -> None:
    """Refuse a time zone that is not one.

    Raises:
        ValueError: There is none of that name.
    """
    try:
        ZoneInfo(name or "UTC")
    except (KeyError, ValueError, OSError):
        raise ValueError(f"no time zone {name!r}; expected one like Europe/Berlin") from None
