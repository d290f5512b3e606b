from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from pipeline.catalog import read_edition
from pipeline.clock import local_hours
from pipeline.errors import CatalogError
from pipeline.forecasters import MovingAverage, Persistence, Zeros
from pipeline.grid import Grid
from pipeline.maps.canvas import north_up
from pipeline.maps.dataset import coordinates, model_maps, open_maps, pair_maps, save_maps
from pipeline.maps.days import DayDifferences, false_discovery, two_sided
from pipeline.maps.drawing import Painter
from pipeline.maps.scales import THEMES, common_scales
from pipeline.maps.streets import read_streets
from pipeline.maps.sums import AXES, CitySums, sum_errors
from pipeline.scoring import score_windows
from pipeline.sources import TrafficSource
from pipeline.windows import Cut, Window, WindowPlan
from tests.world import NORTH_UP, TINY, VALIDATION, draw_day

CUT = Cut(48, 5, TINY.leads, 3)
MODELS = {"mean": MovingAverage(), "copy": Persistence(), "zeros": Zeros()}


@pytest.fixture(scope="module")
def summed(pristine):
    from pipeline.store import Store

    found = {}
    for city in TINY.cities:
        source = TrafficSource(
            Store.open(pristine.store, TINY, city), WindowPlan(city.name, VALIDATION, CUT)
        )
        found[city.name] = source, sum_errors(source, MODELS)
    return found


@pytest.mark.parametrize("city", ["Aal", "Bex"])
@pytest.mark.parametrize("model", MODELS)
def test_every_map_averages_to_the_score_exactly(summed, city, model):
    source, sums = summed[city]
    maps = model_maps(sums, model)
    errors = score_windows(source, {model: MODELS[model]})
    assert maps["mse"].shape == (11, 7)
    assert float(maps["mse"].mean()) == pytest.approx(errors.leaderboard().item(), rel=1e-14)
    exact = sums.models[model].squares
    total = int(errors.rows["sse"].sum())
    assert {axis: int(exact[axis].sum()) for axis in AXES} == dict.fromkeys(AXES, total)
    for axis, column in (("channel", "channel"), ("lead", "lead")):
        table = errors.by(column).to_numpy()
        np.testing.assert_allclose(maps[f"mse_by_{axis}"].mean(("y", "x")), table, rtol=1e-6)
    for axis in ("hour", "weekday"):
        weights = maps[f"frames_by_{axis}"]
        weighted = (maps[f"mse_by_{axis}"].fillna(0) * weights).sum(axis) / weights.sum()
        np.testing.assert_allclose(weighted, maps["mse"], rtol=1e-5, atol=1e-9)


def test_maps_agree_with_a_plain_loop_over_files(summed):
    _, sums = summed["Aal"]
    squares, errors, hours = np.zeros((24, 11, 7)), np.zeros((24, 11, 7)), np.zeros(24)
    active = np.zeros((11, 7))
    for day in VALIDATION:
        frames = draw_day(NORTH_UP, day).astype(float)
        _, hour = local_hours(TINY, NORTH_UP, day)
        for start in range(0, 48 - CUT.length + 1, 3):
            for lead in TINY.leads:
                at = start + 5 + lead
                wrong = frames[start + 4] - frames[at]
                squares[hour[at]] += (wrong**2).mean(axis=-1) / 255**2
                errors[hour[at]] += wrong.mean(axis=-1) / 255
                hours[hour[at]] += 1
                active += frames[at].any(axis=-1)
    maps = model_maps(sums, "copy")
    with np.errstate(invalid="ignore"):
        np.testing.assert_allclose(
            maps["mse_by_hour"], squares / hours[:, None, None], rtol=1e-6, equal_nan=True
        )
        np.testing.assert_allclose(
            maps["bias_by_hour"], errors / hours[:, None, None], rtol=1e-5, atol=1e-9
        )
    np.testing.assert_array_equal(maps["frames_by_hour"], hours)
    np.testing.assert_allclose(maps["active"], active / hours.sum())
    np.testing.assert_allclose(maps["hits"] + maps["misses"], maps["active"], atol=1e-15)
    zeros = model_maps(sums, "zeros")
    assert float(zeros["hits"].sum()) == float(zeros["false_alarms"].sum()) == 0
    np.testing.assert_allclose(zeros["misses"], maps["active"], atol=1e-15)


def test_skill_of_a_model_against_itself_is_nothing_and_so_is_its_difference(stores):
    source = TrafficSource(stores[0], WindowPlan("Aal", VALIDATION, CUT))
    sums = sum_errors(source, {"one": MovingAverage(), "same": MovingAverage()})
    maps = model_maps(sums, "one", "same")
    for name in ["skill", *(f"skill_by_{axis}" for axis in AXES)]:
        known = maps[name].values[np.isfinite(maps[name].values)]
        assert known.size > 50
        assert (known == 0).all(), name
    pair = pair_maps(sums, "same", "one")
    assert not pair["difference"].values.any()
    assert (pair["p"] == 1).all()
    assert not pair["believed"].values.any()


