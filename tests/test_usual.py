from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest

from pipeline.climatology import fit_climatology, group_of
from pipeline.errors import StoreError
from pipeline.layout import to_model
from pipeline.manifest import Manifest
from pipeline.mix import fit_mix, fitted_mix
from pipeline.usual import UsualFrames, mix_weights
from pipeline.windows import Cut, Window
from tests.world import HISTORY, TINY, TRAINING, VALIDATION

CUT = Cut(TINY.frames_per_day, HISTORY, TINY.leads, 3)
GROUPINGS = ("hour", "daytype", "weekday")


def climatology_frames(store, days, grouping, day, start, stop):
    climatology = fit_climatology(store, days, grouping=grouping)
    window = Window(store.city.name, day, start, 0, tuple(range(stop - start)))
    return climatology.forecast(np.zeros((1, 0, 3, 11, 7), np.float32), [window])[0]


@pytest.mark.parametrize("grouping", GROUPINGS)
@pytest.mark.parametrize("out", TRAINING)
def test_a_training_day_has_no_part_in_its_own_usual(stores, tmp_path, grouping, out, monkeypatch):
    monkeypatch.setattr("pipeline.usual.choose_grouping", lambda edition, days: grouping)
    others = [day for day in TRAINING if day != out]
    for store in stores:
        usual = UsualFrames.fit(store, TRAINING, tmp_path)
        assert usual.grouping == grouping
        np.testing.assert_array_equal(
            usual.frames(out, 3, 40), climatology_frames(store, others, grouping, out, 3, 40)
        )


@pytest.mark.parametrize("grouping", GROUPINGS)
def test_any_other_day_gets_the_climatology_of_all(stores, tmp_path, grouping, monkeypatch):
    monkeypatch.setattr("pipeline.usual.choose_grouping", lambda edition, days: grouping)
    for store in stores:
        usual = UsualFrames.fit(store, TRAINING, tmp_path)
        for day in VALIDATION:
            np.testing.assert_array_equal(
                usual.frames(day, 0, 48), climatology_frames(store, TRAINING, grouping, day, 0, 48)
            )


def test_an_hour_that_no_other_day_has_takes_the_mean_of_all_other_frames(stores, tmp_path):
    store = stores[1]  # its clock is the files' own
    two = (TRAINING[0], VALIDATION[1])  # a Monday and a Saturday
    usual = UsualFrames.fit(store, two, tmp_path)
    by_kind = replace(usual, grouping="daytype", path=tmp_path / "kind.npy")
    labels = group_of(TINY, store.city, two[0], "daytype")
    sums = np.zeros((48, 3, 11, 7), np.uint32)
    for day in two:
        frames = np.moveaxis(store.read_day(day), -1, 1)
        np.add.at(sums, group_of(TINY, store.city, day, "daytype"), frames.astype(np.uint32))
    np.save(by_kind.path, sums)
    assert set(labels) == set(range(24))
    mean = to_model(store.read_day(two[1])).mean(axis=0)
    np.testing.assert_allclose(by_kind.frames(two[0], 20, 21)[0], mean, atol=1 / 255 / 256)


def test_half_is_the_same_in_float16_of_any_part(stores, tmp_path):
    usual = UsualFrames.fit(stores[0], TRAINING, tmp_path)
    rows, columns = slice(2, 9), slice(1, 4)
    for day in (TRAINING[1], VALIDATION[0]):
        whole = usual.frames(day, 5, 20)
        half = usual.half(day, 5, 20, rows, columns)
        assert half.dtype == np.float16
        assert half.shape == (15, 3, 7, 3)
        np.testing.assert_array_equal(half, whole[..., rows, columns].astype(np.float16))


def test_interpolated_frames_lie_on_lines_between_the_middles_of_hours(stores, tmp_path):
    """30-minute bins: a bin's middle is 15 or 45 minutes past, an hour's middle 30 minutes."""
    for store in stores:
        steps = UsualFrames.fit(store, TRAINING, tmp_path)
        lines = UsualFrames.fit(store, TRAINING, tmp_path, interpolated=True)
        assert lines.path == steps.path
        for day in (TRAINING[1], VALIDATION[0]):
            hourly = steps.frames(day, 0, 48)[::2]  # all bins of an hour are the same
            middles = 30 + 60 * np.arange(24)
            bins = 15 + 30 * np.arange(48)
            flat = hourly.reshape(24, -1)
            expected = np.stack([np.interp(bins, middles, cell) for cell in flat.T], 1)
            found = lines.frames(day, 0, 48)
            np.testing.assert_allclose(found, expected.reshape(48, 3, 11, 7), atol=1e-6)
            rows, columns = slice(2, 9), slice(1, 4)
            np.testing.assert_array_equal(
                pickle.loads(pickle.dumps(lines)).half(day, 5, 20, rows, columns),
                found[5:20, :, rows, columns].astype(np.float16),
            )


