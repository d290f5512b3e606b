"""What a person chooses when a city is drawn from points."""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from math import cos, radians
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import Field

from pipeline.cities import City, Latitude

SpeedUnit = Literal["km/h", "m/s", "mph"]
TimeUnit = Literal["s", "ms", "us", "ns"]
KMH: dict[SpeedUnit, float] = {"km/h": 1.0, "m/s": 3.6, "mph": 1.609344}

Above = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Byte = Annotated[int, Field(ge=1, le=255)]


@dataclass(frozen=True, slots=True)
class Columns:
    """What the columns of the points are called.

    Attributes:
        vehicle: Whose fix it is; words or numbers.
        time: When; see `Rasterising.time_unit` and `naive_time_zone`.
        latitude: Degrees, north is positive.
        longitude: Degrees, east is positive.
        speed: Measured speed in `Rasterising.speed_unit`, if there is one.
        heading: Measured heading, degrees clockwise from north, if there is one.
    """

    vehicle: str = "vehicle"
    time: str = "time"
    latitude: str = "latitude"
    longitude: str = "longitude"
    speed: str | None = None
    heading: str | None = None

    def __post_init__(self) -> None:
        names = self.names()
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"a column cannot mean two things: {', '.join(twice)}")

    def names(self) -> list[str]:
        """Return the columns that are to be read."""
        given = (self.vehicle, self.time, self.latitude, self.longitude, self.speed, self.heading)
        return [name for name in given if name is not None]


@dataclass(frozen=True, slots=True)
class Rasterising:
    """How points become days; the grid, the bins and the clock are the edition's.

    A measured speed or heading is used where a fix has one, else that of its step from the same
    vehicle's previous fix. A fix that has both needs no step.

    Attributes:
        points: Files, or patterns such as `points/*.parquet`: Parquet, or CSV, plain or compressed
            with gzip, bzip2, xz or zstd. Relative ones are looked for where the run says.
        columns: What their columns are called.
        delimiter: Between the columns of a CSV file.
        time_unit: Unit of times that are numbers, counted from 1970-01-01 UTC.
        naive_time_zone: IANA zone of times that name none; without it such times are refused. An
            hour that the clocks show twice is taken as its first showing.
        speed_unit: Unit of the speed column; or, where files differ, the unit of each file by a
            pattern of its name, such as `{"2015-*": mph, "201[67]-*": m/s}`. Every file must fit
            one pattern, and every pattern a file.
        max_step_seconds: Steps that take longer do not count; null for no limit.
        max_speed_kmh: Steps and measured speeds that are not below it do not count; null for no
            limit.
        standing: Heading of a fix that stands where the previous one of its vehicle stood, where
            headings are those of steps: north-east, or that of the vehicle's last step of the day
            that moved and counts; without one the fix does not count.
        interpolate: Give a fix to the cells that an accepted step crosses, too: see `paths`.
        volume_per_fix: A cell's volume is this often its fixes, rounded, at least 1.
        volume_cap: And at most this.
        speed_full_scale_kmh: Speed of byte 255; faster is 255 as well, slower than 1 is 1.
        metres_per_degree: Of latitude; distances are equirectangular.
        reference_latitude: Where a degree of longitude is measured; by default the middle of the
            city's box.
        gzip: Compression of the day files, 0 to 9. 9 takes up to 20 times as long as 4 for a tenth
            of the size.
    """

    points: Annotated[tuple[str, ...], Field(min_length=1)]
    columns: Columns = field(default_factory=Columns)
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = ","
    time_unit: TimeUnit | None = None
    naive_time_zone: str | None = None
    speed_unit: SpeedUnit | dict[str, SpeedUnit] = "km/h"
    max_step_seconds: Above | None = 180.0
    max_speed_kmh: Above | None = 130.0
    standing: Literal["north_east", "last_heading"] = "north_east"
    interpolate: bool = False
    volume_per_fix: Above = 8.0
    volume_cap: Byte = 255
    speed_full_scale_kmh: Above = 120.0
    metres_per_degree: Above = 111_320.0
    reference_latitude: Latitude | None = None
    gzip: Annotated[int, Field(ge=0, le=9)] = 4

    def __post_init__(self) -> None:
        if self.naive_time_zone is not None:
            zone(self.naive_time_zone)

    def units_of(self, file: str) -> list[SpeedUnit]:
        """Return the units that a file's speeds are said to have, by its name: one, if all is well.

        Args:
            file: Its path, or its name.
        """
        if not isinstance(self.speed_unit, dict):
            return [self.speed_unit]
        name = Path(file).name
        return [unit for pattern, unit in self.speed_unit.items() if fnmatchcase(name, pattern)]

    def metres_east(self, city: City) -> float:
        """Return the length of a degree of longitude in a city, metres."""
        middle = (city.lat_min + city.lat_max) / 2
        latitude = middle if self.reference_latitude is None else self.reference_latitude
        return self.metres_per_degree * cos(radians(latitude))


def zone(name: str) -> ZoneInfo:
    """Return a time zone by its IANA name.

    Raises:
        ValueError: There is none.
    """
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError(f"no time zone {name!r}; expected one like Europe/Berlin") from None
