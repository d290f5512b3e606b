"""Laws of the synthetic city: repeatable, lawful bytes, like real traffic, whole releases."""

import hashlib
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.catalog import day_files, read_edition, release_days
from pipeline.editions import City, Edition
from pipeline.errors import CatalogError
from pipeline.heatmaps import read_frames, write_frames
from pipeline.synthetic import (
    CHANNELS_2020,
    HEADING_CODES,
    CityStyle,
    Movie,
    city_realism,
    city_streams,
    decode,
    draw_day,
    encode,
    encode_2019,
    encode_2020,
    plan_release,
    realism,
    write_release,
)
from pipeline.synthetic.clock import Course, local_clock
from pipeline.synthetic.headings import HEADINGS, OPPOSITE, bearing, heading_shares
from pipeline.synthetic.release import RECORD
from pipeline.synthetic.traffic import _city_streams, _jams

TUESDAY, SATURDAY = date(2018, 5, 15), date(2018, 5, 19)
SYNTHETIC = read_edition("synthetic")


def tiny(**changes) -> Edition:
    """Two towns on a grid with no two sizes equal."""
    towns = (
        City("Ahausen", 50.0, 50.023, 9.0, 9.017, test_slots=(57, 114), time_zone="Europe/Berlin"),
        City("Behausen", 51.0, 51.023, 8.0, 8.017, test_slots=(30, 69), time_zone="Asia/Tokyo"),
    )
    facts = {"height": 23, "width": 17, "channels": ("volume", "speed", "heading"), "cities": towns}
    return Edition("tiny", "Two towns", **{**facts, **changes})


TINY = tiny()
AHAUSEN = TINY.cities[0]


def digest(movie: Movie) -> str:
    columns = (movie.frame, movie.cell, movie.heading, movie.volume, movie.speed)
    return hashlib.sha256(b"".join(column.tobytes() for column in columns)).hexdigest()


# The same arguments, the same day.


def test_a_day_drawn_alone_is_the_day_drawn_after_others():
    draw_day(TINY, AHAUSEN, SATURDAY, seed=3)
    in_sequence = draw_day(TINY, AHAUSEN, TUESDAY, seed=3)
    _city_streams.cache_clear()
    assert digest(draw_day(TINY, AHAUSEN, TUESDAY, seed=3)) == digest(in_sequence)


def test_another_process_draws_the_same_bytes():
    code = (
        "from datetime import date; from pipeline.catalog import read_edition;"
        "from pipeline.synthetic import draw_day, encode; import hashlib;"
        "edition = read_edition('synthetic');"
        "day = draw_day(edition, edition.cities[0], date(2018, 5, 15), seed=3);"
        "print(hashlib.sha256(encode(day, edition).tobytes()).hexdigest())"
    )
    run = [sys.executable, "-c", code]
    root = Path(__file__).resolve().parent.parent
    other = subprocess.run(run, cwd=root, capture_output=True, text=True, check=True)
    day = draw_day(SYNTHETIC, SYNTHETIC.cities[0], TUESDAY, seed=3)
    here = hashlib.sha256(encode(day, SYNTHETIC).tobytes()).hexdigest()
    assert other.stdout.strip() == here


def test_seed_city_day_grid_and_dice_each_make_another_day():
    days = [
        draw_day(TINY, AHAUSEN, TUESDAY, seed=3),
        draw_day(TINY, AHAUSEN, TUESDAY, seed=4),
        draw_day(TINY, TINY.cities[1], TUESDAY, seed=3),
        draw_day(TINY, AHAUSEN, SATURDAY, seed=3),
        draw_day(tiny(width=19), AHAUSEN, TUESDAY, seed=3),
        draw_day(TINY, AHAUSEN, TUESDAY, seed=3, dice=1),
    ]
    assert len({digest(day) for day in days}) == len(days)


def test_other_dice_fall_on_the_same_rates():
    city = SYNTHETIC.cities[0]
    often = []
    for dice in (0, 1):
        movie = draw_day(SYNTHETIC, city, TUESDAY, seed=3, dice=dice)
        key = movie.cell * len(HEADINGS) + movie.heading
        often.append(np.bincount(key, minlength=99 * 87 * 4) / 288)
    assert np.corrcoef(*often)[0, 1] > 0.99


