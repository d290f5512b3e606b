from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml  # Prefect brings it

from crevnet.checkpoint import load_model, save_model
from flows.compare import compare
from flows.config import read_config
from flows.model_config import Model, Training
from flows.networks import load_network, model_path
from flows.train import train
from pipeline.comparison import paired_difference
from pipeline.errors import ConfigError, ModelError, StoreError
from pipeline.layout import to_model
from pipeline.scoring import Errors
from pipeline.sources import TrafficSource
from pipeline.store import Store
from pipeline.windows import Cut, WindowPlan
from tests.test_cli import facts, t4c
from tests.world import NORTH_UP, TINY, TRAINING, VALIDATION

NETWORK = {"blocks": [1, 1], "modules": 2, "clip": 1, "cell": "conv_lstm", "anchored": False}
STEPS = {"steps": 4, "batch": 3, "ema": 0.5, "evaluate_every": 2, "threads": 1, "seed": 3}
TINY_NET = {
    "network": "small_traffic_2d",
    "change": NETWORK,
    "inputs": ["usual", "weekend"],
    "teacher": 0.5,
    "reading": {"held_out": 1},
    "training": STEPS,
}
U_NET = {
    "network": "unet_small",
    "change": {"width": 4, "depth": 2},
    "base": "climatology",
    "sees": 3,
    "reading": {"held_out": 1, "crop": [8, 4]},
    "training": STEPS,
}


def add(world, **more):
    """Put more into the world's configuration."""
    value = yaml.safe_load(world.config.read_text()) | more
    world.config.write_text(yaml.safe_dump(value))


@pytest.fixture
def trained(ingested):
    add(ingested, models={"tiny": TINY_NET}, ladder=["mix", "tiny"], submit={"model": "tiny"})
    result = t4c("train", ingested.config, "--json")
    assert result.exit_code == 0, result.stderr
    said = facts(result)["models"]["tiny"]
    assert said["steps"] == 4
    assert said["ended_by"] == "budget"
    assert said["held_out_mse"] > 0
    return ingested


def test_from_training_to_submission(trained):
    out = trained.out
    assert (out / "models" / "tiny" / "curve.png").read_bytes()[:4] == b"\x89PNG"
    result = t4c("score", trained.config, "--json")
    assert result.exit_code == 0, result.stderr
    assert set(facts(result)["scores"]) == {"mix", "tiny"}
    first = facts(t4c("submit", trained.config, "--json"))
    assert first["ok"]
    (out / "submission.zip").unlink()
    assert facts(t4c("submit", trained.config, "--json"))["sha256"] == first["sha256"]
    result = t4c("maps", trained.config, "--set", "maps.models=[tiny]", "--json")
    assert result.exit_code == 0, result.stderr


def test_the_base_alone_is_a_rung_of_the_ladder(ingested):
    """With a climatology for a base it is the climatology; with lines and levels it is neither."""
    of_hours = U_NET | {"sees": None}
    of_lines = U_NET | {"interpolated": True, "levels": [2]}
    models = {"hours": of_hours, "lines": of_lines}
    ladder = ["climatology", "hours@base", "hours", "lines@base", "lines"]
    add(ingested, models=models, ladder=ladder, maps={"models": ["lines@base"]})
    assert t4c("train", ingested.config).exit_code == 0
    result = t4c("score", ingested.config, "--json")
    assert result.exit_code == 0, result.stderr
    scores = {name: row["mse"] for name, row in facts(result)["scores"].items()}
    assert scores["hours@base"] == pytest.approx(scores["climatology"], rel=1e-3)
    others = [scores[name] for name in ("hours", "lines@base", "lines", "climatology")]
    assert len({round(score, 6) for score in others}) == 4
    assert t4c("maps", ingested.config).exit_code == 0
    result = t4c("score", ingested.config, "--set", "ladder=[mix, nobody@base]")
    assert result.exit_code != 0
    assert "nobody@base" in result.stderr


def test_levels_of_a_base_that_knows_nothing_of_the_usual_are_refused(ingested):
    add(ingested, models={"tiny": TINY_NET | {"base": "none", "teacher": 0, "levels": [2]}})
    result = t4c("train", ingested.config)
    assert result.exit_code != 0
    assert "levels" in result.stderr


