from __future__ import annotations

import json

import pytest
import torch
from typer.testing import CliRunner

from crevnet.comparators.unet import UNet, UNetConfig
from crevnet.cost import cost
from crevnet.zoo import ZOO, build, configure, describe
from flows import list_models
from flows.cli import app
from tests.probing import really_kept

GRID = {"history": 4, "horizon": 2, "height": 17, "width": 23}
TINY = {
    "crevnet_2d": configure("small_traffic_2d", blocks=[2, 1], modules=2),
    "crevnet_3d": configure("small_traffic_3d", blocks=[2, 1], modules=2, static_channels=1),
    "unet": configure("unet_small", width=4, history=4, horizon=2),
    "st_lstm": configure("unet_small_st_lstm", width=4),
}


def test_a_unet_is_counted_by_hand():
    config = UNetConfig(
        channels=2, history=4, horizon=3, width=5, depth=1, widest=7, convolutions=1, norm="none"
    )
    found = cost(UNet(config), history=4, horizon=3, height=7, width=10)  # padded to 8 x 10
    fine, coarse = 8 * 10, 4 * 5
    convolutions = 9 * fine * 8 * 5 + 9 * coarse * 5 * 7 + 9 * fine * 10 * 5 + fine * 5 * 6
    risen = fine * 7 * 5  # each fine cell is made from one coarse cell
    assert found.multiply_accumulates == convolutions + risen
    assert found.parameters == sum(p.numel() for p in UNet(config).parameters())


@pytest.mark.parametrize("name", TINY)
def test_cost_grows_with_the_grid(name):
    one = cost(TINY[name], **GRID | {"height": 96, "width": 96})
    two = cost(TINY[name], **GRID | {"height": 96, "width": 288})
    assert two.parameters == one.parameters
    assert two.multiply_accumulates == 3 * one.multiply_accumulates
    assert 2.5 < two.saved_plain / one.saved_plain < 3.05
    assert one.saved_frugal < one.saved_plain


@pytest.mark.parametrize("name", ["crevnet_2d", "st_lstm"])
def test_each_frame_more_costs_the_same(name):
    two, three, four = (
        cost(TINY[name], **GRID | {"history": frames}).multiply_accumulates for frames in (4, 5, 6)
    )
    assert four - three == three - two > 0


@pytest.mark.parametrize("memory", ["plain", "frugal"])
@pytest.mark.parametrize("name", TINY)
def test_bytes_kept_are_those_that_training_keeps(name, memory):
    torch.manual_seed(0)
    network = build(TINY[name])
    config = network.config
    history = torch.rand(1, 4, config.channels, 17, 23)
    static = torch.rand(1, config.static_channels, 17, 23) if config.static_channels else None
    really = really_kept(network, history, 2, static, memory)
    found = getattr(cost(network, **GRID), f"saved_{memory}")
    assert found == pytest.approx(really, rel=0.01)


def test_a_description_will_do():
    assert cost(describe(build(TINY["unet"])), **GRID) == cost(TINY["unet"], **GRID)


def test_batch_norm_has_no_frugal_training():
    assert cost(configure(TINY["unet"], norm="batch"), **GRID).saved_frugal is None


def test_the_largest_network_takes_no_memory():
    big = configure("released_traffic4cast_2d", blocks=[1, 1, 1, 1], modules=30)
    found = cost(big, history=2, horizon=1, height=495, width=436)
    assert found.parameters > 1.5e9


@pytest.fixture
def few(monkeypatch):
    names = ("small_traffic_3d", "unet_small")
    monkeypatch.setattr(list_models, "ZOO", {name: ZOO[name] for name in names})


def test_models_are_listed_with_what_they_cost(few, world):
    said = CliRunner().invoke(app, ["models", str(world.config), "--json"])
    assert said.exit_code == 0, said.output
    facts = json.loads(said.stdout.splitlines()[-1])
    assert set(facts["models"]) >= {"zeros", "mix", "small_traffic_3d", "unet_small"}
    assert facts["models"]["mix"]["multiply_accumulates"] == 0
    found = facts["models"]["unet_small"]
    size = {key: facts[key] for key in ("history", "horizon", "height", "width")}
    fit = {key: facts[key] for key in ("channels", "history", "horizon")}
    assert found["parameters"] == cost(configure("unet_small", **fit), **size).parameters
    assert "unet_small" in said.stdout


def test_what_cannot_be_is_not_listed(few, world):
    said = CliRunner().invoke(
        app, ["models", str(world.config), "--set", "history=2", "--set", "ladder=[mix]", "--json"]
    )
    facts = json.loads(said.stdout.splitlines()[-1])
    assert "small_traffic_3d" not in facts["models"]
    assert facts["impossible"] == ["small_traffic_3d: clips of 3 frames, but a history of 2"]


def test_without_a_configuration_the_grid_is_traffic4casts(few):
    said = CliRunner().invoke(app, ["models", "--json"])
    facts = json.loads(said.stdout.splitlines()[-1])
    assert (facts["height"], facts["width"], facts["history"]) == (495, 436, 9)


def test_the_models_of_a_run_are_listed_as_it_changes_them(few, world):
    text = world.config.read_text()
    model = "{network: unet_small, change: {width: 4, depth: 2}, inputs: [usual], sees: 3}"
    world.config.write_text(f"{text}models: {{unet: {model}}}\n")
    said = CliRunner().invoke(app, ["models", str(world.config), "--json"])
    assert said.exit_code == 0, said.output
    rows = json.loads(said.stdout.splitlines()[-1])["models"]
    assert 0 < rows["run: unet"]["parameters"] < rows["unet_small"]["parameters"] / 20
