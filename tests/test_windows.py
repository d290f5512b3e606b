from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.editions import SPLITS
from pipeline.errors import WindowError
from pipeline.windows import Cut, Window, WindowPlan, slot_windows
from tests.world import NORTH_UP, TINY

cuts = st.builds(
    Cut,
    frames=st.integers(24, 60),
    history=st.integers(1, 12),
    leads=st.sets(st.integers(0, 11), min_size=1).map(sorted).map(tuple),
    stride=st.integers(1, 30),
)


@given(cuts, st.integers(1, 4))
def test_every_window_lies_inside_its_day(cut, days):
    plan = WindowPlan("X", tuple(f"d{i}" for i in range(days)), cut)
    windows = list(plan)
    assert len(windows) == len(plan) == days * cut.per_day
    for window in windows:
        assert window.start >= 0
        assert window.stop <= cut.frames
        assert window.future == tuple(window.split + lead for lead in cut.leads)
    last = max(w.start for w in windows)
    assert last + cut.stride + cut.length > cut.frames  # none that would fit is left out
    assert len(set(windows)) == len(windows)


@given(cuts)
def test_an_index_means_the_same_window_for_ever(cut):
    plan = WindowPlan("X", ("a", "b"), cut)
    assert [plan[i] for i in range(len(plan))] == list(plan) == plan[:]
    assert plan[-1] == plan[len(plan) - 1]
    for beyond in (len(plan), -len(plan) - 1):
        with pytest.raises(IndexError):
            plan[beyond]


def test_nine_in_three_out_of_a_five_minute_day():
    cut = Cut(288)
    assert (cut.length, cut.per_day) == (12, 277)
    assert Cut(288, stride=9).per_day == 31
    assert WindowPlan("X", ("d",), cut)[276] == Window("X", "d", 276)
    assert Window("X", "d", 276).stop == 288


def test_slots_are_first_frames_to_forecast():
    windows = slot_windows(TINY, NORTH_UP, "20180105", history=5)
    assert [w.split for w in windows] == [14, 30]
    assert [w.start for w in windows] == [9, 25]
    assert windows[0].future == (14, 15, 16, 18)


def test_a_test_day_cannot_give_more_history_than_it_has():
    with pytest.raises(WindowError, match=r"history of 10 frames.*gives 9"):
        slot_windows(TINY, NORTH_UP, "20180105", history=10)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"history": 0}, "at least 1"),
        ({"stride": 0}, "at least 1"),
        ({"leads": ()}, "at least"),
        ({"leads": (1, 0)}, "rising"),
        ({"frames": 11}, "12 frames long, a day 11"),
    ],
)
def test_impossible_cuts_are_refused(change, said):
    with pytest.raises(WindowError, match=said):
        Cut(**{"frames": 288, **change})


def test_splits_share_no_day(stores):
    for store in stores:
        days = [day for split in SPLITS for day in store.days(split)]
        assert len(days) == len(set(days)) == 7
        assert np.all([len(store.days(split)) > 0 for split in SPLITS])