def test_a_model_trained_twice_is_the_same_file(trained, tmp_path):
    path = trained.out / "models" / "tiny.safetensors"
    before = path.read_bytes()
    path.unlink()
    assert t4c("train", trained.config).exit_code == 0  # goes on: nothing is left to do
    assert path.read_bytes() == before
    shutil.rmtree(trained.out / "models")
    assert t4c("train", trained.config).exit_code == 0
    assert path.read_bytes() == before
    _, task, extra = load_model(path)
    assert task.cities == ("Aal", "Bex")
    assert extra["days"]["Aal"] == [*TRAINING]
    assert extra["model"]["reading"]["held_out"] == 1


def test_a_loaded_model_says_the_same_in_any_batch_and_clips(trained):
    config = read_config(trained.config)
    store = Store.open(config.store, config.read_edition(), NORTH_UP)
    model = load_network(config, store, "tiny")
    plan = WindowPlan("Aal", VALIDATION, Cut(48, 5, TINY.leads, 7))
    source = TrafficSource(store, plan)
    clips = [source[n] for n in range(6)]
    history = np.concatenate([to_model(np.moveaxis(c.history, -3, -1))[None] for c in clips])
    windows = [clip.where for clip in clips]
    together = model.forecast(history, windows)
    assert together.shape == (6, 4, 3, 11, 7)
    assert together.min() >= 0
    assert together.max() <= 1
    alone = np.concatenate([model.forecast(history[n, None], [windows[n]]) for n in range(6)])
    np.testing.assert_allclose(together, alone, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"history": 4}, "history 5, but this run has 4"),
        ({"cities": ["Bex"]}, None),
    ],
)
def test_a_model_is_used_only_for_what_it_learned(trained, change, said):
    add(trained, **change)
    result = t4c("score", trained.config, "--set", "ladder=[tiny]")
    if said is None:
        assert result.exit_code == 0, result.stderr
    else:
        assert result.exit_code == 1
        assert said in result.stderr
        assert "tiny.safetensors" in result.stderr


def test_a_model_of_another_city_or_edition_or_days_is_refused(trained):
    path = trained.out / "models" / "tiny.safetensors"
    network, task, extra = load_model(path)
    from dataclasses import replace

    other = trained.out / "other.safetensors"
    for changed, more, said in (
        (replace(task, cities=("Bex",)), extra, "cities ['Bex'], and not Aal"),
        (replace(task, edition="sf_taxi"), extra, "edition sf_taxi, but this run has tiny"),
        (task, {}, "which days of Aal"),
        (task, extra | {"fitted": {"Aal": "x", "Bex": "y"}}, "days of Aal were other ones"),
        (task, extra | {"days": {"Aal": ["20180103"]}}, "does not have: ['20180103']"),
        (task, extra | {"days": []}, "which days of Aal"),
        (task, extra | {"days": {"Aal": [["x"]]}}, "which days of Aal"),
        (task, extra | {"fitted": [1]}, "which days of Aal"),
        (replace(task, inputs=("usual",)), extra, "extra planes 4, but this run has 3"),
    ):
        save_model(other, network, changed, more)
        result = t4c("score", trained.config, "--set", f"ladder=[{other}]")
        assert result.exit_code == 1
        assert said in result.stderr, result.stderr
    path.write_bytes(path.read_bytes()[:-9])
    result = t4c("score", trained.config)
    assert result.exit_code == 1
    assert "tiny.safetensors: not a whole safetensors file" in result.stderr


