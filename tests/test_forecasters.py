from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.climatology import choose_grouping, fit_climatology, group_of
from pipeline.clock import local_hours
from pipeline.errors import StoreError
from pipeline.forecasters import MovingAverage, Persistence, Zeros
from pipeline.layout import to_heatmap, to_model
from pipeline.mix import Mix, fingerprint, fit_mix, fitted_mix, load_mix, save_mix
from pipeline.sources import TrafficSource
from pipeline.windows import Cut, Window, WindowPlan
from tests.world import NORTH_UP, ROTATED, TINY, TRAINING, draw_day

CUT = Cut(48, 5, TINY.leads, 3)


def test_layout_round_trip_is_exact():
    frames = draw_day(NORTH_UP, "20180101")
    np.testing.assert_array_equal(to_heatmap(to_model(frames)), frames)
    every = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    np.testing.assert_array_equal(to_heatmap(to_model(every)), every)


def test_forecasts_are_clipped_and_rounded_never_wrapped():
    frames = np.array([-1.0, 0.4 / 255, 0.6 / 255, 1.0, 2.0, np.inf], np.float32)
    assert to_heatmap(frames.reshape(1, 1, 6)).ravel().tolist() == [0, 0, 1, 255, 255, 255]
    with pytest.raises(ValueError, match="1 forecast values are not numbers"):
        to_heatmap(np.array([[[np.nan, 0.0]]], np.float32))


def test_the_simple_ones_say_what_their_names_say(stores):
    clip = TrafficSource(stores[0], WindowPlan("Aal", TRAINING, CUT))[7]
    history = to_model(np.moveaxis(clip.history, -3, -1))[None]
    for model, expected in (
        (Zeros(), np.zeros_like(history[:, 0])),
        (Persistence(), history[:, -1]),
        (MovingAverage(), history.mean(axis=1)),
        (MovingAverage(3), history[:, 2:].mean(axis=1)),
        (MovingAverage(1), history[:, 4]),
    ):
        forecast = model.forecast(history, [clip.where])
        assert forecast.shape == (1, 4, 3, 11, 7)
        assert forecast.dtype == np.float32
        np.testing.assert_allclose(forecast, np.repeat(expected[:, None], 4, 1), rtol=1e-6)
    with pytest.raises(ValueError, match="mean of 6 frames, but a history of 5"):
        MovingAverage(6).forecast(history, [clip.where])


def test_hours_are_those_people_live_by():
    weekday, hour = local_hours(TINY, NORTH_UP, "20180101")  # a Monday; Zurich is UTC+1
    assert (weekday[0], hour[0], hour[1]) == (0, 1, 1)
    assert (weekday[-1], hour[-1]) == (1, 0)
    _, summer = local_hours(TINY, NORTH_UP, "20180701")
    assert summer[0] == 2
    weekday, hour = local_hours(TINY, ROTATED, "20180101")  # no zone of its own: the files' clock
    assert (weekday[0], hour[0], hour[-1]) == (0, 0, 23)


def test_climatology_is_the_mean_of_its_hours(stores):
    for store in stores:
        usual = fit_climatology(store, TRAINING, grouping="hour")
        days = {day: draw_day(store.city, day).astype(float) for day in TRAINING}
        sums, counts = np.zeros((24, 11, 7, 3)), np.zeros(24)
        for day, frames in days.items():
            for frame, hour in enumerate(local_hours(TINY, store.city, day)[1]):
                sums[hour] += frames[frame]
                counts[hour] += 1
        mean = sums / counts[:, None, None, None]
        window = Window(store.city.name, "20180106", 17, 5, TINY.leads)
        forecast = usual.forecast(np.zeros((1, 5, 3, 11, 7), np.float32), [window])[0]
        hours = local_hours(TINY, store.city, "20180106")[1][[22, 23, 24, 26]]
        np.testing.assert_allclose(
            np.moveaxis(forecast, -3, -1) * 255, mean[hours], atol=0.5 / 256 + 1e-4
        )


def test_the_grouping_follows_the_number_of_days():
    days = [f"2018{month:02d}{day:02d}" for month in (1, 2) for day in range(1, 29)]
    assert choose_grouping(TINY, days) == "weekday"
    assert choose_grouping(TINY, days[:30]) == "daytype"
    assert choose_grouping(TINY, days[:20]) == "hour"
    groups = [group_of(TINY, ROTATED, "20180106", g)[3] for g in ("hour", "daytype", "weekday")]
    assert groups == [1, 25, 5 * 24 + 1]  # a Saturday, half past one


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_the_fit_does_not_depend_on_the_workers(stores, workers):
    for grouping in ("hour", "daytype", "weekday"):
        alone = fit_climatology(stores[0], TRAINING, grouping=grouping, workers=1)
        here = fit_climatology(stores[0], TRAINING, grouping=grouping, workers=workers)
        np.testing.assert_array_equal(here.steps, alone.steps)


