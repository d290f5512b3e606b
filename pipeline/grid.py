"""Where a latitude and longitude fall on a city's grid, and where its cells lie."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.editions import City, Edition

UNITS_PER_DEGREE = 10_000_000
"""Positions are taken in whole units of 1e-7 degrees (about 1 cm), so that a fix which lies
exactly on the edge of a cell falls the same way on every machine."""


@dataclass(frozen=True, slots=True)
class Grid:
    """The cells of one city.

    Attributes:
        city: Its box, and whether it is rotated.
        height: Rows.
        width: Columns.
    """

    city: City
    height: int
    width: int

    @classmethod
    def of(cls, edition: Edition, city: City) -> Grid:
        """Return the grid of a city of an edition."""
        return cls(city, edition.height, edition.width)

    def cells(
        self, latitude: NDArray[np.float64], longitude: NDArray[np.float64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
        """Return row, column and whether the point is inside, for points `(N,)` in degrees.

        North-up cities: row 0 is the north edge, column 0 the west edge. Rotated ones: row 0 is
        the east edge, column 0 the north edge. Rows and columns of points outside mean nothing.
        """
        box = self.city
        south_up = _share(latitude, box.lat_min, box.lat_max, self._across_latitude)
        west_up = _share(longitude, box.lon_min, box.lon_max, self._across_longitude)
        if box.rotated:
            row, column = self.height - 1 - west_up, self.width - 1 - south_up
        else:
            row, column = self.height - 1 - south_up, west_up
        inside = (row >= 0) & (row < self.height) & (column >= 0) & (column < self.width)
        return row, column, inside

    def latitudes(self) -> NDArray[np.float64]:
        """Return the latitude of the cells' centres, from north to south."""
        return _centres(self.city.lat_min, self.city.lat_max, self._across_latitude)[::-1]

    def longitudes(self) -> NDArray[np.float64]:
        """Return the longitude of the cells' centres, in the order of their axis.

        From west to east along the columns; from east to west along a rotated city's rows.
        """
        centres = _centres(self.city.lon_min, self.city.lon_max, self._across_longitude)
        return centres[::-1] if self.city.rotated else centres

    @property
    def _across_latitude(self) -> int:
        return self.width if self.city.rotated else self.height

    @property
    def _across_longitude(self) -> int:
        return self.height if self.city.rotated else self.width


def _units(degrees: NDArray[np.float64] | float) -> NDArray[np.int64]:
    return np.rint(np.asarray(degrees, np.float64) * UNITS_PER_DEGREE).astype(np.int64)


def _share(degrees: NDArray[np.float64], low: float, high: float, cells: int) -> NDArray[np.int64]:
    """Return which of `cells` equal steps from `low` to `high` each value is in."""
    origin, end = _units(low), _units(high)
    share: NDArray[np.int64] = (_units(degrees) - origin) * cells // (end - origin)
    return share


def _centres(low: float, high: float, cells: int) -> NDArray[np.float64]:
    return np.asarray(low + (np.arange(cells) + 0.5) * ((high - low) / cells), np.float64)
