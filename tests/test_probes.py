"""Points to days: an oracle, a second rasteriser written apart, laws, and every refusal."""

import gzip
import hashlib
import json
import lzma
import math
import os
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from pipeline.alone import alone
from pipeline.catalog import read_edition
from pipeline.editions import City, Days, Edition
from pipeline.errors import CatalogError, InUseError, PointsError
from pipeline.probes import points as points_room
from pipeline.probes.days import to_utc, wall_clock
from pipeline.probes.rasterise import rasterise
from pipeline.probes.settings import Columns, Rasterising
from pipeline.probes.steps import quadrant_of

ROOT = Path(__file__).resolve().parent.parent
TAXI = ROOT.parent / "shared/data/sf_taxi"
AUSTIN = ROOT.parent / "shared/data/austin_bus"
needs_taxi = pytest.mark.skipif(not TAXI.is_dir(), reason=f"no taxi fixes at {TAXI}")
needs_austin = pytest.mark.skipif(not AUSTIN.is_dir(), reason=f"no bus positions at {AUSTIN}")

HEADINGS = {0: "none", 1: "NW", 85: "NE", 170: "SW", 255: "SE"}
CITY = City("Tiny", 47.0, 47.1, 9.0, 9.06)  # ten rows and six columns of 0.01 degrees
TINY = Edition(
    "tiny",
    "Tiny",
    10,
    6,
    ("volume", "speed", "heading"),
    (CITY,),
    bin_minutes=30,
    headings=HEADINGS,
)
SETTINGS = Rasterising(points=("*.parquet",))
NOON = datetime(2018, 1, 2, 12, tzinfo=UTC)