def test_weights_are_the_least_squares_against_other_days(stores):
    """An independent fit in float64: every window of each day, the climatology of the others."""
    store = stores[0]
    mix = fit_mix(store, TRAINING, CUT, grouping="hour")
    hours = {day: local_hours(TINY, store.city, day)[1] for day in TRAINING}
    frames = {day: draw_day(store.city, day).astype(float) for day in TRAINING}
    top, bottom = np.zeros((4, 3)), np.zeros((4, 3))
    for day in TRAINING:
        others = [d for d in TRAINING if d != day]
        for start in range(0, 48 - CUT.length + 1, CUT.stride):
            now = frames[day][start : start + 5].mean(axis=0)
            for place, lead in enumerate(TINY.leads):
                at = start + 5 + lead
                same = [frames[d][hours[d] == hours[day][at]] for d in others]
                usual = np.concatenate(same).mean(axis=0)
                top[place] += ((frames[day][at] - usual) * (now - usual)).sum(axis=(0, 1))
                bottom[place] += ((now - usual) ** 2).sum(axis=(0, 1))
    np.testing.assert_allclose(mix.weights, np.clip(top / bottom, 0, 1), rtol=1e-4)
    assert ((mix.weights > 0) & (mix.weights < 1)).any()


def test_the_mix_forecasts_between_its_parts(stores):
    store = stores[1]
    mix = fit_mix(store, TRAINING, CUT)
    clip = TrafficSource(store, WindowPlan("Bex", ("20180103",), CUT))[4]
    history = to_model(np.moveaxis(clip.history, -3, -1))[None]
    now = MovingAverage().forecast(history, [clip.where])
    usual = mix.climatology.forecast(history, [clip.where])
    forecast = mix.forecast(history, [clip.where])
    w = mix.weights.astype(np.float32)[:, :, None, None]
    np.testing.assert_allclose(forecast[0], w * now[0] + (1 - w) * usual[0], rtol=1e-6)
    with pytest.raises(ValueError, match="but the mix was fitted for"):
        mix.forecast(history[:, :4], [clip.where])


def same(one: Mix, two: Mix) -> bool:
    return (
        one.climatology.steps.tobytes() == two.climatology.steps.tobytes()
        and one.weights.tobytes() == two.weights.tobytes()
        and (one.history, one.leads, one.fingerprint) == (two.history, two.leads, two.fingerprint)
        and one.climatology.days == two.climatology.days
    )


def test_a_fit_is_kept_and_comes_back_the_same(stores, tmp_path):
    mix = fit_mix(stores[0], TRAINING, CUT)
    one, two = save_mix(tmp_path / "a.nc", mix), save_mix(tmp_path / "b.nc", mix)
    assert one.read_bytes() == two.read_bytes()
    assert same(load_mix(one, TINY, NORTH_UP), mix)


def test_a_fit_is_made_anew_when_anything_differs(stores, tmp_path):
    path = tmp_path / "fit.nc"
    first = fitted_mix(path, stores[0], CUT)
    stamp = path.stat().st_mtime_ns
    assert same(fitted_mix(path, stores[0], CUT), first)
    assert path.stat().st_mtime_ns == stamp
    other = fitted_mix(path, stores[0], Cut(48, 6, TINY.leads, 3))
    assert other.history == 6
    path.write_text("spoiled")
    assert same(fitted_mix(path, stores[0], CUT), first)
    elsewhere = replace(stores[0], city=replace(NORTH_UP, time_zone="Asia/Tokyo"))
    moved = fitted_mix(path, elsewhere, CUT)
    assert not np.array_equal(moved.climatology.steps, first.climatology.steps)
    days = stores[0].manifest.days
    changed = replace(stores[0].manifest, days=(replace(days[0], source_sha256="x"), *days[1:]))
    assert fingerprint(replace(stores[0], manifest=changed), TRAINING, CUT) != first.fingerprint
    assert fingerprint(stores[0], TRAINING[:2], CUT) != first.fingerprint


def spoil_text(path):
    path.write_text("mean")


def spoil_nothing(path):
    path.unlink()


@pytest.mark.parametrize(
    ("spoil", "said"), [(spoil_text, "not a fitted mix"), (spoil_nothing, "no such file")]
)
def test_a_spoiled_fit_is_refused(stores, tmp_path, spoil, said):
    path = save_mix(tmp_path / "fit.nc", fit_mix(stores[0], TRAINING, CUT))
    spoil(path)
    with pytest.raises(StoreError, match=said):
        load_mix(path, TINY, NORTH_UP)


def test_a_fit_of_another_city_is_refused(stores, tmp_path):
    path = save_mix(tmp_path / "fit.nc", fit_mix(stores[0], TRAINING, CUT))
    with pytest.raises(StoreError, match="a mix for .*'Aal'.*expected .*'Bex'"):
        load_mix(path, TINY, ROTATED)


def test_one_day_is_too_few_for_a_mix(stores):
    with pytest.raises(StoreError, match="1 training days, a mix needs 2"):
        fit_mix(stores[0], TRAINING[:1], CUT)
    with pytest.raises(StoreError, match="no days to fit"):
        fit_climatology(stores[0], [])
