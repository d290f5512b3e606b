from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest

from pipeline.context import Context, count, fit_activity
from pipeline.errors import ConfigError, StoreError
from pipeline.layout import to_model
from pipeline.usual import UsualFrames
from pipeline.windows import Window
from tests.world import HISTORY, TINY, TRAINING, VALIDATION

ALL = ("hour", "activity", "mean", "weekend", "activity_channels", "usual", "weekday")
WINDOW = Window("Aal", VALIDATION[1], 7, HISTORY, (1, 2))


def split(planes, names):
    found, place = {}, 0
    for name in names:
        size = count(name, TINY)
        found[name], place = planes[place : place + size], place + size
    assert place == len(planes)
    return found


def test_planes_are_what_their_names_say(stores, tmp_path):
    store = stores[0]
    context = Context.fit(store, TRAINING, ALL, tmp_path)
    planes = context.planes(WINDOW)
    assert planes.dtype == np.float16
    assert planes.shape == (context.size, 11, 7)
    found = split(planes, ALL)
    frames = np.concatenate([store.read_day(day) for day in TRAINING])
    np.testing.assert_allclose(found["activity"][0], (frames > 0).any(-1).mean(0), atol=5e-4)
    channels = np.moveaxis((frames > 0).mean(0), -1, 0)
    np.testing.assert_allclose(found["activity_channels"], channels, atol=5e-4)
    mean = to_model(frames).mean(0, dtype=np.float64)
    np.testing.assert_allclose(found["mean"], mean, atol=5e-4)
    usual = UsualFrames.fit(store, TRAINING, tmp_path).frames(WINDOW.day, 13, 14)[0]
    np.testing.assert_allclose(found["usual"], usual, atol=1e-3)


def test_the_clock_is_the_citys_own(stores, tmp_path):
    context = Context.fit(stores[0], TRAINING, ("hour", "weekday", "weekend"), tmp_path)
    found = split(context.planes(WINDOW), context.names)
    local = 12 * 30 / 60 + 1  # frame 12 of 30 minutes, Zurich in winter
    turn = 2 * np.pi * local / 24
    np.testing.assert_allclose(
        found["hour"][:, 0, 0], [0.5 + np.sin(turn) / 2, 0.5 + np.cos(turn) / 2], atol=5e-4
    )
    turn = 2 * np.pi * 5 / 7  # 2018-01-06 was a Saturday
    np.testing.assert_allclose(
        found["weekday"][:, 3, 2], [0.5 + np.sin(turn) / 2, 0.5 + np.cos(turn) / 2], atol=5e-4
    )
    assert (found["weekend"] == 1).all()
    friday = replace(WINDOW, day="20180105")
    assert (split(context.planes(friday), context.names)["weekend"] == 0).all()
    late = replace(friday, start=40)  # its split is 23:30 in Zurich
    assert (split(context.planes(late), context.names)["weekend"] == 0).all()
    late = replace(friday, start=41)  # midnight, so Saturday; Friday by the files' clock
    assert (split(context.planes(late), context.names)["weekend"] == 1).all()


def test_all_planes_lie_in_the_unit_interval(stores, tmp_path):
    for store in stores:
        context = Context.fit(store, TRAINING, ALL, tmp_path)
        for start in range(0, 40, 3):
            window = replace(WINDOW, city=store.city.name, start=start, day=TRAINING[0])
            planes = context.planes(window)
            assert planes.min() >= 0
            assert planes.max() <= 1


def test_a_training_days_usual_leaves_it_out(stores, tmp_path):
    context = Context.fit(stores[0], TRAINING, ("usual",), tmp_path)
    window = replace(WINDOW, day=TRAINING[1])
    usual = UsualFrames.fit(stores[0], TRAINING, tmp_path).half(TRAINING[1], 13, 14)[0]
    np.testing.assert_array_equal(context.planes(window), usual)


def test_part_of_the_planes_is_part_of_all(stores, tmp_path):
    context = Context.fit(stores[0], TRAINING, ALL, tmp_path)
    rows, columns = slice(3, 10), slice(2, 5)
    np.testing.assert_array_equal(
        context.planes(WINDOW, rows, columns), context.planes(WINDOW)[:, rows, columns]
    )
    copy = pickle.loads(pickle.dumps(context))
    np.testing.assert_array_equal(copy.planes(WINDOW), context.planes(WINDOW))


def test_only_the_days_that_are_given_count(stores, tmp_path):
    some = fit_activity(stores[0], TRAINING[:1], tmp_path)
    frames = stores[0].read_day(TRAINING[0])
    np.testing.assert_allclose(some[0], (frames > 0).any(-1).mean(0), atol=1e-6)
    [path] = tmp_path.glob("activity_*.npy")
    path.write_bytes(b"spoiled")
    np.testing.assert_array_equal(fit_activity(stores[0], TRAINING[:1], tmp_path), some)


def test_order_moves_the_planes_of_channels_alone(stores, tmp_path):
    context = Context.fit(stores[0], TRAINING, ("hour", "mean", "activity"), tmp_path)
    assert context.order((2, 0, 1)) == (0, 1, 4, 2, 3, 5)


def test_unknown_names_and_no_days_are_refused(stores, tmp_path):
    with pytest.raises(ConfigError, match=r"inputs: no 'weather'.*activity"):
        Context.fit(stores[0], TRAINING, ("hour", "weather"), tmp_path)
    with pytest.raises(ConfigError, match="twice"):
        Context.fit(stores[0], TRAINING, ("hour", "hour"), tmp_path)
    with pytest.raises(StoreError, match="no days"):
        Context.fit(stores[0], (), ("activity",), tmp_path)
