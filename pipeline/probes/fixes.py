"""Columns as a file has them to fixes of one fixed size, each checked."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.probes.days import wall_clock
from pipeline.probes.points import Batch, Column
from pipeline.probes.report import Reason
from pipeline.probes.settings import KMH, Rasterising
from pipeline.probes.times import to_times
from pipeline.probes.values import Place, plain, to_numbers, to_words

FIX = np.dtype(
    [
        ("vehicle", "<i4"),  # a number that stands for its name
        ("minute", "<i4"),  # of its day, on the wall clock
        ("time", "<i8"),  # microseconds since 1970-01-01 UTC
        ("latitude", "<f8"),  # degrees
        ("longitude", "<f8"),
        ("speed", "<f8"),  # measured, km/h; NaN where it was not
        ("heading", "<f8"),  # measured, degrees from 0 to below 360; NaN where it was not
    ]
)
Fixes = NDArray[np.void]
"""`(N,)` of `FIX`."""
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Usable:
    """What a batch holds that can be used.

    Attributes:
        fixes: `(N,)`, in the order of the rows.
        day: Day of each, counted from 1970-01-01 on the wall clock, `(N,)`.
        latitude: Of all rows that have a vehicle, a time and a position, possible or not.
        longitude: Theirs.
    """

    fixes: Fixes
    day: NDArray[np.int64]
    latitude: Floats
    longitude: Floats


@dataclass(slots=True)
class Reader:
    """Turns the batches of one piece into fixes and numbers its vehicles as they come.

    Attributes:
        settings: Columns and units.
        zone: Clock of the city's files.
        file: Where the batches are from, for messages.
        row: Row that the next batch starts with, counted from 1.
        vehicles: Number of each name.
        dropped: Rows that are no fixes.
    """

    settings: Rasterising
    zone: ZoneInfo
    file: str
    row: int = 1
    vehicles: dict[str, int] = field(default_factory=dict)
    dropped: Counter[Reason] = field(default_factory=Counter)

    def usable(self, batch: Batch) -> Usable:
        """Return what is usable of a batch and count the rest.

        Raises:
            PointsError: A time or a number cannot be read, or a time lacks its zone.
        """
        names = self.settings.columns
        fixes = np.empty(batch.num_rows, FIX)
        fixes["vehicle"] = self._numbered(batch.column(names.vehicle))
        fixes["time"], timed = to_times(
            plain(batch.column(names.time)), self.settings, self._place(names.time)
        )
        fixes["latitude"] = latitude = self._numbers(batch, names.latitude)
        fixes["longitude"] = longitude = self._numbers(batch, names.longitude)
        [unit] = self.settings.units_of(self.file)
        speed = self._numbers(batch, names.speed) * KMH[unit]
        heading = self._numbers(batch, names.heading)
        self.row += batch.num_rows

        whole = (fixes["vehicle"] >= 0) & timed & ~np.isnan(latitude) & ~np.isnan(longitude)
        placed = whole & (np.abs(latitude) <= 90) & (np.abs(longitude) <= 180)
        sane = ~((speed < 0) | np.isinf(speed) | (heading < 0) | (heading > 360))
        self.dropped[Reason.MISSING] += int((~whole).sum())
        self.dropped[Reason.POSITION] += int((whole & ~placed).sum())
        self.dropped[Reason.MEASURED] += int((placed & ~sane).sum())

        fixes["speed"], fixes["heading"] = speed, np.where(heading < 360, heading, heading - 360)
        kept = fixes[placed & sane]
        day, kept["minute"] = wall_clock(kept["time"], self.zone)
        return Usable(kept, day, latitude[whole], longitude[whole])

    def _numbered(self, column: Column) -> NDArray[np.int32]:
        """Return the number of each row's vehicle, -1 where it has none."""
        place = self._place(self.settings.columns.vehicle)
        if not pa.types.is_dictionary(column.type):
            column = to_words(column, place)
        encoded = column.dictionary_encode()
        words = to_words(encoded.dictionary, place).to_pylist()
        numbers = [self.vehicles.setdefault(w, len(self.vehicles)) if w else -1 for w in words]
        index = pc.fill_null(encoded.indices.cast(pa.int64()), len(words))
        numbered: NDArray[np.int32] = np.array([*numbers, -1], np.int32)[np.asarray(index)]
        return numbered

    def _numbers(self, batch: Batch, name: str | None) -> Floats:
        if name is None:
            return np.full(batch.num_rows, np.nan)
        return to_numbers(plain(batch.column(name)), self._place(name))

    def _place(self, name: str) -> Place:
        return Place(self.file, name, self.row)