@settings(max_examples=12, deadline=None)
@given(st.integers(8, 40), st.integers(8, 40), st.integers(0, 2**40), st.booleans())
def test_any_grid_holds_a_lawful_day(height, width, seed, rotated):
    edition = tiny(height=height, width=width)
    movie = draw_day(edition, replace(AHAUSEN, rotated=rotated), TUESDAY, seed=seed)
    assert len(movie.frame) > 0
    assert movie.shape == (288, height, width)
    assert (np.diff(movie.frame) >= 0).all()
    assert movie.frame.min() >= 0
    assert movie.frame.max() < 288
    assert movie.cell.min() >= 0
    assert movie.cell.max() < height * width
    assert movie.volume.min() >= 1
    assert movie.speed.min() >= 1
    triples = (movie.frame.astype(np.int64) * height * width + movie.cell) * 4 + movie.heading
    assert len(np.unique(triples)) == len(triples)


def test_longer_bins_see_more():
    half_hours = tiny(bin_minutes=30, cities=(replace(AHAUSEN, test_slots=()),))
    long, short = (draw_day(each, AHAUSEN, TUESDAY, seed=3) for each in (half_hours, TINY))
    assert long.shape == (48, 23, 17)
    assert len(long.frame) / 48 > 1.5 * len(short.frame) / 288


# Encodings.


