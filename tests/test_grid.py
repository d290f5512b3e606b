from __future__ import annotations

from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.catalog import read_edition
from pipeline.editions import City
from pipeline.grid import Grid
from tests.world import NORTH_UP, ROTATED, TINY

fifth = st.integers(0, 10**5)


def exact(city: City, height: int, width: int, lat: Fraction, lon: Fraction) -> tuple[int, int]:
    """The rule of the competition in exact fractions."""
    box = [Fraction(str(v)) for v in (city.lat_min, city.lat_max, city.lon_min, city.lon_max)]
    tall, wide = (width, height) if city.rotated else (height, width)
    north = (lat - box[0]) * tall // (box[1] - box[0])
    east = (lon - box[2]) * wide // (box[3] - box[2])
    return (height - 1 - east, width - 1 - north) if city.rotated else (height - 1 - north, east)


@given(st.sampled_from(["Berlin", "Moscow"]), fifth, fifth)
def test_cells_follow_the_rule_to_the_last_unit(name, north, east):
    city = read_edition("traffic4cast2019").city(name)
    lat = Fraction(str(city.lat_min)) + Fraction(north, 10**5) * Fraction(6, 10)
    lon = Fraction(str(city.lon_min)) + Fraction(east, 10**5) * Fraction(6, 10)
    row, column, inside = Grid(city, 495, 436).cells(np.array([float(lat)]), np.array([float(lon)]))
    expected = exact(city, 495, 436, lat, lon)
    assert bool(inside[0]) == (0 <= expected[0] < 495 and 0 <= expected[1] < 436)
    assert (row[0], column[0]) == expected


def test_corners_lie_where_the_organisers_put_them():
    north_up, rotated = (Grid.of(TINY, city) for city in (NORTH_UP, ROTATED))
    row, column, inside = north_up.cells(np.array([47.0105, 47.0005]), np.array([9.0005, 9.0065]))
    assert inside.all()
    assert list(zip(row, column, strict=True)) == [(0, 0), (10, 6)]
    # rotated: row 0 is the east edge, column 0 the north edge
    row, column, inside = rotated.cells(np.array([46.0065, 46.0005]), np.array([7.0105, 7.0005]))
    assert inside.all()
    assert list(zip(row, column, strict=True)) == [(0, 0), (10, 6)]


def test_centres_are_in_their_cells():
    for city in TINY.cities:
        grid = Grid.of(TINY, city)
        lat, lon = grid.latitudes(), grid.longitudes()
        if city.rotated:
            points = [(lat[c], lon[r]) for r in range(11) for c in range(7)]
        else:
            points = [(lat[r], lon[c]) for r in range(11) for c in range(7)]
        row, column, inside = grid.cells(*np.array(points).T)
        assert inside.all()
        assert list(zip(row, column, strict=True)) == [(r, c) for r in range(11) for c in range(7)]