def test_mean_is_of_all_frames(stores, tmp_path):
    usual = UsualFrames.fit(stores[0], TRAINING, tmp_path)
    frames = np.concatenate([to_model(stores[0].read_day(day)) for day in TRAINING])
    np.testing.assert_allclose(usual.mean(), frames.mean(axis=0, dtype=np.float64), atol=1e-7)


def test_sums_are_added_up_once_and_again_when_spoiled(stores, tmp_path, monkeypatch):
    first = UsualFrames.fit(stores[0], TRAINING, tmp_path)
    wanted = first.frames(TRAINING[0], 0, 48)
    copy = pickle.loads(pickle.dumps(first))
    np.testing.assert_array_equal(copy.frames(TRAINING[0], 0, 48), wanted)
    first.path.write_bytes(first.path.read_bytes()[:-5])
    again = UsualFrames.fit(stores[0], TRAINING, tmp_path)
    np.testing.assert_array_equal(again.frames(TRAINING[0], 0, 48), wanted)

    def never(*args, **options):
        raise AssertionError("added up again")

    monkeypatch.setattr("pipeline.usual.fit_sums", never)
    UsualFrames.fit(stores[0], TRAINING, tmp_path)
    with pytest.raises(AssertionError):
        UsualFrames.fit(stores[0], TRAINING[:2], tmp_path)


def test_few_days_are_kept_and_all_are_right(stores, tmp_path):
    usual = UsualFrames.fit(stores[0], TRAINING, tmp_path, keep=1)
    wide = UsualFrames.fit(stores[0], TRAINING, tmp_path, keep=9)
    for day in (*TRAINING, *VALIDATION, *TRAINING):
        np.testing.assert_array_equal(usual.frames(day, 9, 30), wide.frames(day, 9, 30))
    assert len(usual._kept) == 1


def test_fits_that_cannot_be_are_refused_by_name(stores, tmp_path):
    with pytest.raises(StoreError, match="Aal has 1 training days.*needs 2"):
        UsualFrames.fit(stores[0], TRAINING[:1], tmp_path)
    with pytest.raises(StoreError, match="20990101"):
        UsualFrames.fit(stores[0], (*TRAINING, "20990101"), tmp_path)
    with pytest.raises(StoreError, match="frames 40 to 49"):
        UsualFrames.fit(stores[0], TRAINING, tmp_path).frames(TRAINING[0], 40, 49)
    gone = UsualFrames.fit(stores[0], TRAINING, tmp_path)
    elsewhere = pickle.loads(pickle.dumps(gone))
    gone.path.unlink()
    assert gone.frames(TRAINING[0], 0, 1).any()  # who has it open keeps it
    with pytest.raises(StoreError, match="usual_Aal"):
        elsewhere.frames(TRAINING[0], 0, 1)


def test_mix_weights_are_of_these_days_and_kept(stores, tmp_path, monkeypatch):
    store = stores[0]
    weights = mix_weights(store, TRAINING[:2], CUT, tmp_path)
    np.testing.assert_array_equal(weights, fit_mix(store, TRAINING[:2], CUT).weights)
    whole = fitted_mix(tmp_path / "Aal.nc", store, CUT)

    def never(*args, **options):
        raise AssertionError("fitted again")

    monkeypatch.setattr("pipeline.usual.fit_mix", never)
    np.testing.assert_array_equal(mix_weights(store, TRAINING[:2], CUT, tmp_path), weights)
    np.testing.assert_array_equal(mix_weights(store, TRAINING, CUT, tmp_path), whole.weights)
    days = tuple(replace(d, source_sha256="0" * 64) for d in store.manifest.days)
    changed = replace(store, manifest=Manifest("Aal", store.manifest.made_for, days))
    with pytest.raises(AssertionError):
        mix_weights(changed, TRAINING, CUT, tmp_path)