@dataclass(frozen=True)
class Planted:
    """The truth, but wrong by 51 in one cell and channel, in frames of one hour."""

    days: dict[str, np.ndarray]
    cell: tuple[int, int]
    channel: int
    hour: int

    def forecast(self, history, windows):
        [window] = windows
        frames = self.days[window.day][list(window.future)].astype(np.int64)
        _, hour = local_hours(TINY, NORTH_UP, window.day)
        for place, frame in enumerate(window.future):
            if hour[frame] == self.hour:
                value = frames[place, *self.cell, self.channel]
                frames[place, *self.cell, self.channel] += 51 if value < 128 else -51
        return np.moveaxis(frames / 255, -1, -3)[None].astype(np.float32)


def test_a_planted_error_shows_there_and_nowhere_else(stores):
    source = TrafficSource(stores[0], WindowPlan("Aal", VALIDATION, CUT))
    days = {day: draw_day(NORTH_UP, day) for day in VALIDATION}
    maps = model_maps(sum_errors(source, {"m": Planted(days, (3, 5), 1, 14)}), "m")
    wrong = np.argwhere(maps["mse"].values)
    assert wrong.tolist() == [[3, 5]]
    assert np.argwhere(maps["mse_by_channel"].values).tolist() == [[1, 3, 5]]
    assert np.argwhere(maps["mse_by_hour"].fillna(0).values).tolist() == [[14, 3, 5]]
    assert np.argwhere(maps["mse_by_weekday"].fillna(0).values)[:, 1:].tolist() == [[3, 5]] * 2
    assert float(maps["mse_by_hour"][14, 3, 5]) == pytest.approx((51 / 255) ** 2 / 3)
    by_hour = maps["bias_by_hour"].fillna(0).values
    assert (np.abs(by_hour) > 0).sum() <= 1


LANDMARKS = {
    # of the competition's boxes: a place everybody knows, and the row and column it is drawn in
    "Berlin": ("Brandenburg Gate", 52.51628, 13.37770),
    "Moscow": ("Saint Basil's Cathedral", 55.75253, 37.62310),
}


@pytest.mark.parametrize("name", LANDMARKS)
def test_a_landmark_lies_where_its_degrees_say(name):
    edition = read_edition("traffic4cast2019")
    city = edition.city(name)
    _, lat, lon = LANDMARKS[name]
    row, column, inside = Grid.of(edition, city).cells(np.array([lat]), np.array([lon]))
    assert inside.all()
    if name == "Berlin":  # 100 m cells from the north-west corner
        expected = int((city.lat_max - lat) / 0.001), int((lon - city.lon_min) / 0.001)
    else:  # rows from the east, columns from the north
        expected = int((city.lon_max - lon) / 0.001), int((city.lat_max - lat) / 0.001)
    assert (int(row[0]), int(column[0])) == expected
    values = np.zeros((495, 436))
    values[expected] = 1
    map_ = xr.DataArray(values, dims=("y", "x"), coords=coordinates(edition, city))
    at = map_.isel(y=expected[0], x=expected[1])
    assert float(at.latitude) == pytest.approx(lat, abs=0.0005 + 1e-9)
    assert float(at.longitude) == pytest.approx(lon, abs=0.0005 + 1e-9)
    picture = north_up(map_)
    tall, wide = picture.shape
    y, x = np.argwhere(picture)[0]
    # on paper, north is up and east is right, whatever the file's order
    assert y == pytest.approx((city.lat_max - lat) / (city.lat_max - city.lat_min) * tall, abs=1)
    assert x == pytest.approx((lon - city.lon_min) / (city.lon_max - city.lon_min) * wide, abs=1)


def test_maps_come_back_from_netcdf_with_degrees(summed, tmp_path):
    for name, (_, sums) in summed.items():
        maps = model_maps(sums, "mean", "copy")
        with open_maps(save_maps(tmp_path / f"{name}.nc", maps)) as back:
            xr.testing.assert_equal(back.load(), maps)
            assert back.latitude.dims == (("x",) if name == "Bex" else ("y",))
            assert back.latitude.attrs["units"] == "degrees_north"
            assert back.attrs["city"] == name
            assert list(back.lead) == [30, 60, 90, 150]  # minutes, to the end of the frame


