"""A new network takes over only if it is better by the margin; what was in use is kept."""

from __future__ import annotations

import json
import os
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import yaml  # Prefect brings it
from hypothesis import given, settings
from hypothesis import strategies as st

from flows import promotion, submit
from flows.apart import TrainingError
from flows.config import read_config
from flows.model_config import Promotion
from flows.promotion import judge, point, sweep_candidates, target_of
from flows.recipe import Outcome
from pipeline.alone import alone
from pipeline.errors import ChangedError, ConfigError, InUseError
from pipeline.scoring import Errors
from tests.test_cli import facts, t4c
from tests.test_train import TINY_NET, add
from tests.world import TEST, TINY

PLAN = Promotion(model="tiny", margin=0.1, keep=1)


def errors(**models):
    """Errors by model: a mean squared error in bytes for each day, the same in each city."""
    rows = [
        (model, city.name, f"2018010{day}", 14, 0, "volume", float(mse), 1)
        for model, days in models.items()
        for city in TINY.cities
        for day, mse in enumerate(days, 1)
    ]
    names = ("model", "city", "day", "slot", "lead", "channel", "sse", "cells")
    return Errors(TINY, pd.DataFrame(rows, columns=names))


@given(
    st.lists(st.integers(1, 10_000), min_size=2, max_size=5),
    st.integers(1, 10_000),
    st.floats(0.001, 0.9),
)
@settings(max_examples=20)
def test_it_takes_over_only_if_the_share_of_the_margin_is_gone(old, new, margin):
    found = errors(old=old, new=[new] * len(old))
    verdict = judge(found, "new", "old", margin)
    share = new / np.mean(old) - 1
    assert verdict.share == pytest.approx(share)
    if abs(share + margin) > 1e-9:
        assert verdict.promoted == (share < -margin)
    assert not judge(found, "old", "old", margin).promoted
    back = judge(found, "old", "new", margin)
    assert not (verdict.promoted and back.promoted)


def test_a_margin_just_reached_is_enough_and_just_missed_is_not():
    assert judge(errors(old=[100], new=[89.99]), "new", "old", 0.1).promoted
    assert not judge(errors(old=[100], new=[90.01]), "new", "old", 0.1).promoted


def test_a_pointer_moves_in_one_step_and_its_old_target_stays(tmp_path):
    link = tmp_path / "models" / "best.safetensors"
    assert target_of(link) is None
    for name in ("a", "b"):
        target = tmp_path / "candidates" / name
        target.parent.mkdir(exist_ok=True)
        target.write_text(name)
        point(link, target)
        assert link.read_text() == name
        assert target_of(link).resolve() == target
    assert (tmp_path / "candidates" / "a").read_text() == "a"
    assert [path.name for path in link.parent.iterdir()] == [link.name]
    moved = tmp_path.rename(tmp_path.with_name("elsewhere"))
    assert (moved / "models" / "best.safetensors").read_text() == "b"


def test_a_file_in_the_place_of_the_pointer_is_refused(tmp_path):
    (tmp_path / "best.safetensors").write_text("mine")
    with pytest.raises(ConfigError, match=r"best\.safetensors.*expected a link"):
        target_of(tmp_path / "best.safetensors")


def test_networks_set_aside_are_kept_up_to_a_number_and_those_in_use_always(tmp_path):
    a, b, c, d = (f"tiny_{letter * 16}" for letter in "abcd")
    big, other = f"tiny_big_{'e' * 16}", f"other_{'e' * 16}"  # another model's
    files = []
    for age, name in enumerate([a, b, c, d, big, other, "tiny_mine"]):
        file = tmp_path / name / "models" / "tiny.safetensors"
        file.parent.mkdir(parents=True)
        file.write_text(name)
        os.utime(tmp_path / name, (age, age))
        files.append(file)
    removed = sweep_candidates(tmp_path, PLAN, [files[0]])
    assert removed == [str(tmp_path / b), str(tmp_path / c)]
    assert {path.name for path in tmp_path.iterdir()} == {a, d, big, other, "tiny_mine"}


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"model": "nobody", "margin": 0.1}, "no 'nobody'; there are"),
        ({"model": "tiny", "margin": 0.1, "pointer": "tiny"}, "'tiny' is the name of another"),
        ({"model": "tiny", "margin": 0.1, "pointer": "mix"}, "'mix' is the name of another"),
        ({"model": "tiny", "margin": 0}, "promotion.margin"),
        ({"model": "tiny", "margin": 0.1, "against": "unknown"}, "promotion.against: 'unknown'"),
    ],
)
def test_impossible_promotions_are_refused(ingested, asked, said):
    add(ingested, models={"tiny": TINY_NET}, promotion=asked)
    with pytest.raises(ConfigError, match=said):
        read_config(ingested.config)


