from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.errors import ConfigError
from pipeline.flips import check_flips, mirror
from pipeline.synthetic.headings import bearing
from tests.world import NORTH_UP, ROTATED, TINY

PAIRS = [f"{what}_{way}" for way in ("NE", "NW", "SE", "SW") for what in ("volume", "speed")]
FOUR = replace(TINY, channels=(*PAIRS, "incidents"), headings={})
NAMES = {code: name for code, name in TINY.headings.items() if code}
ALL_AXES = [("rows",), ("columns",), ("rows", "columns")]


def draw(edition, seed=0):
    rng = np.random.default_rng(seed)
    frames = rng.integers(0, 256, (5, len(edition.channels), 11, 7), dtype=np.uint8)
    if "heading" in edition.channels:
        frames[:, 2] = rng.choice([0, 1, 85, 170, 255], frames[:, 2].shape)
    return frames


@pytest.mark.parametrize("edition", [TINY, FOUR])
@pytest.mark.parametrize("city", [NORTH_UP, ROTATED])
@pytest.mark.parametrize("axes", ALL_AXES)
def test_a_mirror_undoes_itself_and_spoils_nothing(edition, city, axes):
    frames = draw(edition)
    before = frames.copy()
    turn = mirror(edition, city, axes)
    assert not np.array_equal(turn.frames(frames), frames)
    np.testing.assert_array_equal(turn.frames(turn.frames(frames)), frames)
    np.testing.assert_array_equal(frames, before)


@pytest.mark.parametrize("edition", [TINY, FOUR])
@pytest.mark.parametrize("city", [NORTH_UP, ROTATED])
def test_both_mirrors_are_one_after_the_other(edition, city):
    frames = draw(edition)
    rows, columns = (mirror(edition, city, (axis,)) for axis in ("rows", "columns"))
    both = mirror(edition, city, ("columns", "rows"))
    np.testing.assert_array_equal(both.frames(frames), rows.frames(columns.frames(frames)))


def quadrant(degrees):
    return ("NE", "SE", "SW", "NW")[int(degrees // 90)]


@pytest.mark.parametrize("city", [NORTH_UP, ROTATED])
@pytest.mark.parametrize("axes", ALL_AXES)
def test_who_drives_over_the_mirrored_grid_has_the_mirrored_heading(city, axes):
    """The oracle is geometry: a way over the grid, reversed, has a bearing of its own."""
    code_of = {name: code for code, name in NAMES.items()}
    for dy, dx in [(1.0, 2.0), (-1.0, 2.0), (2.0, -1.0), (-2.0, -1.0)]:
        way = quadrant(bearing(np.float64(dy), np.float64(dx), rotated=city.rotated))
        back = (-dy if "rows" in axes else dy), (-dx if "columns" in axes else dx)
        mirrored = quadrant(bearing(*map(np.float64, back), rotated=city.rotated))
        frames = np.zeros((1, 3, 11, 7), np.uint8)
        frames[0, 2, 3, 1] = code_of[way]
        turned = mirror(TINY, city, axes).frames(frames)
        row, column = (7 if "rows" in axes else 3), (5 if "columns" in axes else 1)
        assert turned[0, 2, row, column] == code_of[mirrored]
        assert np.count_nonzero(turned) == 1

        many = np.zeros((1, 9, 11, 7), np.uint8)
        many[0, FOUR.channels.index(f"speed_{way}"), 3, 1] = 9
        turned = mirror(FOUR, city, axes).frames(many)
        assert turned[0, FOUR.channels.index(f"speed_{mirrored}"), row, column] == 9


def test_counts_of_cells_and_other_bytes_stay():
    frames = draw(TINY)
    frames[0, 2, 0, 0] = 77  # no code
    turned = mirror(TINY, NORTH_UP, ("rows",)).frames(frames)
    assert turned[0, 2, -1, 0] == 77
    np.testing.assert_array_equal(turned[:, :2], frames[:, :2, ::-1])
    np.testing.assert_array_equal(turned[:, 2] == 0, frames[:, 2, ::-1] == 0)


def test_means_turn_with_four_headings_and_not_with_codes():
    turn = mirror(FOUR, NORTH_UP, ("rows",))
    frames = draw(FOUR)
    np.testing.assert_allclose(turn.means(frames.mean(axis=0)), turn.frames(frames).mean(axis=0))
    with pytest.raises(ConfigError, match="mean of heading codes"):
        mirror(TINY, NORTH_UP, ("rows",)).means(np.zeros((3, 11, 7), np.float32))


def test_flips_that_cannot_be_are_refused_with_the_reason():
    check_flips(TINY, "none", ("activity", "activity_channels", "hour"))
    check_flips(TINY, "window_mean", ())
    check_flips(FOUR, "mix", ("usual", "mean"))
    with pytest.raises(ConfigError, match="base mix and input mean are means of codes"):
        check_flips(TINY, "mix", ("mean", "hour"))
    with pytest.raises(ConfigError, match="input usual"):
        check_flips(TINY, "none", ("usual",))
    with pytest.raises(ConfigError, match="does not say what its heading codes mean"):
        check_flips(replace(TINY, headings={}), "none", ())
    with pytest.raises(ConfigError, match="heading NW, but no SW"):
        check_flips(replace(TINY, headings={0: "none", 1: "NW", 85: "NE"}), "none", ())
    with pytest.raises(ConfigError, match="volume_NE, but no volume_SE"):
        check_flips(replace(FOUR, channels=FOUR.channels[:4]), "none", ())
