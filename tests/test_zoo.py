from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from crevnet.config import CrevNetConfig
from crevnet.presets import PRESETS
from crevnet.zoo import (
    ZOO,
    ZooError,
    build,
    config_of,
    configure,
    describe,
    from_description,
    layers,
)

SMALL = [name for name in ZOO if "small" in name]


def count(network):
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize("name", ZOO)
def test_every_network_comes_back_from_its_description(name):
    with torch.device("meta"):
        network = build(name, channels=2, history=5, horizon=4, static_channels=3)
        description = json.loads(json.dumps(describe(network)))
        again = from_description(description)
    assert again.config == network.config == config_of(description)
    assert (network.config.channels, network.config.static_channels) == (2, 3)
    assert describe(again) == describe(network)
    assert layers(network.config) <= len(network.state_dict())


def test_a_name_alone_is_the_preset():
    for name, config in PRESETS.items():
        assert config_of(name) == config_of(configure(name)) == config
    assert config_of(configure("unet", history=12, horizon=6)).history == 12
    with torch.device("meta"):
        assert 0.6e6 < count(build("unet_small", channels=3, history=9, horizon=3)) < 0.8e6
        assert 30e6 < count(build("unet", channels=3, history=9, horizon=3)) < 32e6


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("static_channels", [0, 2])
def test_small_networks_look_ahead_on_any_grid(name, static_channels):
    torch.manual_seed(0)
    network = build(name, channels=1, history=4, horizon=2, static_channels=static_channels).eval()
    static = torch.rand(1, static_channels, 17, 23) if static_channels else None
    with torch.no_grad():
        said = network.unroll(torch.rand(1, 4, 1, 17, 23), 2, static)
    assert said.shape[0] == 1
    assert said.shape[1] >= 2
    assert said.shape[2:] == (1, 17, 23)
    assert said.isfinite().all()


def test_values_are_set_by_name():
    config = config_of(configure("small_traffic_2d", clip=3, blocks=[1, 1], gate_cap=1))
    assert (config.clip, config.blocks, config.gate_cap) == (3, (1, 1), 1)
    twice = configure(configure("unet_small", width=8), depth=2)
    assert (config_of(twice).width, config_of(twice).depth) == (8, 2)


@pytest.mark.parametrize(
    ("network", "options", "said"),
    [
        ("resnet", {}, r"no network 'resnet'; there are \[.*'unet_small'"),
        ("unet", {"heads": 3}, r"UNetConfig has no \['heads'\]; it has \['channels'"),
        ("small_traffic_2d", {"width": 8}, r"CrevNetConfig has no \['width'\]; it has"),
        ("small_traffic_2d", {"clip": "2"}, "clip: '2' is not int"),
        ("small_traffic_2d", {"blocks": 3}, "blocks: '3' is not tuple"),
        ("small_traffic_2d", {"gate_cap": float("nan")}, "gate_cap: 'nan' is not float"),
        ("small_traffic_2d", {"anchored": 1}, "anchored: '1' is not bool"),
        ("small_traffic_2d", {"dims": 4}, "dims: '4'"),
        ("small_traffic_2d", {"strides": (1, 3)}, "strides .*expected 1 or 2"),
        ("small_traffic_2d", {"history": 1}, "clips of 2 frames, but a history of 1"),
        ("pred_rnn_3d", {"history": 2}, "clips of 3 frames, but a history of 2"),
        ("e3d_lstm", {"history": 1}, "clips of 2 frames, but a history of 1"),
        ("simvp", {"history": 0}, "every size is at least 1"),
        ("frnn", {"units": "8"}, "units: '8' is not tuple"),
        ("unet", {"horizon": 0}, "every size is at least 1"),
        ("unet_conv_lstm", {"horizon": 0}, "a horizon of 0"),
        ({"kind": "gan", "config": {}}, {}, r"no kind 'gan' of network; there are \['crevnet'"),
        ({"kind": ["unet"], "config": {}}, {}, "no kind"),
        ({"kind": "unet"}, {}, r"a description of \['kind'\], expected \['config', 'kind'\]"),
        ({"kind": "unet", "config": [1]}, {}, "a list, expected the values of a UNetConfig"),
        (7, {}, "a description of int"),
    ],
)
def test_what_is_not_known_is_refused(network, options, said):
    with pytest.raises(ZooError, match=said):
        build(network, **options)


def test_only_what_is_known_is_described():
    with pytest.raises(ZooError, match=r"a Linear is of no kind; there are \['crevnet'"):
        describe(nn.Linear(1, 1))


def test_a_description_holds_every_value():
    assert set(describe(build("unet_small"))["config"]) >= {"channels", "width", "history"}
    assert configure("small_traffic_2d")["config"] == PRESETS["small_traffic_2d"].to_dict()
    assert (
        CrevNetConfig.from_dict(configure("traffic4cast_3d")["config"])
        == PRESETS["traffic4cast_3d"]
    )