def slowly_encoded(movie: Movie) -> np.ndarray:
    """The three channels of 2019, one cell at a time."""
    frames = np.zeros((*movie.shape, 3), np.uint8)
    seen: dict[tuple[int, int], dict[str, tuple[int, int]]] = {}
    columns = (movie.frame, movie.cell, movie.heading, movie.volume, movie.speed)
    for frame, cell, heading, volume, speed in zip(*(c.tolist() for c in columns), strict=True):
        seen.setdefault((frame, cell), {})[HEADINGS[heading]] = (volume, speed)
    for (frame, cell), ways in seen.items():
        total = sum(volume for volume, _ in ways.values())
        mean = round(sum(volume * speed for volume, speed in ways.values()) / total)
        most = max(volume for volume, _ in ways.values())
        first = next(w for w in ("NE", "SE", "SW", "NW") if w in ways and ways[w][0] == most)
        code = {"NW": 1, "NE": 85, "SW": 170, "SE": 255}[first]
        frames[frame, cell // movie.shape[2], cell % movie.shape[2]] = min(total, 255), mean, code
    return frames


def test_three_channels_agree_with_a_slow_loop():
    movie = draw_day(TINY, AHAUSEN, TUESDAY, seed=3)
    np.testing.assert_array_equal(encode_2019(movie), slowly_encoded(movie))


def test_three_channels_are_lawful():
    volume, speed, heading = np.moveaxis(
        encode(draw_day(TINY, AHAUSEN, TUESDAY, seed=5), TINY), -1, 0
    )
    assert (volume > 0).any()
    np.testing.assert_array_equal(heading > 0, volume > 0)
    np.testing.assert_array_equal(speed > 0, volume > 0)
    assert set(np.unique(heading).tolist()) == {0, *HEADING_CODES.values()}


@pytest.mark.parametrize(
    ("ways", "code"),
    [("SE SW NW", 255), ("SW NW", 170), ("NW NE SW SE", 85), ("NW", 1)],
)
def test_ties_go_by_a_fixed_order(ways, code):
    headings = [HEADINGS.index(way) for way in ways.split()]
    count = len(headings)
    movie = Movie(
        (1, 3, 2),
        np.zeros(count, np.int16),
        np.full(count, 5, np.int32),
        np.array(headings, np.uint8),
        np.full(count, 100, np.uint8),
        np.full(count, 9, np.uint8),
    )
    assert encode_2019(movie)[0, 2, 1].tolist() == [min(255, 100 * count), 9, code]


def test_eight_channels_keep_everything():
    eight = tiny(channels=CHANNELS_2020)
    movie = draw_day(eight, AHAUSEN, TUESDAY, seed=3)
    frames = encode(movie, eight)
    assert frames.shape == (288, 23, 17, 8)
    np.testing.assert_array_equal(encode_2020(decode(frames, eight)), frames)
    three = encode_2019(movie)
    volume = np.minimum(frames[..., ::2].sum(-1, dtype=np.int64), 255)
    np.testing.assert_array_equal(three[..., 0], volume)


def test_three_channels_are_read_back_as_they_show_themselves():
    frames = encode(draw_day(TINY, AHAUSEN, TUESDAY, seed=3), TINY)
    movie = decode(frames, TINY)
    assert not movie.by_heading
    np.testing.assert_array_equal(encode(movie, TINY), frames)


def test_an_editions_own_heading_codes_are_used():
    codes = {0: "none", 10: "NE", 20: "NW", 30: "SE", 40: "SW"}
    frames = encode(draw_day(TINY, AHAUSEN, TUESDAY, seed=3), tiny(headings=codes))
    assert set(np.unique(frames[..., 2]).tolist()) == set(codes)


def test_channels_and_codes_that_cannot_be_drawn_are_refused_by_name():
    movie = draw_day(TINY, AHAUSEN, TUESDAY, seed=3)
    with pytest.raises(CatalogError, match=r"tiny.*'speed', 'volume'.*expected"):
        encode(movie, tiny(channels=("speed", "volume")))
    with pytest.raises(CatalogError, match=r"tiny.*NE.*a code for each"):
        encode(movie, tiny(headings={0: "none", 1: "NE"}))
    frames = encode(movie, TINY)
    frames[..., 2][frames[..., 2] == 85] = 84
    with pytest.raises(CatalogError, match=r"tiny.*84"):
        decode(frames, TINY)


# The city.


def test_opposite_carriageways_have_opposite_headings():
    ways = np.random.default_rng(0).normal(size=(2, 50))
    there = heading_shares(bearing(*ways), 14.0, 0.01)
    back = heading_shares(bearing(*-ways), 14.0, 0.01)
    swap = [HEADINGS.index(OPPOSITE[way]) for way in HEADINGS]
    np.testing.assert_allclose(back, there[:, swap], atol=1e-6)


@pytest.mark.parametrize(
    ("way", "rotated", "heading"),
    [((-1, 1), False, "NE"), ((1, -1), False, "SW"), ((-1, 1), True, "SE"), ((-1, -1), True, "NE")],
)
def test_headings_follow_the_compass_on_rotated_grids_too(way, rotated, heading):
    shares = heading_shares(bearing(*np.array(way, float)[:, None], rotated=rotated), 14.0, 0.01)
    assert HEADINGS[int(shares[0].argmax())] == heading


def test_carriageways_lie_side_by_side_and_run_against_each_other():
    streams = city_streams(SYNTHETIC, SYNTHETIC.cities[0], seed=3)
    segment = np.repeat(np.arange(len(streams.road)), np.diff(streams.first))
    road, backward = streams.road[segment], streams.backward[segment]
    swap = [HEADINGS.index(OPPOSITE[way]) for way in HEADINGS]
    busiest = np.argsort(-np.bincount(road, streams.rate))[:10]
    for number in busiest:
        sides = [np.flatnonzero((road == number) & (backward == side)) for side in (False, True)]
        there, back = (np.bincount(streams.heading[s], streams.rate[s], minlength=4) for s in sides)
        cosine = there @ back[swap] / np.linalg.norm(there) / np.linalg.norm(back)
        assert cosine > 0.8
        there, back = (np.stack(np.divmod(streams.cell[side], 87)) for side in sides)
        apart = np.abs(there[:, :, None] - back[:, None, :]).max(0).min(1)
        assert np.quantile(apart, 0.9) <= 3


def test_rush_hours_are_local_and_not_at_the_weekend():
    for zone in ("Europe/Zurich", "Asia/Kolkata", "America/Chicago"):
        city = replace(SYNTHETIC.cities[0], time_zone=zone)
        hours, weekdays = local_clock(SYNTHETIC, city, TUESDAY)
        utc = datetime(2018, 5, 15, 12, 2, 30, tzinfo=UTC)
        assert hours[144] == pytest.approx((utc.hour * 60 + 2.5 + offset(zone)) % 1440 / 60)
        busy = np.bincount(draw_day(SYNTHETIC, city, TUESDAY, seed=3).frame, minlength=288)
        tuesday = weekdays == 1
        rush = busy[(np.abs(hours - 8) < 0.75) & tuesday].mean()
        assert rush > 1.05 * busy[(np.abs(hours - 11) < 1) & tuesday].mean()
        assert rush > 3 * busy[(np.abs(hours - 3) < 1)].mean()
    city = SYNTHETIC.cities[0]
    hours, _ = local_clock(SYNTHETIC, city, SATURDAY)
    busy = np.bincount(draw_day(SYNTHETIC, city, SATURDAY, seed=3).frame, minlength=288)
    assert busy[np.abs(hours - 8) < 0.75].mean() < busy[np.abs(hours - 13) < 1].mean()


def offset(zone: str) -> int:
    return {"Europe/Zurich": 120, "Asia/Kolkata": 330, "America/Chicago": -300}[zone]


def test_the_morning_goes_in_and_the_evening_out():
    city = SYNTHETIC.cities[0]
    streams = city_streams(SYNTHETIC, city, seed=3)
    segment = np.repeat(np.arange(len(streams.road)), np.diff(streams.first))
    inward = np.zeros(99 * 87 * 4)
    inward[streams.cell * 4 + streams.heading] = streams.inward[segment]
    movie = draw_day(SYNTHETIC, city, TUESDAY, seed=3, style=CityStyle(tilt=0.8))
    hours, _ = local_clock(SYNTHETIC, city, TUESDAY)
    when = hours[movie.frame]
    way = inward[movie.cell * 4 + movie.heading]
    assert way[np.abs(when - 8) < 0.75].mean() > way[np.abs(when - 17.4) < 0.75].mean() + 0.02


def test_jams_move_against_the_traffic():
    flat = Course(np.ones(288), np.zeros(288), np.zeros(288))
    chains = np.array([0, 150, 400])
    jam = _jams(flat, 5, chains, np.random.default_rng(1), CityStyle(jams=20.0))[:, :-1]
    assert 0.3 < jam.max() < 1.0
    upstream, downstream = (jam[:-6, 9:] * jam[6:, :-9]).sum(), (jam[:-6, :-9] * jam[6:, 9:]).sum()
    assert upstream > 2 * downstream
    slow, free = (
        draw_day(TINY, AHAUSEN, TUESDAY, seed=3, style=CityStyle(jams=jams)).speed.mean()
        for jams in (400.0, 0.0)
    )
    assert slow < free - 2


# Like real traffic.


@pytest.fixture(scope="module")
def tables():
    return [city_realism(SYNTHETIC, city, seed=2019) for city in SYNTHETIC.cities]


def test_the_default_city_meets_the_targets(tables):
    for table in tables:
        outside = table[~table.inside]
        assert len(table) > 40
        assert len(outside) <= 3, outside.to_string()
        near = (table.generated > 0.85 * table.low) & (table.generated < 1.15 * table.high)
        assert near.all(), table[~near].to_string()


def test_nobody_can_foresee_much_more_than_the_mean(tables):
    for table in tables:
        gains = table[table.quantity.str.contains("gain of an oracle")]
        assert len(gains) == 2
        assert gains.generated.between(0.07, 0.11).all()


def test_a_city_unlike_real_ones_is_told_so():
    even = CityStyle(rate_spread=0.5, rate_median=0.05)
    table = city_realism(SYNTHETIC, SYNTHETIC.cities[0], seed=1, days=1, style=even)
    verdict = table.set_index("quantity").inside
    assert not verdict["persistence: active 1 on"]
    assert not verdict["occupancy: 95% quantile"]


def test_days_read_from_files_are_measured_with_a_note():
    frames = encode(draw_day(TINY, AHAUSEN, TUESDAY, seed=3), TINY)
    table = realism([decode(frames, TINY)], TINY)
    assert not table.quantity.str.contains("oracle").any()
    by_heading = ~table.quantity.str.startswith("files")
    assert table.note[by_heading].str.contains("three channels").all()
    occupancy = table.set_index("quantity").generated["files: share of cells active"]
    assert occupancy == pytest.approx((frames[..., 0] > 0).mean())


# A release.

SIZE = {"training": 4, "validation": 1, "test": 2}


def draw(root: Path, edition: Edition = TINY, **changes):
    arguments = {"seed": 3, "gzip": 1, "first_day": TUESDAY, **SIZE, **changes}
    return write_release(edition, root / "data", root / "truth", **arguments)


def contents(root: Path) -> dict[str, bytes]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def test_a_release_has_the_real_layout(tmp_path):
    told = []
    summary = draw(tmp_path, progress=told.append)
    assert len(told) == 14
    assert len(summary.written) == 2 * (4 + 1 + 2 + 2)
    assert summary.skipped == ()
    for city in TINY.cities:
        days = release_days(tmp_path / "data", TINY, city)
        splits = [file.split for file in days]
        assert {split: splits.count(split) for split in SIZE} == SIZE
        dates = sorted(TINY.day_of(file.day) for file in days)
        assert dates == [date(2018, 5, 15 + number) for number in range(7)]
        for file in days:
            assert read_frames(file.path, TINY.day_shape).any()


def test_test_days_show_the_input_blocks_and_the_truth_what_follows(tmp_path):
    draw(tmp_path)
    for city in TINY.cities:
        for file in day_files(tmp_path / "data", TINY, city, "test"):
            movie = draw_day(TINY, city, TINY.day_of(file.day), seed=3)
            whole = encode(movie, TINY)
            shown = read_frames(file.path, TINY.day_shape)
            member = TINY.layout.submission.format(city=city.name, day=file.day)
            truth = read_frames(tmp_path / "truth" / member, TINY.forecast_shape(city))
            given = np.zeros(288, bool)
            for number, slot in enumerate(city.test_slots):
                given[slot - 12 : slot] = True
                np.testing.assert_array_equal(truth[number], whole[slot : slot + 3])
            np.testing.assert_array_equal(shown[given], whole[given])
            assert not shown[~given].any()


def test_a_killed_run_is_finished_with_the_same_bytes(tmp_path):
    draw(tmp_path / "once")
    draw(tmp_path / "twice")
    gone, *_, torn = sorted((tmp_path / "twice").rglob("*.h5"))
    gone.unlink()
    torn.write_bytes(torn.read_bytes()[:900])
    summary = draw(tmp_path / "twice")
    assert set(summary.written) == {gone, torn}
    assert len(summary.skipped) == 16
    assert contents(tmp_path / "twice") == contents(tmp_path / "once")
    assert draw(tmp_path / "twice").written == ()


def test_eight_channels_make_a_release_too(tmp_path):
    eight = tiny(channels=CHANNELS_2020, cities=(AHAUSEN,))
    draw(tmp_path, eight, training=1, validation=0, test=0)
    (file,) = release_days(tmp_path / "data", eight, AHAUSEN)
    assert read_frames(file.path, (288, 23, 17, 8)).any()


def test_splits_are_spread_over_the_year_and_not_alike_in_two_cities():
    paths = Path("data"), Path("truth")
    days = plan_release(TINY, *paths, seed=3, training=285, validation=7, test=72)
    tests = [
        [day.day for day in days if day.split == "test" and day.city is city]
        for city in TINY.cities
    ]
    assert tests[0] != tests[1]
    for dates in tests:
        assert len(dates) == 72
        gaps = np.diff([each.toordinal() for each in dates])
        assert gaps.max() < 13
        assert len({each.weekday() for each in dates}) == 7


def test_a_folder_of_another_origin_is_refused(tmp_path):
    draw(tmp_path)
    with pytest.raises(CatalogError, match=r"synthetic\.json.*seed"):
        draw(tmp_path, seed=4)
    with pytest.raises(CatalogError, match=r"style"):
        draw(tmp_path, style=CityStyle(rush=0.1))
    (tmp_path / "data" / RECORD).unlink()
    with pytest.raises(CatalogError, match=r"not a synthetic day"):
        draw(tmp_path)


def test_the_truth_never_overwrites_a_test_day(tmp_path):
    with pytest.raises(CatalogError, match=r"overwrite"):
        write_release(TINY, tmp_path, tmp_path, seed=3, training=1, validation=0, test=1)
    assert not any(tmp_path.iterdir())
    write_frames(tmp_path / "x.h5", np.zeros((1, 2, 3, 4), np.uint8))