def test_what_cannot_be_trained_is_refused_before_it_starts(ingested):
    for change, said in (
        ({"network": "small_traffic_9d"}, "no network 'small_traffic_9d'"),
        ({"change": {"modules": 0}}, "every size is at least 1"),
        ({"change": {"colour": 1}}, "colour"),
        ({"change": {"channels": 4}}, "change: ['channels'] follow from the edition"),
        ({"recent": True}, "teacher: not with recent"),
        ({"teacher": 0.5, "base": "window_mean", "inputs": []}, "teacher: not with recent"),
        ({"inputs": ["rain"]}, "no 'rain'"),
        ({"sees": 6}, "sees: 6 frames of a history of 5"),
        ({"channel_weights": [1.0]}, "channel_weights: 1"),
        ({"reading": {"held_out": 3}}, "3 training days"),
        ({"reading": {"crop": [16, 8]}}, "crop: 16 rows of the 11"),
        ({"training": {"steps": 2, "epochs": 1}}, "exactly one of"),
        ({"training": {"steps": 2, "accelerator": "abacus"}}, "training: "),
        ({"training": {"steps": 2, "batch": 5000}}, "5000"),
    ):
        add(ingested, models={"tiny": TINY_NET | change})
        result = t4c("train", ingested.config)
        assert result.exit_code == 1, (change, result.stdout)
        assert said in result.stderr, result.stderr
        assert not (ingested.out / "models" / "tiny.safetensors").exists()
    add(ingested, models={"tiny": TINY_NET})
    result = t4c("train", ingested.config, "--model", "huge")
    assert result.exit_code == 1
    assert "no ['huge']; there are ['tiny']" in result.stderr
    result = t4c("score", ingested.config, "--set", "ladder=[tiny]")
    assert result.exit_code == 1
    assert "no such model; `t4c train` makes" in result.stderr


def test_a_loss_that_is_no_number_ends_the_training_with_the_windows_named(ingested, monkeypatch):
    add(ingested, models={"tiny": TINY_NET | {"training": STEPS | {"learning_rate": 1e30}}})
    with pytest.raises(ModelError, match=r"step \d: .*windows (Aal|Bex) 201801"):
        train(read_config(ingested.config))


def test_a_missing_store_is_named(ingested):
    add(ingested, models={"tiny": TINY_NET})
    config = read_config(ingested.config)
    shutil.rmtree(config.store)
    with pytest.raises(StoreError, match="t4c ingest"):
        train(config)


def test_channels_that_no_forecast_holds_are_neither_learned_nor_judged(ingested):
    catalogue = ingested.root / "catalog.yaml"
    add(ingested, models={"tiny": TINY_NET}, ladder=["tiny"])
    whole = train(read_config(ingested.config)).facts["models"]["tiny"]["held_out_mse"]
    shutil.rmtree(ingested.out)
    catalogue.write_text(
        catalogue.read_text().replace("  leads:", "  scored_channels: 2\n  leads:")
    )
    t4c("ingest", ingested.config)
    part = train(read_config(ingested.config)).facts["models"]["tiny"]["held_out_mse"]
    assert part < whole / 1.2  # headings are the hardest
    assert t4c("score", ingested.config).exit_code == 0


def test_words_of_the_catalogue_disown_no_model(trained):
    catalogue = trained.root / "catalog.yaml"
    catalogue.write_text(catalogue.read_text().replace("A tiny edition", "Another title"))
    t4c("ingest", trained.config)
    result = t4c("score", trained.config)
    assert result.exit_code == 0, result.stderr


def test_a_naive_name_for_a_model_is_refused(ingested):
    add(ingested, models={"mix": TINY_NET})
    with pytest.raises(ConfigError, match="names of naive forecasts"):
        read_config(ingested.config)


def test_the_training_section_is_the_settings():
    from dataclasses import fields

    from crevnet.settings import TrainingSettings

    wanted = {field.name: field.default for field in fields(TrainingSettings)}
    assert {name: f.default for name, f in Training.model_fields.items()} == wanted
    assert Model().training.epochs == 1


def test_comparing_trains_every_model_with_every_seed_and_tells_them_apart(ingested):
    add(
        ingested,
        models={"tiny": TINY_NET, "unet": U_NET},
        ladder=["zeros", "mix"],
        compare={"models": ["tiny", "unet"], "cpu_seconds": 1.0, "seeds": [1, 2]},
    )
    said = compare(read_config(ingested.config))
    assert set(said.facts["scores"]) == {"zeros", "mix", "tiny", "unet"}
    assert said.facts["scores"]["tiny"]["seeds"] == 2
    assert said.facts["scores"]["tiny"]["spread"] > 0
    pairs = [(row["model"], row["against"]) for row in said.facts["differences"]]
    assert pairs == [("tiny", "mix"), ("tiny", "unet"), ("unet", "mix"), ("unet", "tiny")]
    there, back = said.facts["differences"][1], said.facts["differences"][3]
    assert (1 + there["percent"] / 100) * (1 + back["percent"] / 100) == pytest.approx(1)
    assert (ingested.out / "compare" / "curves.png").is_file()
    for spoiled, words in (
        ({"compare": None}, "compare: not given"),
        ({"compare": {"models": ["tiny"]}}, "cpu_seconds or minutes"),
    ):
        add(ingested, **spoiled)
        with pytest.raises(ConfigError, match=words):
            compare(read_config(ingested.config))


