from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml  # Prefect brings it
from torch import nn

from crevnet.correction import Correction
from crevnet.task import Task
from flows.config import read_config
from flows.examples import CityInputs
from flows.models import identity
from flows.network_forecaster import NetworkForecaster
from pipeline.catalog import day_path
from pipeline.errors import ConfigError
from pipeline.flips import check_flips, forecast_mirrors, mirror
from pipeline.heatmaps import write_frames
from pipeline.ingest import ingest_city
from pipeline.store import Store
from pipeline.synthetic.headings import bearing
from pipeline.windows import Window
from tests.test_cli import facts, t4c
from tests.world import CATALOG, NORTH_UP, ROTATED, TINY, TRAINING

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


class Crooked(nn.Module):
    """A network that minds where it is: no mirror image of itself."""

    def unroll(self, history, horizon, static=None, *, memory="plain"):
        height, width = history.shape[-2:]
        slope = torch.arange(height)[:, None] / height + torch.arange(width) ** 2 / width**2
        slope = slope * torch.arange(1, history.shape[2] + 1)[:, None, None]
        planes = (static * torch.arange(1, static.shape[1] + 1)[:, None, None]).mean(1)
        said = history.mean(1) * slope + 0.3 * planes[:, None]
        return said[:, None].repeat(1, horizon, 1, 1, 1)


def city_of_days(root, city, turn=None):
    """A store of a four-heading city, or of its mirror image."""
    rng = np.random.default_rng(1)
    for day in TRAINING:
        frames = rng.integers(0, 256, (48, 9, 11, 7), dtype=np.uint8)
        frames = frames if turn is None else turn.frames(frames)
        write_frames(
            day_path(root / "release", FOUR, city, "training", day), np.moveaxis(frames, 1, -1)
        )
    ingest_city(root / "release", FOUR, city, root / "store", workers=0)
    return Store.open(root / "store", FOUR, city)


def crooked(store, axes, folder):
    names = ("usual", "activity_channels", "hour")
    inputs = CityInputs.fit(store, TRAINING, "climatology", names, folder)
    task = Task(
        leads=FOUR.leads, history=5, base="climatology", inputs=names, channels=FOUR.channels
    )
    mirrors = forecast_mirrors(FOUR, store.city, axes)
    device = torch.device("cpu")
    return NetworkForecaster(Correction(Crooked(), task), inputs, device, 2, mirrors=mirrors)


@pytest.mark.parametrize("city", [NORTH_UP, ROTATED])
@pytest.mark.parametrize("axes", ALL_AXES)
def test_the_mean_over_mirrors_says_the_mirror_image_of_a_mirrored_city(tmp_path, city, axes):
    """The oracle is another city: everything it is told was measured on mirrored days."""
    turn = mirror(FOUR, city, axes)
    here, there = city_of_days(tmp_path / "a", city), city_of_days(tmp_path / "b", city, turn)
    windows = [Window(city.name, day, 9, 5, FOUR.leads) for day in (*TRAINING, "20180103")]
    rng = np.random.default_rng(2)
    history = rng.random((4, 5, 9, 11, 7), dtype=np.float32)

    def both(flips):
        plain = crooked(here, flips, tmp_path / "a").forecast(history, windows)
        mirrored = crooked(there, flips, tmp_path / "b").forecast(turn.means(history), windows)
        return plain, turn.means(mirrored)

    alone, image = both(())
    assert alone.shape == (4, 4, 9, 11, 7)
    assert np.abs(alone - image).max() > 0.1
    plain, mirrored = both(axes)
    np.testing.assert_allclose(plain, mirrored, atol=1e-6)
    if len(axes) == 1:
        np.testing.assert_allclose(plain, (alone + image) / 2, atol=1e-6)
    else:
        once = [both((axis,))[0] for axis in axes]
        np.testing.assert_allclose(4 * plain - alone - image, 2 * sum(once) - 2 * alone, atol=1e-5)


def test_forecasts_over_mirrors_are_refused_where_headings_are_codes(ingested):
    assert forecast_mirrors(TINY, NORTH_UP, ()) == ()
    three = [turn.axes for turn in forecast_mirrors(FOUR, NORTH_UP, ("columns", "rows"))]
    assert three == [("rows",), ("columns",), ("rows", "columns")]
    result = t4c("score", ingested.config, "--set", "forecasting.flips=[rows]")
    assert result.exit_code == 1
    assert "forecasting.flips: tiny keeps headings as codes" in result.stderr
    assert not ingested.out.exists()
    with pytest.raises(ConfigError, match="forecasting.flips.0"):
        read_config(ingested.config, ["forecasting.flips=[diagonal]"])


def test_a_trained_network_forecasts_over_mirrors(tmp_path):
    city = FOUR.cities[0]
    store = city_of_days(tmp_path, city)
    write_frames(
        day_path(tmp_path / "release", FOUR, city, "validation", "20180103"),
        store.read_day(TRAINING[0]),
    )
    ingest_city(tmp_path / "release", FOUR, city, tmp_path / "store", workers=0)
    entry = CATALOG.replace("[volume, speed, heading]", str([*FOUR.channels]))
    catalog = yaml.safe_load(entry)
    del catalog["tiny"]["headings"]
    (tmp_path / "catalog.yaml").write_text(yaml.safe_dump(catalog))
    value = {
        "edition": "tiny",
        "catalog": f"{tmp_path}/catalog.yaml",
        "cities": [city.name],
        **{name: f"{tmp_path}/{name}" for name in ("release", "store", "out")},
        "history": 5,
        "workers": 0,
        "models": {
            "unet": {
                "network": "unet_small",
                "change": {"width": 4, "depth": 2},
                "reading": {"held_out": 1},
                "training": {"steps": 2, "batch": 3, "threads": 1, "learning_rate": 0.01},
            }
        },
        "ladder": ["mix", "unet"],
    }
    config = tmp_path / "run.yaml"
    config.write_text(yaml.safe_dump(value))
    assert t4c("train", config).exit_code == 0
    scores, known = [], set()
    for flips in ("[]", "[rows]", "[rows, columns]", "[columns, rows]"):
        result = t4c("score", config, "--set", f"forecasting.flips={flips}", "--json")
        assert result.exit_code == 0, result.stderr
        scores.append(facts(result)["scores"])
        known.add(identity(read_config(config, [f"forecasting.flips={flips}"]), store, "unet"))
    assert len({score["unet"]["mse"] for score in scores}) == 3
    assert len({score["mix"]["mse"] for score in scores}) == 1
    assert scores[2] == scores[3]
    assert len(known) == 3
