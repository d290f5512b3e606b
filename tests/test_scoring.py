from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from pipeline.errors import SubmissionError
from pipeline.forecasters import MovingAverage, Persistence, Zeros
from pipeline.heatmaps import read_frames, write_frames
from pipeline.metrics import error_map, frame_sse, mse, squared_error
from pipeline.scoring import join, score_submission, score_windows
from pipeline.sources import TrafficSource
from pipeline.windows import Cut, WindowPlan
from tests.world import TINY, VALIDATION, draw_day

CUT = Cut(48, 5, TINY.leads, 3)
pairs = st.tuples(*[arrays.arrays(np.uint8, (2, 3, 5, 4, 2)) for _ in range(2)])


@given(pairs)
def test_squared_error_is_that_of_floats(pair):
    forecast, truth = pair
    slow = (forecast.astype(np.float64) - truth.astype(np.float64)) ** 2
    np.testing.assert_array_equal(squared_error(forecast, truth), slow)
    assert mse(forecast, truth) == pytest.approx((slow / 255**2).mean())
    assert mse(forecast, truth, scale=1) == pytest.approx(slow.mean())
    np.testing.assert_array_equal(frame_sse(forecast, truth), slow.sum(axis=(-3, -2)))
    np.testing.assert_allclose(error_map(forecast, truth).mean(), mse(forecast, truth))
    assert error_map(forecast, truth).shape == (5, 4)


def test_shapes_that_would_broadcast_are_refused():
    with pytest.raises(
        ValueError, match=r"forecast of \(1, 5, 4, 2\) for a truth of \(3, 5, 4, 2\)"
    ):
        squared_error(np.zeros((1, 5, 4, 2), np.uint8), np.zeros((3, 5, 4, 2), np.uint8))


def sources(stores):
    return [TrafficSource(s, WindowPlan(s.city.name, VALIDATION, CUT)) for s in stores]


def test_the_ladder_agrees_with_a_plain_loop(stores):
    models = {"zeros": Zeros(), "persistence": Persistence(), "mean": MovingAverage()}
    errors = join([score_windows(source, models) for source in sources(stores)])
    slow = {}
    for city in TINY.cities:
        for day in VALIDATION:
            frames = draw_day(city, day).astype(float)
            for start in range(0, 48 - CUT.length + 1, CUT.stride):
                history, truth = (
                    frames[start : start + 5],
                    frames[start + 5 + np.array([0, 1, 2, 4])],
                )
                for name, says in (
                    ("zeros", 0 * history[0]),
                    ("persistence", history[-1]),
                    ("mean", np.rint(history.mean(axis=0, dtype=np.float32))),
                ):
                    slow.setdefault((name, city.name), []).append((truth - says) ** 2 / 255**2)
    for (name, city), values in slow.items():
        assert errors.cities()[name, city] == pytest.approx(np.mean(values), rel=1e-12)
        by_lead = np.mean(values, axis=(0, 2, 3, 4))
        lead = errors.rows[errors.rows.city == city].query("model == @name")
        found = lead.groupby("lead")[["sse", "cells"]].sum()
        np.testing.assert_allclose(found["sse"] / found["cells"] / 255**2, by_lead)
    table = errors.table()
    assert list(table.index)[-1] == table["mse"].idxmin()
    assert table.loc["mean", "mse"] == pytest.approx(
        np.mean([np.mean(slow["mean", city.name]) for city in TINY.cities])
    )
    channels = table[["volume", "speed", "heading"]].mean(axis=1)
    np.testing.assert_allclose(channels, table["mse"])


def test_the_truth_scores_zero_and_zeros_score_its_square(world):
    assert score_submission(world.truth, world.truth, TINY, workers=0).leaderboard().item() == 0
    nothing = world.root / "nothing"
    squares = {city.name: [] for city in TINY.cities}
    for path in sorted(world.truth.rglob("*.h5")):
        truth = read_frames(path, (2, 4, 11, 7, 3))
        write_frames(nothing / path.relative_to(world.truth), np.zeros_like(truth))
        squares[path.relative_to(world.truth).parts[0]].append((truth.astype(float) ** 2).mean())
    errors = score_submission(world.truth, nothing, TINY, workers=2)
    for city, values in squares.items():
        assert errors.cities()["nothing", city] == pytest.approx(np.mean(values) / 255**2)
    assert errors.leaderboard().item() == pytest.approx(
        np.mean([np.mean(v) for v in squares.values()]) / 255**2
    )
    assert len(errors.rows) == 2 * 2 * 2 * 4 * 3  # cities, days, slots, leads, channels


def test_the_truth_decides_and_every_fault_is_listed(world):
    answer = world.root / "answer"
    paths = sorted(world.truth.rglob("*.h5"))
    for path in paths[1:]:
        write_frames(answer / path.relative_to(world.truth), read_frames(path, (None,) * 5))
    write_frames(
        answer / "Aal/Aal_test/20181231_100m_bins.h5", np.zeros((2, 4, 11, 7, 3), np.uint8)
    )
    spoiled = answer / paths[1].relative_to(world.truth)
    write_frames(spoiled, np.zeros((1, 4, 11, 7, 3), np.uint8))
    with pytest.raises(SubmissionError) as refusal:
        score_submission(world.truth, answer, TINY, workers=0)
    said = str(refusal.value)
    assert f"{paths[1].relative_to(world.truth)}: shape (1, 4, 11, 7, 3)" in said
    assert f"missing {paths[0].relative_to(world.truth)}" in said
    assert "unexpected 'Aal/Aal_test/20181231_100m_bins.h5'" in said


def test_a_misshapen_answer_is_an_error_not_a_score(world):
    answer = world.root / "answer"
    for path in world.truth.rglob("*.h5"):
        frames = read_frames(path, (None,) * 5)
        write_frames(
            answer / path.relative_to(world.truth), frames[None] if "0105" in path.name else frames
        )
    with pytest.raises(SubmissionError, match=r"(?s)Aal.*20180105.*\(1, 2, 4.*Bex.*20180105"):
        score_submission(world.truth, answer, TINY, workers=0)


def test_no_truth_is_no_score(tmp_path):
    with pytest.raises(SubmissionError, match="no truth like"):
        score_submission(tmp_path, tmp_path, TINY)