def plain(rows, edition, city, metres_east, *, zone="UTC"):
    """A rasteriser in plain loops, on its own: rows of (vehicle, seconds, latitude, longitude)."""
    cells, why, previous = {}, Counter(), {}
    up, across = edition.height, edition.width
    for vehicle, second, lat, lon in sorted(rows):
        before, previous[vehicle] = previous.get(vehicle), (second, lat, lon)
        if before is None:
            why["first fix of its vehicle"] += 1
            continue
        took, north, east = second - before[0], lat - before[1], lon - before[2]
        if took == 0:
            why["same second as the previous fix"] += 1
            continue
        kmh = math.hypot(north * 111_320, east * metres_east) / took * 3.6
        south_up = (round(lat * 1e7) - round(city.lat_min * 1e7)) * up
        south_up //= round(city.lat_max * 1e7) - round(city.lat_min * 1e7)
        column = (round(lon * 1e7) - round(city.lon_min * 1e7)) * across
        column //= round(city.lon_max * 1e7) - round(city.lon_min * 1e7)
        if took > 180:
            why["step too long"] += 1
        elif kmh >= 130:
            why["too fast"] += 1
        elif not (0 <= south_up < up and 0 <= column < across):
            why["outside the grid"] += 1
        else:
            why["used"] += 1
            clock = datetime.fromtimestamp(second, ZoneInfo(zone))
            frame = (clock.hour * 60 + clock.minute) // edition.bin_minutes
            bearing = math.degrees(math.atan2(east, north)) % 360
            where = (clock.strftime("%Y%m%d"), frame, up - 1 - south_up, column)
            cells.setdefault(where, []).append((kmh, int(bearing // 90)))
    days = {}
    for (day, *where), fixes in cells.items():
        if day not in days:
            days[day] = np.zeros(edition.day_shape, np.uint8)
        kmh = sum(kmh for kmh, _ in fixes) / len(fixes)
        votes = [sum(q == quadrant for _, q in fixes) for quadrant in range(4)]
        heading = (85, 255, 170, 1)[votes.index(max(votes))]
        volume, speed = min(8 * len(fixes), 255), min(max(round(kmh * 2.125), 1), 255)
        days[day][tuple(where)] = volume, speed, heading
    return days, why


def walk(seed=0, vehicles=7, fixes=60, start=NOON, box=CITY):
    """Fixes of some vehicles that wander in and out of the box, with gaps, jumps and stops."""
    rng = np.random.default_rng(seed)
    rows = []
    for vehicle in range(vehicles):
        lat, lon = rng.uniform(box.lat_min, box.lat_max), rng.uniform(box.lon_min, box.lon_max)
        second = int(start.timestamp()) + int(rng.integers(0, 600))
        for _ in range(fixes):
            rows.append((f"taxi {vehicle}", second, round(lat, 5), round(lon, 5)))
            second += int(rng.choice([1, 30, 60, 90, 180, 181, 0], p=[0.05, *[0.18] * 5, 0.05]))
            lat, lon = lat + rng.normal(0, 0.008), lon + rng.normal(0, 0.008)
            lat = min(max(lat, box.lat_min - 0.01), box.lat_max + 0.01)
            lon = min(max(lon, box.lon_min - 0.01), box.lon_max + 0.01)
    return rows


def table(rows, **columns):
    frame = pd.DataFrame(rows, columns=["vehicle", "time", "latitude", "longitude"])
    return frame.assign(time=pd.to_datetime(frame.time, unit="s", utc=True), **columns)


def write(folder, rows, name="points.parquet", **columns):
    folder.mkdir(parents=True, exist_ok=True)
    table(rows, **columns).to_parquet(folder / name)
    return folder


def run(folder, edition=TINY, chosen=SETTINGS, *, workers=1, out="out", **more):
    return rasterise(
        edition, edition.cities[0], chosen, folder / out, base=folder, workers=workers, **more
    )


def frames_of(folder, report, out="out"):
    days = {}
    for day in report.days:
        with h5py.File(folder / out / day.file) as file:
            days[day.day] = file["array"][:]
    return days


def checksums(folder, out="out"):
    files = (folder / out).rglob("*.h5")
    return {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def metres_east(city, latitude=None):
    middle = (city.lat_min + city.lat_max) / 2 if latitude is None else latitude
    return 111_320 * math.cos(math.radians(middle))


def assert_same_days(found, expected):
    assert found.keys() == expected.keys()
    for day, frames in expected.items():
        np.testing.assert_array_equal(found[day], frames, err_msg=day)


# --- against others -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hour(tmp_path_factory):
    """The fixes of 17:50 to 19:00 local time on 2008-05-31, as a file and as rows."""
    frame = pd.concat(pd.read_parquet(TAXI / f"2008-{d}.parquet") for d in ("05-31", "06-01"))
    first = pd.Timestamp("2008-05-31 17:50", tz="America/Los_Angeles")
    frame = frame[(frame.time >= first) & (frame.time < first + pd.Timedelta("70min"))]
    folder = tmp_path_factory.mktemp("hour")
    frame.to_parquet(folder / "hour.parquet")
    columns = (
        frame.vehicle.astype(str),
        frame.time.dt.as_unit("s").astype("int64"),
        frame.latitude,
        frame.longitude,
    )
    rows = list(zip(*(column.tolist() for column in columns), strict=True))
    return folder, rows


@needs_taxi
@pytest.mark.parametrize("latitude", [None, 37.77])
def test_an_hour_of_taxis_equals_a_plain_loop_to_the_byte(hour, latitude):
    folder, rows = hour
    edition = read_edition("sf_taxi")
    city = edition.cities[0]
    report = run(folder, edition, replace(SETTINGS, reference_latitude=latitude), workers=2)
    east = metres_east(city, latitude)
    days, why = plain(rows, edition, city, east, zone="America/Los_Angeles")
    assert_same_days(frames_of(folder, report), days)
    assert {**report.dropped, "used": report.used} == dict(why)


@needs_taxi
def test_an_hour_of_taxis_equals_the_reference_but_for_fixes_on_the_edge_of_a_cell(hour):
    """The reference cuts cells in floats: a fix right on an edge may fall to either side there."""
    folder, rows = hour
    edition = read_edition("sf_taxi")
    with np.load(TAXI / "reference_2008-05-31_1800_local.npz") as file:
        reference = file["heatmap"].astype(int)
    edge = np.zeros(reference.shape[:3], bool)
    start = min(second for _, second, *_ in rows) // 600 * 600 + 600  # 18:00
    for _, second, lat, lon in rows:
        south_up, above = divmod(round(lat * 1e5) - 3768100, 100)
        column, beyond = divmod(round(lon * 1e5) + 12251000, 100)
        for row in {127 - south_up, 127 - south_up + (above == 0)}:
            for col in {column, column - (beyond == 0)}:
                inside = second >= start and 0 <= row < 128 and 0 <= col < 128
                if inside and 0 in {above, beyond}:
                    edge[(second - start) // 300, row, col] = True
    sure = reference[~edge]
    assert (sure[:, 0] > 0).sum() > 10_000  # of 11,677 active cells
    for latitude, off_by_one in ((37.77, 0), (None, 0.02)):
        report = run(folder, edition, replace(SETTINGS, reference_latitude=latitude))
        found = frames_of(folder, report)["20080531"][216:228].astype(int)
        assert abs(found[..., 0].sum() - reference[..., 0].sum()) < 0.001 * reference[..., 0].sum()
        difference = found[~edge] - sure
        assert not difference[:, 0].any()
        assert not difference[:, 2].any()
        assert np.abs(difference[:, 1]).max() <= 1
        assert (difference[:, 1] != 0).sum() <= off_by_one * (sure[:, 0] > 0).sum()


@pytest.mark.parametrize("seed", range(3))
def test_wandering_vehicles_equal_a_plain_loop(tmp_path, seed):
    rows = walk(seed, start=NOON + timedelta(hours=11, minutes=30))
    report = run(write(tmp_path, rows))
    days, why = plain(rows, TINY, CITY, metres_east(CITY))
    assert len(days) == 2
    assert_same_days(frames_of(tmp_path, report), days)
    assert {**report.dropped, "used": report.used} == dict(why)
    assert min(why.values()) > 0
    assert len(why) == 6


# --- laws -----------------------------------------------------------------------------------------


def test_every_row_is_used_or_dropped_for_one_reason(tmp_path):
    rows = walk(start=datetime(2018, 1, 1, 23, 50, tzinfo=UTC))
    frame = table([*rows, *rows[5:8]])
    frame.loc[3, "latitude"] = np.nan
    frame.loc[10, "vehicle"] = None
    frame.loc[12, "time"] = pd.NaT
    frame.loc[20, "longitude"] = 180.5
    frame.loc[21, "latitude"] = np.inf
    frame.to_parquet(tmp_path / "points.parquet")
    days = {"training": Days(date(2018, 1, 2), date(2018, 1, 5))}
    report = run(tmp_path, replace(TINY, splits=days))
    assert report.read == len(frame) == report.used + sum(report.dropped.values())
    assert report.dropped["missing value"] == 3
    assert report.dropped["impossible position"] == 2
    assert report.dropped["copy of another row"] in {2, 3}  # or its day is outside
    assert report.dropped["outside the splits' days"] > 10
    assert [day.day for day in report.days] == ["20180102"]
    saved = json.loads((tmp_path / "out/Tiny/rasterise.json").read_text())
    assert (saved["read"], saved["used"], saved["dropped"]) == (
        report.read,
        report.used,
        report.dropped,
    )


@pytest.mark.parametrize("chosen", [SETTINGS, replace(SETTINGS, interpolate=True)])
def test_volume_is_eight_times_the_fixes_where_nothing_is_capped(tmp_path, chosen):
    report = run(write(tmp_path, walk()), chosen=chosen)
    volume = sum(frames[..., 0].sum() for frames in frames_of(tmp_path, report).values())
    assert not sum(day.capped for day in report.days)
    assert volume == 8 * (report.used + report.filled)
    assert (report.filled > 0) == chosen.interpolate


def test_volume_scale_and_cap_are_chosen(tmp_path):
    write(tmp_path, walk())
    one = frames_of(tmp_path, run(tmp_path, chosen=replace(SETTINGS, volume_per_fix=1)))["20180102"]
    chosen = replace(SETTINGS, volume_per_fix=20.5, volume_cap=50)
    report = run(tmp_path, chosen=chosen)
    many = frames_of(tmp_path, report)["20180102"]
    expected = np.minimum(np.rint(one[..., 0] * 20.5), 50)
    np.testing.assert_array_equal(many[..., 0], expected)
    np.testing.assert_array_equal(many[..., 1:], one[..., 1:])
    assert report.days[0].capped == (expected == 50).sum() > 0
    faint = frames_of(tmp_path, run(tmp_path, chosen=replace(SETTINGS, volume_per_fix=0.01)))
    np.testing.assert_array_equal(faint["20180102"][..., 0], one[..., 0] > 0)


def test_nothing_depends_on_order_files_pieces_formats_or_workers(tmp_path, monkeypatch):
    rows = [*walk(start=NOON + timedelta(hours=11, minutes=40)), *walk(1)]
    same_time = [(v, s, round(lat + 0.003, 5), lon) for v, s, lat, lon in rows[::40]]
    rows = [*rows, *same_time]  # two fixes of a vehicle at one time: one of them is first, always
    chosen = replace(SETTINGS, points=("*.parquet", "*.csv*"), interpolate=True)
    folder = write(tmp_path / "a", rows[::2], "x.parquet")
    table(rows[1::2]).to_csv(folder / "y.csv", index=False)
    first = run(tmp_path / "a", chosen=chosen)
    shuffled = table(rows).sample(frac=1, random_state=0)
    monkeypatch.setattr(points_room, "PIECE_ROWS", 50)
    monkeypatch.setattr(points_room, "BATCH_ROWS", 17)
    for number, workers in enumerate((1, 2, 3)):
        folder = tmp_path / f"b{number}"
        folder.mkdir()
        again = shuffled.sample(frac=1, random_state=number)
        parts = [again[quarter::4] for quarter in range(4)]
        parts[0].to_parquet(folder / "x.parquet", row_group_size=23)
        parts[1].astype({"vehicle": "category"}).to_parquet(folder / "y.parquet", row_group_size=31)
        parts[2].to_csv(folder / "z.csv", index=False)
        packed = ("z.csv.gz", "z.csv.xz", "z.csv.bz2")[number]
        parts[3].to_csv(folder / packed, index=False)
        report = run(folder, chosen=chosen, workers=workers)
        assert checksums(folder) == checksums(tmp_path / "a")
        assert (report.used, report.dropped, report.filled) == (
            first.used,
            first.dropped,
            first.filled,
        )
        assert report.fingerprint != first.fingerprint


@pytest.mark.parametrize("interpolate", [False, True])
def test_a_step_across_midnight_counts_like_any_other(tmp_path, interpolate):
    chosen = replace(SETTINGS, interpolate=interpolate)
    rows = walk(5)
    noon = run(write(tmp_path / "noon", rows), chosen=chosen)
    (day,) = frames_of(tmp_path / "noon", noon).values()
    shift = timedelta(hours=11)
    late = [(v, s + int(shift.total_seconds()), *at) for v, s, *at in rows]
    night = run(write(tmp_path / "night", late), chosen=chosen)
    two = np.concatenate(list(frames_of(tmp_path / "night", night).values()))
    assert len(night.days) == 2
    assert min(day.used for day in night.days) > 20
    assert (night.used, night.dropped, night.filled) == (noon.used, noon.dropped, noon.filled)
    if not interpolate:  # else the part of a step before midnight goes with its end
        np.testing.assert_array_equal(two[22:70], day)
    assert two[..., 0].sum() == day[..., 0].sum()


def test_the_fix_before_the_first_day_of_a_split_still_starts_a_step(tmp_path):
    rows = [("a", int(NOON.timestamp()) + s, 47.05, 9.03) for s in range(-43260, -43080, 60)]
    days = {"validation": Days(date(2018, 1, 2), date(2018, 1, 2))}
    report = run(write(tmp_path, rows), replace(TINY, splits=days))
    assert report.dropped == {"outside the splits' days": 1}
    assert [(day.split, day.used) for day in report.days] == [("validation", 2)]


@pytest.mark.parametrize("interpolate", [False, True])
def test_a_rotated_city_is_the_same_city_turned(tmp_path, interpolate):
    chosen = replace(SETTINGS, interpolate=interpolate)
    write(tmp_path, walk(3))
    upright = frames_of(tmp_path, run(tmp_path, chosen=chosen))["20180102"]
    turned = replace(TINY, height=6, width=10, cities=(replace(CITY, rotated=True),))
    report = run(tmp_path, turned, chosen, out="turned")
    found = frames_of(tmp_path, report, "turned")["20180102"]
    np.testing.assert_array_equal(found, upright[:, :, ::-1].transpose(0, 2, 1, 3))


def test_interpolation_fills_the_cells_between_in_the_frame_of_the_moment(tmp_path):
    start = int(NOON.timestamp()) + 1800 - 90  # half of the step lies in the next half hour
    rows = [("a", start, 47.055, 9.005), ("a", start + 180, 47.055, 9.055)]
    report = run(write(tmp_path, rows), chosen=replace(SETTINGS, interpolate=True))
    frames = frames_of(tmp_path, report)["20180102"]
    east = metres_east(CITY) * 0.05 / 180 * 3.6 * 2.125
    assert [tuple(where) for where in np.argwhere(frames[..., 0])] == [
        (24, 4, 1), (24, 4, 2), (25, 4, 3), (25, 4, 4), (25, 4, 5),
    ]  # fmt: skip
    assert set(map(tuple, frames[frames[..., 0] > 0].tolist())) == {(8, round(east), 255)}
    assert (report.used, report.filled) == (1, 4)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6))
def test_interpolation_finds_the_cells_that_a_fine_walk_meets(tmp_path_factory, seed):
    folder = tmp_path_factory.mktemp("path")
    rng = np.random.default_rng(seed)
    lat, lon = rng.uniform(46.99, 47.11, 2), rng.uniform(8.99, 9.07, 2)
    rows = [("a", int(NOON.timestamp()) + 60 * n, lat[n], lon[n]) for n in range(2)]
    rows += [("b", int(NOON.timestamp()) + 60 * n, 47.001, 9.001) for n in range(2)]
    limits = replace(SETTINGS, interpolate=True, max_speed_kmh=None)
    report = run(write(folder, rows), chosen=limits)
    found = frames_of(folder, report)["20180102"][24, ..., 0].astype(int) // 8
    found[9, 0] -= 1  # vehicle b's
    share = np.linspace(0, 1, 20_001)
    south_up = np.floor((lat[0] + share * (lat[1] - lat[0]) - 47) * 100).astype(int)
    west_up = np.floor((lon[0] + share * (lon[1] - lon[0]) - 9) * 100).astype(int)
    met = set(zip((9 - south_up).tolist(), west_up.tolist(), strict=True))
    met -= {(9 - int(south_up[0]), int(west_up[0]))}
    met = {(r, c) for r, c in met if 0 <= r < 10 and 0 <= c < 6}
    marked = set(map(tuple, np.argwhere(found).tolist()))
    assert found.max(initial=0) <= 1
    assert met <= marked
    assert len(marked - met) <= 1  # a corner that was cut by less than the walk's stride


@given(north=st.floats(-1, 1, allow_subnormal=False), east=st.floats(-1, 1, allow_subnormal=False))
def test_quadrants_are_those_of_the_bearing(north, east):
    bearing = math.degrees(math.atan2(east, north)) % 360
    if min(bearing % 90, 90 - bearing % 90) > 1e-9:
        assert quadrant_of(np.array([north]), np.array([east])) == [int(bearing // 90)]


def test_a_quadrant_starts_with_its_first_edge_and_a_stop_heads_north_east():
    north, east = np.array([1, 0, -1, 0, 0.0, -0.0]), np.array([0, 1, 0, -1, 0.0, -0.0])
    assert quadrant_of(north, east).tolist() == [0, 1, 2, 3, 0, 0]


# --- the clock ------------------------------------------------------------------------------------


@given(
    second=st.integers(-(10**9), 3 * 10**9),
    name=st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kathmandu", "Australia/Lord_Howe"]),
)
def test_the_wall_clock_is_the_one_people_see(second, name):
    zone = ZoneInfo(name)
    seen = datetime.fromtimestamp(second, zone)
    day, minute = wall_clock(np.array([second * 1_000_000 + 999_999]), zone)
    assert date(1970, 1, 1) + timedelta(days=int(day[0])) == seen.date()
    assert minute[0] == seen.hour * 60 + seen.minute
    naive = np.array([(seen.replace(tzinfo=None) - datetime(1970, 1, 1)) // timedelta(seconds=1)])
    if seen.fold == 0:
        assert to_utc(naive * 1_000_000, zone)[0] == second * 1_000_000


def test_days_of_23_and_25_hours_keep_every_fix_and_step(tmp_path):
    city = replace(TINY, time_zone="Europe/Berlin")
    rows = []
    for day in (datetime(2018, 3, 25), datetime(2018, 10, 28)):
        midnight = int(day.replace(tzinfo=ZoneInfo("Europe/Berlin")).timestamp())
        rows += [("a", midnight + s, 47.05, 9.03) for s in range(-60, 26 * 3600, 60)]
    report = run(write(tmp_path, rows), city)
    days = frames_of(tmp_path, report)
    spring, autumn = days["20180325"], days["20181028"]
    assert report.dropped == {"first fix of its vehicle": 1, "step too long": 1}
    hour = spring[..., 0].sum((1, 2)).reshape(24, 2)
    assert (np.flatnonzero(hour.sum(1) == 0) == [2]).all()
    assert [day.used for day in report.days if day.day in {"20180325", "20181028"}] == [1380, 1500]
    assert autumn[..., 0].max((1, 2)).tolist() == [240] * 4 + [255] * 2 + [240] * 42


def test_times_without_a_zone_are_those_of_the_zone_that_is_named(tmp_path):
    rows = walk()
    write(tmp_path / "zoned", rows)
    here = table(rows)
    here["time"] = here.time.dt.tz_convert("America/New_York").dt.tz_localize(None)
    chosen = replace(SETTINGS, points=("*",), naive_time_zone="America/New_York")
    for name in ("p.parquet", "p.csv"):
        folder = tmp_path / name
        folder.mkdir()
        here.to_parquet(folder / name) if "parq" in name else here.to_csv(
            folder / name, index=False
        )
        run(folder, chosen=chosen)
        run(tmp_path / "zoned")
        assert checksums(folder) == checksums(tmp_path / "zoned")


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_times_may_be_counted(tmp_path, unit):
    rows = walk()
    run(write(tmp_path / "zoned", rows))
    folder = tmp_path / "counted"
    folder.mkdir()
    factor = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    counted = table(rows).assign(time=[row[1] * factor for row in rows])
    half = len(counted) // 2
    counted[:half].to_parquet(folder / "a.parquet")
    counted[half:].to_csv(folder / "b.csv", index=False)
    run(folder, chosen=replace(SETTINGS, points=("*.parquet", "*.csv"), time_unit=unit))
    assert checksums(folder) == checksums(tmp_path / "zoned")


# --- what is measured -----------------------------------------------------------------------------


@pytest.mark.parametrize(("unit", "factor"), [("km/h", 1), ("m/s", 3.6), ("mph", 1.609344)])
def test_a_measured_speed_is_used_in_place_of_the_step(tmp_path, unit, factor):
    rows = walk()
    write(tmp_path, rows, mine=60 / factor)
    columns = Columns(speed="mine")
    plainly = frames_of(tmp_path, run(tmp_path))["20180102"]
    report = run(tmp_path, chosen=replace(SETTINGS, columns=columns, speed_unit=unit))
    found = frames_of(tmp_path, report)["20180102"]
    assert set(np.unique(found[..., 1])) == {0, 128}
    np.testing.assert_array_equal(found[..., ::2], plainly[..., ::2])
    assert report.days[0].speed_ratio is not None


def test_a_fix_that_measures_both_needs_no_step(tmp_path):
    rows = [(f"v{n}", int(NOON.timestamp()), 47.05, 9.03) for n in range(9)]
    speed = [10.0, 20, 30, 130, -1, np.inf, np.nan, 40, 50]
    heading = [0.0, 95, 360, 10, 10, 10, 10, 400, np.nan]
    write(tmp_path, rows, kmh=speed, deg=heading)
    columns = Columns(speed="kmh", heading="deg")
    report = run(tmp_path, chosen=replace(SETTINGS, columns=columns))
    assert report.used == 3
    assert report.dropped == {
        "impossible speed or heading": 3, "first fix of its vehicle": 2, "too fast": 1,
    }  # fmt: skip
    frames = frames_of(tmp_path, report)["20180102"]
    assert frames[frames[..., 0] > 0].tolist() == [[24, round(20 * 2.125), 85]]


@needs_austin
def test_austins_buses_as_published(tmp_path):
    chosen = Rasterising(
        points=(str(AUSTIN / "2016-05-30.csv.xz"),),
        columns=Columns("vehicle_id", "timestamp", speed="speed"),
        speed_unit="m/s",
    )
    city = City("Austin", 30.2, 30.456, -97.85, -97.594)
    austin = replace(TINY, height=256, width=256, cities=(city,), time_zone="America/Chicago")
    report = run(tmp_path, austin, chosen)
    assert report.read == 11_071
    assert report.used > 5_000
    assert [day.day for day in report.days] == ["20160530"]


# --- again, and after a kill ----------------------------------------------------------------------


def test_a_second_run_does_nothing_until_something_changes(tmp_path):
    rows = [*walk(), *walk(start=NOON + timedelta(days=1))]
    folder = write(tmp_path, rows)
    first = run(folder)
    times = {f: f.stat().st_mtime_ns for f in (folder / "out").rglob("*") if f.is_file()}
    again = run(folder, progress=lambda *told: pytest.fail(str(told)))
    assert again == replace(first, unchanged=True)
    os.utime(folder / "points.parquet")  # touched, but not changed
    assert run(folder).unchanged
    assert {f: f.stat().st_mtime_ns for f in times} == times
    assert not list(folder.rglob(".rasterise"))

    (folder / "out" / first.days[0].file).unlink()
    assert not run(folder).unchanged
    assert run(folder).unchanged

    write(folder, rows[:-1])
    changed = run(folder)
    assert (changed.unchanged, changed.read) == (False, first.read - 1)

    write(folder, walk())  # one day less: its file goes too
    assert [day.day for day in run(folder).days] == ["20180102"]
    assert list(checksums(folder)) == ["20180102_100m_bins.h5"]

    assert not run(folder, chosen=replace(SETTINGS, max_step_seconds=90)).unchanged
    assert not run(folder, replace(TINY, bin_minutes=15)).unchanged


def test_one_run_at_a_time(tmp_path):
    folder = write(tmp_path, walk())
    lock = folder / "out/.Tiny.rasterise.lock"
    with alone(lock, folder, "rasterise"), pytest.raises(InUseError, match="another run"):
        run(folder)
    run(folder)


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path[:0] = sys.argv[1:3]
import test_probes as t
moment, flush = int(sys.argv[4]), os.fsync
def fsync(descriptor):
    global moment
    moment -= 1
    if moment == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    flush(descriptor)
os.fsync = fsync
t.run(Path(sys.argv[3]), chosen=t.replace(t.SETTINGS, points=("*.parquet",)), workers=2)
"""


def test_a_killed_run_leaves_whole_files_and_the_next_one_the_same_ones(tmp_path):
    rows = [row for days in range(3) for row in walk(days, start=NOON + timedelta(days=days))]
    expected = run(write(tmp_path / "calm", rows))
    for number, moment in enumerate((3, 8, 16, 23, 30, 36)):
        folder = write(tmp_path / f"killed{number}", rows)
        (folder / "points.parquet").write_bytes((tmp_path / "calm/points.parquet").read_bytes())
        command = [sys.executable, "-c", KILLED, str(ROOT), str(ROOT / "tests"), str(folder)]
        died = subprocess.run([*command, str(moment)], check=False, capture_output=True, text=True)
        assert died.returncode == -signal.SIGKILL, died.stderr
        assert checksums(folder).items() <= checksums(tmp_path / "calm").items()
        assert not (folder / "out/Tiny/rasterise.json").exists()
        told = []
        report = run(folder, progress=lambda *stage, told=told: told.append(stage))
        assert told[-1] == ("draw", 3, 3)
        assert checksums(folder) == checksums(tmp_path / "calm")
        assert (report.used, report.dropped) == (expected.used, expected.dropped)
        left = {f.name for f in (folder / "out").rglob("*") if f.suffix != ".h5" and f.is_file()}
        assert left == {"rasterise.json"}


def test_a_run_of_other_settings_that_was_killed_does_not_pass_for_the_first(tmp_path):
    folder = write(tmp_path, walk())
    run(folder)
    whole = checksums(folder)

    class StopError(Exception):
        pass

    def stop(stage, done, of):
        if stage == "draw":
            raise StopError

    with pytest.raises(StopError):
        run(folder, chosen=replace(SETTINGS, volume_per_fix=9), progress=stop)
    assert checksums(folder) != whole
    assert not run(folder).unchanged
    assert checksums(folder) == whole


# --- refusals -------------------------------------------------------------------------------------


def refused(folder, match, chosen=SETTINGS, edition=TINY):
    with pytest.raises(PointsError, match=match):
        run(folder, edition, chosen)
    assert not checksums(folder)


def csv(folder, text, name="points.csv"):
    (folder / name).write_text(text)
    return replace(SETTINGS, points=(name,))


GOOD = "a,2018-01-02T12:00:00Z,47.05,9.03\n"
HEADER = "vehicle,time,latitude,longitude\n"


AT = "2018-01-02T12:00:00"


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", r"points\.csv: empty"),
        (HEADER, r"points\.csv: holds no points"),
        (
            "id,time,lat,lon\n" + GOOD,
            r"no column 'vehicle', .*; it has \['id', 'time', 'lat', 'lon'",
        ),
        (HEADER.replace("time", "vehicle"), r"no column 'time'"),
        ("vehicle,time,latitude,longitude,time\n" + GOOD, r"two columns named 'time'"),
        (HEADER + GOOD + "a,soon,47.05,9.03\n", r"row 2: time is 'soon', expected a time like"),
        (HEADER + GOOD + f"a,{AT},47.05,9.03\n", rf"row 2: time is '{AT}', expected a time"),
        (HEADER + f"a,{AT},47.05,9.03\n", r"row 1: time is '2018.*expected a UTC offset.*naive"),
        (HEADER + "a,1514894400,47.05,9.03\n", r"row 1: time is '1514894400'"),
        (HEADER + GOOD * 3 + f"a,{AT}Z,north,9\n", r"row 4: latitude is 'north', expected a num"),
        (HEADER + GOOD + f"a,{AT}Z,47.05\n", r"points\.csv: damaged.*Expected 4 columns, got 3"),
        (HEADER + f"a,{AT}Z,9.03,47.05\n", r"latitude 47.0 to 47.1.*longitude swapped"),
        (HEADER + f"a,{AT}Z,4.03,7.05\n", r"points\.csv: no position lies in Tiny's box"),
    ],
)
def test_a_bad_csv_file_is_refused_by_name(tmp_path, text, match):
    refused(tmp_path, match, csv(tmp_path, text))
    assert not list(tmp_path.rglob(".rasterise"))


def test_a_time_in_another_unit_is_refused(tmp_path):
    chosen = csv(tmp_path, HEADER + "a,1514894400000,47.05,9.03\n")
    refused(
        tmp_path, r"row 1: time is '1514894400000'.*`time_unit`", replace(chosen, time_unit="s")
    )


def test_spellings_of_csv_files_that_are_fine(tmp_path):
    rows = walk()
    run(write(tmp_path / "plain", rows))
    text = table(rows).to_csv(index=False, sep=";", date_format="%Y-%m-%d %H:%M:%S UTC")
    text = "\ufeff" + text.replace(";47", "; 47").replace("\n", "\r\n").replace(
        "taxi 1", '"taxi 1"'
    )
    folder = tmp_path / "odd"
    folder.mkdir()
    (folder / "POINTS.CSV.GZ").write_bytes(gzip.compress(text.encode()))
    run(folder, chosen=replace(SETTINGS, points=("POINTS.CSV.GZ",), delimiter=";"))
    assert checksums(folder) == checksums(tmp_path / "plain")


def test_zstd_is_read_too(tmp_path):
    with pa.output_stream(tmp_path / "points.csv.zst", compression="zstd") as file:
        file.write((HEADER + GOOD).encode())
    assert run(tmp_path, chosen=replace(SETTINGS, points=("points.csv.zst",))).read == 1


def test_damaged_and_foreign_files_are_refused_by_name(tmp_path):
    good = write(tmp_path, walk()) / "points.parquet"
    whole = good.read_bytes()
    good.write_bytes(whole[:-200])
    refused(tmp_path, r"points\.parquet: truncated or damaged Parquet")
    good.write_bytes(b"vehicle,time\n")
    refused(tmp_path, r"points\.parquet: not a Parquet file")
    middle = len(whole) // 3
    good.write_bytes(whole[:100] + bytes(middle) + whole[100 + middle :])
    refused(tmp_path, r"points\.parquet: (truncated or )?damaged")
    packed = lzma.compress((HEADER + GOOD * 5000).encode())
    (tmp_path / "cut.csv.xz").write_bytes(packed[:-40])
    refused(tmp_path, r"cut\.csv\.xz: damaged", replace(SETTINGS, points=("cut.csv.xz",)))
    (tmp_path / "points.txt").write_text(HEADER)
    refused(tmp_path, r"points\.txt: cannot tell", replace(SETTINGS, points=("points.txt",)))


def test_parquet_columns_of_the_wrong_kind_are_refused_by_name(tmp_path):
    frame = table(walk())
    for change, match in (
        ({"time": frame.time.dt.tz_localize(None)}, r"row 1: time is '2018.*expected a UTC offset"),
        ({"time": frame.time.astype("int64")}, r"column 'time' holds int64.*`time_unit`"),
        ({"latitude": frame.time}, r"column 'latitude' holds timestamp.*expected a number"),
        ({"latitude": "x"}, r"row 1: latitude is 'x', expected a number"),
        ({"vehicle": [[1]] * len(frame)}, r"column 'vehicle' holds list"),
    ):
        frame.assign(**change).to_parquet(tmp_path / "points.parquet")
        refused(tmp_path, match)
    frame.drop(columns="vehicle").to_parquet(tmp_path / "points.parquet")
    refused(tmp_path, r"no column 'vehicle'; it has \['time', 'latitude', 'longitude'\]")
    frame[:0].to_parquet(tmp_path / "points.parquet")
    refused(tmp_path, r"points\.parquet: holds no points")


def test_missing_files_are_all_named(tmp_path):
    chosen = replace(SETTINGS, points=("none.csv", "no*.parquet"))
    refused(tmp_path, r"none\.csv: no such file\n.*no\*\.parquet: fits no file", chosen)


def test_one_swapped_file_among_good_ones_is_named(tmp_path):
    write(tmp_path, walk())
    write(tmp_path, [(v, s, lon, lat) for v, s, lat, lon in walk(1)], "swapped.parquet")
    refused(tmp_path, r"swapped\.parquet: no position lies in .* swapped$")


def test_points_of_other_days_than_the_splits_are_refused(tmp_path):
    write(tmp_path, walk())
    days = {"training": Days(date(2019, 1, 1), date(2019, 1, 31))}
    refused(
        tmp_path,
        r"days 2018-01-02 to 2018-01-02, none .* split of tiny",
        edition=replace(TINY, splits=days),
    )


def test_only_editions_of_2019s_channels_are_drawn(tmp_path):
    write(tmp_path, walk())
    with pytest.raises(CatalogError, match=r"channels \['volume', 'speed'\]"):
        run(tmp_path, replace(TINY, channels=("volume", "speed")))
    with pytest.raises(CatalogError, match="expected a code from 1 to 255 for NE, SW"):
        run(tmp_path, replace(TINY, headings={1: "NW", 255: "SE"}))


@pytest.mark.parametrize(
    "wrong",
    [
        {"points": []},
        {"points": ["a"], "max_step_seconds": 0},
        {"points": ["a"], "volume_cap": 256},
        {"points": ["a"], "speed_unit": "knots"},
        {"points": ["a"], "naive_time_zone": "Europe/Atlantis"},
        {"points": ["a"], "columns": {"vehicle": "time"}},
        {"points": ["a"], "colums": {}},
    ],
)
def test_settings_are_checked(wrong):
    with pytest.raises(ValidationError):
        TypeAdapter(Rasterising).validate_python(wrong, extra="forbid")


# --- buses: units by file, and vehicles that stand ------------------------------------------------


def as_csv(folder, name, rows, **columns):
    folder.mkdir(parents=True, exist_ok=True)
    table(rows, **columns).to_csv(folder / name, index=False)


BUSES = Rasterising(points=("*.csv",), columns=Columns(speed="speed"))


def two_days(folder, factors=(1.0, 1.0)):
    """Two days of buses that measure 20 and 40 km/h, each file's speeds divided by its factor."""
    for year, kmh, factor in ((2015, 20, factors[0]), (2016, 40, factors[1])):
        rows = walk(seed=year, start=NOON.replace(year=year))
        as_csv(folder, f"{year}-01-02.csv", rows, speed=kmh / factor)
    return folder


def test_files_of_different_units_are_the_same_days(tmp_path):
    plainly = frames_of(tmp_path / "a", run(two_days(tmp_path / "a"), chosen=BUSES))
    said = replace(BUSES, speed_unit={"2015-*": "mph", "2016-*": "m/s"})
    mixed = two_days(tmp_path / "b", (1.609344, 3.6))
    assert_same_days(frames_of(mixed, run(mixed, chosen=said)), plainly)
    assert {day: set(np.unique(f[..., 1])) for day, f in plainly.items()} == {
        "20150102": {0, round(20 * 2.125)},
        "20160102": {0, round(40 * 2.125)},
    }


def test_a_file_that_is_renamed_to_another_unit_is_drawn_anew(tmp_path):
    folder = two_days(tmp_path)
    chosen = replace(BUSES, speed_unit={"2015*": "mph", "2016*": "km/h"})
    before = run(folder, chosen=chosen)
    assert run(folder, chosen=chosen).unchanged
    (folder / "2015-01-02.csv").rename(folder / "2016-again.csv")
    (folder / "2016-01-02.csv").rename(folder / "2015-again.csv")
    after = run(folder, chosen=chosen)
    assert not after.unchanged
    assert (after.read, after.used) == (before.read, before.used)


def test_a_unit_that_is_not_said_once_is_refused_with_every_fault(tmp_path):
    folder = two_days(tmp_path)
    unit = {"201*": "mph", "*5-01*": "m/s", "2017-*": "km/h"}
    with pytest.raises(PointsError) as refused:
        run(folder, chosen=replace(BUSES, speed_unit=unit))
    assert "2015-01-02.csv: speed_unit has ['mph', 'm/s'] by several" in str(refused.value)
    assert "'2017-*' fits none of 2 files" in str(refused.value)
    with pytest.raises(PointsError, match="2016-01-02.csv: speed_unit has no pattern that fits"):
        run(folder, chosen=replace(BUSES, speed_unit={"2015-*": "mph"}))
    with pytest.raises(ValidationError):
        TypeAdapter(Rasterising).validate_python({"points": ["a"], "speed_unit": {"a": "knots"}})


@pytest.mark.parametrize("seed", range(3))
def test_a_vehicle_that_stands_keeps_its_last_heading(tmp_path, seed):
    rng = np.random.default_rng(seed)
    rows, headings, unmoved = [], {}, 0
    for vehicle in range(5):  # each in a cell of its own: its headings alone decide
        second, lat, lon, last = int(NOON.timestamp()), 47.015 + vehicle * 0.02, 9.015, None
        for fix in range(20):
            north, east = rng.choice([-1, 1], 2) * 1e-5 * (fix % 4 == 3 or rng.random() < 0.4)
            lat, lon = round(lat + north, 5), round(lon + east, 5)
            second += 1800 if fix == 0 else 120
            rows.append((f"bus {vehicle}", second, lat, lon))
            if fix and north:
                last = {(1, 1): 85, (-1, 1): 255, (-1, -1): 170, (1, -1): 1}[
                    int(np.sign(north)), int(np.sign(east))
                ]
            if fix and last is None:
                unmoved += 1
            elif fix:
                row = 9 - int((lat - 47.0) / 0.01)
                headings.setdefault((second % 86400 // 1800, row), []).append(last)
    write(tmp_path, rows)
    report = run(tmp_path, chosen=replace(SETTINGS, standing="last_heading"))
    assert report.dropped.get("stands, and has not moved yet", 0) == unmoved
    found = frames_of(tmp_path, report)["20180102"]
    assert (found[..., 0] > 0).sum() == len(headings)
    for (frame, row), codes in headings.items():
        most = max([85, 255, 170, 1], key=codes.count)
        assert found[frame, row, 1, 2] == most
    others = frames_of(tmp_path, run(tmp_path, out="plain"), "plain")["20180102"]
    assert (others[..., 2] == 85).sum() > (found[..., 2] == 85).sum()  # a stop heads north-east


@needs_austin
def test_austins_speeds_are_miles_an_hour_in_2015_and_metres_a_second_later(tmp_path):
    edition = read_edition("austin_bus")
    chosen = Rasterising(
        points=(str(AUSTIN / "2015-06-07.csv.xz"), str(AUSTIN / "2016-11-26.csv.xz")),
        columns=Columns("vehicle_id", "timestamp", speed="speed"),
        speed_unit={"2015-*": "mph", "2016-*": "m/s"},
        max_step_seconds=360,
        standing="last_heading",
    )
    report = run(tmp_path, edition, chosen)
    assert [(day.split, day.day) for day in report.days] == [
        ("training", "20150607"),
        ("validation", "20161126"),
    ]
    assert report.days[0].speed_ratio == pytest.approx(1, abs=0.01)  # in m/s it would be 2.24
    frames = frames_of(tmp_path, report)
    share = {day: (f[..., 0] > 0).mean() for day, f in frames.items()}
    assert all(0.002 < found < 0.02 for found in share.values()), share
    codes = frames["20161126"][..., 2]
    assert all((codes == code).sum() > 0.1 * (codes > 0).sum() for code in (1, 85, 170, 255))
