from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from crevnet.checkpoint import FORMAT, CheckpointError, load, save
from crevnet.config import CrevNetConfig
from crevnet.model import CrevNet
from crevnet.presets import PRESETS, preset

COUNTS = {
    "mnist_st_lstm_3d": 3_228_228,
    "mnist_conv_lstm_3d": 1_883_716,
    "mnist_st_lstm_2d": 1_094_508,
    "mnist_conv_lstm_2d": 634_732,
    "released_mnist_3d": 4_997_444,
    "released_traffic4cast_2d": 334_282_808,
    "traffic4cast_3d": 29_035_620,
    "traffic4cast_2d": 39_310_128,
    "small_mnist_2d": 2_479_016,
    "small_mnist_3d": 1_842_038,
    "small_traffic_2d": 1_395_336,
    "small_traffic_3d": 1_036_662,
}
TINY = CrevNetConfig(blocks=(1, 1), strides=(1, 2), modules=2, cell="conv_lstm")


def by_hand(config):
    """The count from the equations: kernels of 3 in every dimension, c the width of a group."""
    k, c, square = 3**config.dims, config.width, config.width**2
    plain = {"conv_lstm": 4 * (2 * k * square + c) + c}
    plain["st_lstm"] = 7 * (2 * k * square + c) + 2 * c + 2 * square
    plain["released_st_lstm"] = 22 * k * square + 2 * square + 8 * c
    attention = {"single": square + c, "double": 2 * (k * square + c)}
    attention["deep"] = 2 * (square + c) + k * square + c + 4 * c
    total = config.modules * (plain[config.cell] + attention[config.attention])
    width, first = 2 * config.input_channels, True
    for count, stride in zip(config.blocks, config.strides, strict=True):
        for number in range(count):
            inputs, width = width, width * (stride**2 if number == 0 else 1)
            inner = max(1, width // config.bottleneck)
            total += k * inner * (inputs + inner + width) + 4 * inner
            total += 0 if first else 2 * inputs
            first = False
    return total


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_has_its_number_of_parameters(name):
    with torch.device("meta"):
        model = CrevNet(preset(name))
    assert sum(p.numel() for p in model.parameters()) == COUNTS[name] == by_hand(preset(name))


def test_the_papers_networks_have_36_layers_and_8_modules():
    for name in PRESETS:
        if name.startswith(("mnist", "released_mnist", "traffic4cast")):
            config = preset(name)
            assert (3 * sum(config.blocks), config.modules) == (36, 8)
    with pytest.raises(KeyError, match="no network 'x'; there are"):
        preset("x")


@pytest.fixture
def network():
    torch.manual_seed(0)
    return CrevNet(TINY)


def test_a_network_comes_back_the_same_from_its_file(network, tmp_path):
    one, two = save(network, tmp_path / "a.safetensors"), save(network, tmp_path / "b.safetensors")
    assert one.read_bytes() == two.read_bytes()
    found = load(one)
    assert found.config == network.config
    for name, value in network.state_dict().items():
        assert torch.equal(found.state_dict()[name], value), name
    frames = torch.rand(1, 5, 1, 8, 8)
    assert torch.equal(found(frames), network(frames))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.safetensors", "b.safetensors"]


def test_running_statistics_travel_too(tmp_path):
    model = CrevNet(CrevNetConfig(blocks=(1,), strides=(1,), modules=1, norm="batch"))
    model(torch.rand(2, 5, 1, 8, 8))
    found = load(save(model, tmp_path / "m.safetensors"))
    frames = torch.rand(1, 5, 1, 8, 8)
    assert torch.equal(found.eval()(frames), model.eval()(frames))


def missing(path):
    path.unlink()


def truncated(path):
    path.write_bytes(path.read_bytes()[:-100])


def foreign(path):
    path.write_bytes(b"PK\x03\x04 not safetensors" * 100)


def pickled(path):
    torch.save({"a": torch.zeros(3)}, path)


def other_format(path):
    save_file(load_file(path), path, metadata={"format": "pt"})


def rewrite(path, state=None, **change):
    config = TINY.to_dict() | change
    save_file(state or load_file(path), path, metadata={FORMAT: json.dumps(config)})


def wider(path):
    rewrite(path, channels=2)


def unknown_key(path):
    rewrite(path, depth=3)


def impossible(path):
    rewrite(path, strides=[3, 1])


def lost_weight(path):
    state = load_file(path)
    del state[next(iter(state))]
    rewrite(path, state)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (missing, "no such file"),
        (truncated, "not a whole safetensors file"),
        (foreign, "not a whole safetensors file"),
        (pickled, "not a whole safetensors file"),
        (other_format, r"header \['format'\], expected 'crevnet-1'"),
        (wider, "weights do not fit the config: .*expected"),
        (unknown_key, "its config is not one of a CrevNet"),
        (impossible, "its config is not one of a CrevNet: strides"),
        (lost_weight, "missing, expected"),
    ],
)
def test_a_spoiled_file_is_refused_by_name(network, tmp_path, spoil, said):
    path = save(network, tmp_path / "model.safetensors")
    spoil(path)
    with pytest.raises(CheckpointError, match=f"model.safetensors: .*{said}|{said}") as refusal:
        load(path)
    assert str(path) in str(refusal.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"modules": 0}, "every size is at least 1"),
        ({"blocks": (1,)}, "1 stages, but 3 strides"),
        ({"strides": (1, 2, 3)}, "expected 1 or 2"),
        ({"dims": 4}, "dims 4"),
        ({"cell": "gru"}, "cell 'gru'"),
        ({"gate_cap": 0.0}, "gate_cap"),
        ({"dropout": 1.0}, "dropout"),
    ],
)
def test_impossible_networks_are_refused(change, said):
    with pytest.raises(ValueError, match=said):
        CrevNetConfig(**change)