def promoted(world, *overrides):
    result = t4c("promote", world.config, "--json", *overrides)
    assert result.exit_code == 0, result.stderr
    return facts(result), result.stdout


def test_from_training_to_the_network_in_use_and_its_submission(ingested):
    poor = TINY_NET | {"base": "none", "inputs": [], "teacher": 0}
    plan = {"model": "tiny", "margin": 0.01, "against": "persistence"}
    add(ingested, models={"tiny": poor}, promotion=plan, submit={"model": "best"})
    assert t4c("submit", ingested.config).exit_code != 0  # there is none yet
    link = ingested.out / "models" / "best.safetensors"
    first, said = promoted(ingested)
    assert first["against"] == "persistence"
    assert "promoted:" in said
    assert link.resolve() == (ingested.out / first["candidate"]).resolve()
    again, said = promoted(ingested)
    assert not again["promoted"]
    assert "in use already" in said
    alone = facts(t4c("submit", ingested.config, "--json"))["sha256"]

    value = yaml.safe_load(ingested.config.read_text())
    value["models"]["tiny"] = TINY_NET
    ingested.config.write_text(yaml.safe_dump(value))
    aside, said = promoted(ingested, "--set", "promotion.margin=0.99")
    assert "kept aside:" in said
    assert (aside["against"], aside["promoted"]) == (str(link.parent / link.readlink()), False)
    assert link.resolve() == (ingested.out / first["candidate"]).resolve()
    assert facts(t4c("submit", ingested.config, "--json"))["sha256"] == alone

    second, said = promoted(ingested)  # the same training, found whole, under the stated margin
    assert second["candidate"] == aside["candidate"]
    assert second["promoted"]
    assert second["mse"] == aside["mse"] < first["mse"]
    assert facts(t4c("submit", ingested.config, "--json"))["sha256"] != alone
    assert (ingested.out / first["candidate"]).exists()
    record = json.loads((link.parent / "best_promotions.json").read_text())
    found = [(link.parent / one["candidate"]).resolve() for one in record]
    assert found == [(ingested.out / one["candidate"]).resolve() for one in (first, second)]
    assert all(one["in_use"] for one in record)

    point(link, ingested.out / first["candidate"])  # a person goes back; next week it stays so
    back, said = promoted(ingested)
    assert (back["candidate"], back["promoted"]) == (second["candidate"], False)
    assert "was in use and is not any more" in said
    link.unlink()  # a network in use that can forecast no more keeps none out
    link.symlink_to("nothing.safetensors")
    (link.parent / "best_promotions.json").unlink()
    after, said = promoted(ingested)
    assert (after["against"], after["promoted"]) == ("persistence", True)
    assert "nothing.safetensors: no such model" in after["unusable"]
    assert after["unusable"] in said


def test_what_another_process_trained_it_speaks_for(ingested, monkeypatch):
    """And what a trainer says is wrong ends the promotion, with nothing in use."""
    plan = {"model": "tiny", "margin": 0.01}
    add(ingested, models={"tiny": TINY_NET}, promotion=plan)
    config = read_config(ingested.config)
    monkeypatch.setattr(promotion, "train_model", lambda *_: SimpleNamespace(mine=False))
    assert promotion.promote(config) == Outcome()

    def train(config, name):
        raise TrainingError("no room")

    monkeypatch.setattr(promotion, "train_model", train)
    with pytest.raises(TrainingError, match="no room"):
        promotion.promote(config)
    assert not (config.out / "models").exists()


def test_two_promotions_of_a_pointer_do_not_meet(ingested, monkeypatch):
    plan = {"model": "tiny", "margin": 0.01}
    add(ingested, models={"tiny": TINY_NET}, promotion=plan)
    done = SimpleNamespace(mine=True, path=ingested.out / "a/models/tiny")
    monkeypatch.setattr(promotion, "train_model", lambda *_: done)
    link = ingested.out / "models" / "best.safetensors"
    held = alone(link.with_name(".best.lock"), link, "promote")
    with held, pytest.raises(InUseError, match=r"best\.safetensors: another run.*`promote`"):
        promotion.promote(read_config(ingested.config))


def test_a_submission_is_never_of_two_networks(ingested, monkeypatch):
    """One that is promoted between two cities is noticed, and the zip stays as it was."""
    asked, real = [], submit.identity

    def identity(config, store, name):
        asked.append(store.city.name)
        now = real(config, store, name)
        return now if len(asked) < 4 else f"another than {now}"  # after both, and Aal's again

    monkeypatch.setattr(submit, "identity", identity)
    config = read_config(ingested.config)
    with pytest.raises(ChangedError, match="became another model"):
        submit.write(config)
    assert asked == ["Aal", "Bex", "Aal", "Bex"]
    assert not (config.out / config.submit.file).exists()
    monkeypatch.undo()
    assert submit.write(config).resumed == len(TEST)  # those of Aal, by the right one