def rows_of(errors_of):
    """Errors of models by city and day, `{model: {city: [mse of each day]}}`, as a table."""
    rows = [
        (model, city, f"2018010{day}", 0, 0, "volume", mse * 10, 10)
        for model, cities in errors_of.items()
        for city, days in cities.items()
        for day, mse in enumerate(days)
        if mse is not None
    ]
    columns = ["model", "city", "day", "slot", "lead", "channel", "sse", "cells"]
    return Errors(TINY, pd.DataFrame(rows, columns=columns))


def test_a_difference_is_that_of_the_leaderboard():
    many, few = [100.0] * 9, [100.0, *[None] * 8]
    errors = rows_of(
        {
            "a": {"Aal": [90.0] * 9, "Bex": [150.0, *[None] * 8]},
            "b": {"Aal": many, "Bex": few},
        }
    )
    found = paired_difference(errors, ["a"], ["b"])
    assert found.share == pytest.approx((90 + 150) / 200 - 1)  # though most windows are better
    assert found.dates == 9


def test_intervals_over_few_dates_cover_what_they_say():
    rng = np.random.default_rng(0)
    for dates, trials in ((3, 400), (12, 150)):
        inside = 0
        for _ in range(trials):
            day = rng.normal(0, 0.03, dates)
            errors = rows_of(
                {"a": {"Aal": 100 * np.exp(day - 0.05)}, "b": {"Aal": np.full(dates, 100.0)}}
            )
            found = paired_difference(errors, ["a"], ["b"])
            inside += found.low <= np.exp(-0.05) - 1 <= found.high
        assert 0.87 < inside / trials < 0.99, dates
    same = rows_of({"a": {"Aal": [1.0, 2.0]}, "b": {"Aal": [1.0, 2.0]}})
    found = paired_difference(same, ["a"], ["b"])
    assert (found.share, found.low, found.high) == (0, 0, 0)
    alone = rows_of({"a": {"Aal": [1.0]}, "b": {"Aal": [2.0]}})
    assert np.isnan(paired_difference(alone, ["a"], ["b"]).low)


def test_a_model_file_may_stand_anywhere(trained, tmp_path):
    config = read_config(trained.config)
    away = tmp_path / "best.safetensors"
    away.write_bytes(model_path(config, "tiny").read_bytes())
    result = t4c("score", trained.config, "--set", f"ladder=[tiny, {away}]", "--json")
    assert result.exit_code == 0, result.stderr
    scores = facts(result)["scores"]
    assert scores["tiny"] == scores[str(away)]


def test_threads_and_device_are_the_forecasts_own(trained):
    add(trained, forecasting={"device": "cuda:7", "batch": 2})
    if torch.cuda.device_count() > 7:
        pytest.skip("there is such a device")
    result = t4c("score", trained.config)
    assert result.exit_code == 1
    assert "forecasting.device: cuda:7 is not here" in result.stderr


def test_a_training_that_is_asked_to_stop_says_so_and_goes_on(ingested):
    steps = STEPS | {"steps": 400, "evaluate_every": 100}
    add(ingested, models={"tiny": TINY_NET | {"training": steps}})
    command = [Path(sys.executable).with_name("t4c"), "train", ingested.config]
    curve = ingested.out / "models" / "tiny" / "curve.csv"
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and (not curve.exists() or curve.read_text().count("\n") < 2):
        time.sleep(0.1)
    process.terminate()
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130, said
    assert "SIGTERM after step" in said
    add(ingested, models={"tiny": TINY_NET | {"training": steps | {"steps": 401}}})
    result = t4c("train", ingested.config)
    assert result.exit_code == 1
    assert "state.pt" in result.stderr
    assert "settings: steps" in result.stderr