def test_pictures_of_all_kinds_are_the_same_twice(summed, tmp_path):
    models = [model_maps(sums, "mean", "copy") for _, sums in summed.values()]
    pairs = [pair_maps(sums, "copy", "mean") for _, sums in summed.values()]
    scales = common_scales(models, pairs)
    assert common_scales(models, pairs, errors=(0.1, 0.2)).high == 0.2
    made = {}
    for turn in ("one", "two"):
        painter = Painter(THEMES["dark"], scales, [np.array([[7.0, 46.0], [7.01, 46.006]])], "me")
        maps, pair, to = models[1], pairs[1], tmp_path / turn
        paths = [painter.errors(to / "e.png", maps), painter.bias(to / "b.png", maps)]
        paths += [painter.skill(to / "s.png", maps), painter.difference(to / "d.png", pair)]
        paths += [painter.parts(to / f"{axis}.png", maps, axis) for axis in ("channel", "lead")]
        paths += [painter.activity(to / "a.png", maps)]
        made[turn] = [path.read_bytes() for path in paths]
    assert made["one"] == made["two"]
    assert len(set(made["one"])) == 7


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 7, 30, 199])
def test_students_t_is_scipys(freedom):
    stats = pytest.importorskip("scipy.stats")
    t = np.array([0.0, 0.3, 1.0, 2.5, 12.0, np.inf])
    np.testing.assert_allclose(two_sided(t, freedom), 2 * stats.t.sf(t, freedom), atol=1e-14)


@given(arrays.arrays(np.int64, (6, 2, 3), elements=st.integers(-(10**9), 10**9)))
def test_days_are_paired_like_scipy_pairs_them(days):
    stats = pytest.importorskip("scipy.stats")
    sums = DayDifferences.empty((2, 3))
    for number, day in enumerate(days):
        half = day // 2
        sums.add(str(number), half)
        sums.add(str(number), day - half)
    sums.close()
    np.testing.assert_allclose(sums.mean, days.mean(axis=0), rtol=1e-9, atol=1e-6)
    spread = days.std(axis=0)
    wide = spread > 1e-6 * np.abs(days).max(axis=0).clip(1)
    expected = stats.ttest_1samp(days.astype(float)[:, wide], 0, axis=0).pvalue
    found = sums.p_values()[wide]
    np.testing.assert_allclose(found, expected, atol=1e-8)
    same = (days == days[0]).all(axis=0)
    np.testing.assert_array_equal(sums.p_values()[same], (days[0] == 0)[same].astype(float))


@given(arrays.arrays(np.float64, 40, elements=st.floats(0, 1)), st.sampled_from([0.01, 0.05, 0.2]))
def test_false_discovery_is_the_step_up_rule(p, share):
    ordered = np.sort(p)
    passing = [k for k in range(1, 41) if ordered[k - 1] <= share * k / 40]
    limit = ordered[max(passing) - 1] if passing else -1
    np.testing.assert_array_equal(false_discovery(p, share), p <= limit)
    holes = np.concatenate([p, [np.nan] * 5])
    np.testing.assert_array_equal(false_discovery(holes, share)[:40], p <= limit)


def test_chance_is_not_believed_and_a_real_difference_is():
    rng = np.random.default_rng(3)
    edition = replace(TINY, height=30, width=50)
    sums = CitySums.empty(edition, NORTH_UP, ["a", "b"], [("a", "b")])
    better = np.zeros((30, 50), bool)
    better[5:8, 10:30] = True
    for day in range(12):
        truth = rng.integers(100, 140, (4, 30, 50, 3)).astype(np.uint8)
        noise = [rng.integers(-20, 21, truth.shape) for _ in range(2)]
        noise[0] = np.where(better[:, :, None], noise[0] // 2, noise[0])
        said = [(truth + each).astype(np.uint8) for each in noise]
        window = Window("Aal", f"201801{day + 10}", 0, 5, TINY.leads)
        sums.add(window, truth, {"a": said[0], "b": said[1]})
    sums.close()
    pair = pair_maps(sums, "a", "b", 0.05)
    believed = pair["believed"].values > 0
    assert believed[better].mean() > 0.9
    assert believed[~better].sum() <= 0.12 * believed.sum()  # 5 % expected
    assert (pair["difference"].values[believed & better] < 0).all()


def test_streets_are_read_in_every_shape_and_refused_by_name(tmp_path):
    path = tmp_path / "s.geojson"
    path.write_text(
        '{"features": [{"coordinates": [[1, 2], [3, 4]]}, {"coordinates": [[1, 2]]},'
        '{"geometry": {"type": "LineString", "coordinates": [[1, 2, 9], [3, 5, 9]]}},'
        '{"geometry": {"type": "Point", "coordinates": [1, 2]}},'
        '{"geometry": {"type": "MultiLineString", "coordinates": [[[1, 2], [3, 6]], [[0, 0]]]}}]}'
    )
    lines = read_streets(path)
    assert [line[1].tolist() for line in lines] == [[3, 4], [3, 5], [3, 6]]
    for spoiled, said in {
        "[": "no GeoJSON",
        "[]": "no list of `features`",
        '{"features": [{"coordinates": [[1, 2], ["a", "b"]]}]}': "feature 0 is no line",
        '{"features": [{"coordinates": 7}]}': "feature 0 is no line",
        '{"features": [7]}': "feature 0 is no line",
    }.items():
        path.write_text(spoiled)
        with pytest.raises(CatalogError, match=f"s.geojson: .*{said}"):
            read_streets(path)
