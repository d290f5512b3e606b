from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from crevnet.checkpoint import (
    FORMAT,
    HEADER_LIMIT,
    MODEL_FORMAT,
    CheckpointError,
    load,
    load_model,
    read_description,
    save,
    save_model,
)
from crevnet.config import CrevNetConfig
from crevnet.model import CrevNet
from crevnet.presets import PRESETS, preset
from crevnet.task import Task
from crevnet.zoo import ZooError, build, describe

COUNTS = {
    "mnist_st_lstm_3d": 3_228_228,
    "mnist_conv_lstm_3d": 1_883_716,
    "mnist_st_lstm_2d": 1_094_508,
    "mnist_conv_lstm_2d": 634_732,
    "released_mnist_3d": 4_997_444,
    "released_traffic4cast_2d": 334_282_808,
    "traffic4cast_3d": 29_035_620,
    "traffic4cast_2d": 39_310_128,
    "kitti_3d": 29_035_620,
    "kitti_2d": 39_310_128,
    "small_mnist_2d": 2_479_016,
    "small_mnist_3d": 1_842_038,
    "small_traffic_2d": 1_395_336,
    "small_traffic_3d": 1_036_662,
    "small_kitti_2d": 1_395_336,
    "small_kitti_3d": 1_036_662,
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
        if name.startswith(("mnist", "released_mnist", "traffic4cast", "kitti")):
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


TASK = Task(
    leads=(0, 2),
    history=4,
    base="mix",
    scale=4.0,
    weights=((0.5, 0.25), (0.125, 1.0)),
    inputs=("activity", "hour"),
    channels=("volume", "speed"),
    edition="tiny",
    cities=("Aal",),
    grid=(17, 23),
)
EXTRA = {"steps": 12, "validation": 0.005, "history": [1, 2], "note": {"b": None, "a": "ö"}}
FIT = {"channels": 2, "history": 4, "horizon": 3, "static_channels": 1}
NETWORKS = {
    "crevnet": ("small_traffic_2d", {"blocks": (1, 1), "modules": 2}),
    "unet": ("unet_small", {"width": 4, "depth": 2, "norm": "batch"}),
    "unet_recurrent": ("unet_small_st_lstm", {"width": 4, "depth": 2}),
}


def some(kind):
    torch.manual_seed(0)
    name, options = NETWORKS[kind]
    return build(name, **FIT, **options)


@pytest.mark.parametrize("kind", NETWORKS)
def test_any_network_comes_back_with_its_task(kind, tmp_path):
    model = some(kind)
    history, static = torch.rand(1, 4, 2, 17, 23), torch.rand(1, 1, 17, 23)
    model.unroll(history, 3, static)  # running statistics move
    one = save_model(tmp_path / "deep" / "a", model, TASK, EXTRA)
    two = save_model(tmp_path / "b", model, TASK, dict(reversed(EXTRA.items())))
    assert one.read_bytes() == two.read_bytes()
    found, task, extra = load_model(one)
    assert (describe(found), task, extra) == (describe(model), TASK, EXTRA)
    assert read_description(one) == (describe(model), TASK, EXTRA)
    for name, value in model.state_dict().items():
        assert torch.equal(found.state_dict()[name], value), name
    said = [network.eval().unroll(history, 3, static) for network in (found, model)]
    assert torch.equal(*said)
    assert save_model(tmp_path / "c", found, task, extra).read_bytes() == one.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b", "c", "deep"]


def test_what_cannot_be_kept_is_not_written(tmp_path):
    for extra in ({"loss": float("nan")}, {"much": "x" * HEADER_LIMIT}):
        with pytest.raises(ValueError):
            save_model(tmp_path / "m", some("unet"), TASK, extra)
    with pytest.raises(ZooError, match="a Linear is of no kind"):
        save_model(tmp_path / "m", torch.nn.Linear(1, 1), TASK, {})
    assert not list(tmp_path.iterdir())


def reword(path, change):
    """Change what the header says, or replace it by a text."""
    text = change
    if callable(change):
        description, task, extra = read_description(path)
        value = {"network": description, "task": task.to_dict(), "extra": extra}
        change(value)
        text = json.dumps(value)
    save_file(load_file(path), path, metadata={MODEL_FORMAT: text})


def claim(**config):
    return lambda value: value["network"]["config"].update(config)


def about(**task):
    return lambda value: value["task"].update(task)


@pytest.mark.parametrize(
    ("kind", "change", "said"),
    [
        ("unet", claim(width=5), "weights do not fit the config: .*expected"),
        (
            "unet",
            claim(heads=5),
            r"its header is not one of a model: UNetConfig has no \['heads'\]",
        ),
        ("unet", claim(width="4"), "width: '4' is not int"),
        ("unet", claim(depth=0), "its header is not one of a model: .*at least 1"),
        ("unet", claim(convolutions=10**9), "weights do not fit.* tensors, expected at least"),
        ("unet", claim(width=2**31 - 1, widest=2**31 - 1), "weights do not fit|no network can"),
        ("unet", claim(width=10**40), "width: .* is not int"),
        ("crevnet", claim(modules=10**9), "weights do not fit.* tensors, expected at least 10"),
        ("crevnet", claim(blocks=[10**9, 1]), "weights do not fit.* tensors"),
        ("crevnet", claim(blocks=[1] * 10**4, strides=[2] * 10**4), "weights do not fit"),
        (
            "crevnet",
            claim(blocks=[1] * 30, strides=[2] * 30, modules=1),
            "do not fit|no network can",
        ),
        ("crevnet", claim(clip=2**31 - 1), "weights do not fit|no network can"),
        ("unet_recurrent", claim(cells=10**9), "weights do not fit"),
        ("unet", lambda value: value["network"].update(kind="crevnet"), "CrevNetConfig has no"),
        ("unet", lambda value: value["network"].update(kind="gan"), "no kind 'gan'"),
        ("unet", lambda value: value["network"].update(kind=[]), "no kind"),
        ("unet", lambda value: value["network"].update(config=[]), "a list"),
        ("unet", lambda value: value.update(network=None), "a description of NoneType"),
        ("unet", lambda value: value.pop("task"), r"it holds \['extra', 'network'\]"),
        ("unet", lambda value: value.update(extra=[]), "extra is a list"),
        ("unet", lambda value: value.update(task=[]), "expected the values of a Task"),
        ("unet", about(colour=1), r"Task has no \['colour'\]"),
        ("unet", about(leads=[2, 0]), "leads"),
        ("unet", about(leads=["0"]), "leads"),
        ("unet", about(history=None), "history: 'None' is not int"),
        ("unet", about(grid=[1, 2, 3]), "grid"),
        ("unet", about(weights=[[1.0]]), "weights"),
        ("unet", lambda value: value["task"].pop("leads"), "leads"),
        ("unet", "{", "its header is not JSON"),
        ("unet", "[" * 10**5, "its header is not"),
        ("unet", "7", "it holds int"),
        ("unet", '{"network": NaN}', "its header is not JSON: NaN is not a number"),
        ("unet", "1" * 10**5, "its header is not JSON"),
    ],
)
def test_a_header_is_not_trusted(kind, change, said, tmp_path):
    path = save_model(tmp_path / "model.safetensors", some(kind), TASK, EXTRA)
    reword(path, change)
    with pytest.raises(CheckpointError, match=said) as refusal:
        load_model(path)
    assert str(refusal.value).startswith(f"{path}: ")
    assert len(str(refusal.value)) < 4000


def bare(path):
    save(CrevNet(TINY), path)


def long_header(path):
    path.write_bytes((10**15).to_bytes(8, "little") + b"{" * 100)


def empty(path):
    path.write_bytes(b"")


def whole_numbers(path):
    header = {MODEL_FORMAT: safe_header(path)}
    save_file({k: v.int() for k, v in load_file(path).items()}, path, metadata=header)


def safe_header(path):
    description, task, extra = read_description(path)
    return json.dumps({"network": description, "task": task.to_dict(), "extra": extra})


def extra_weight(path):
    header = {MODEL_FORMAT: safe_header(path)}
    save_file(load_file(path) | {"more": torch.zeros(1)}, path, metadata=header)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (missing, "no such file"),
        (truncated, "not a whole safetensors file"),
        (foreign, "not a whole safetensors file"),
        (pickled, "not a whole safetensors file"),
        (empty, "not a whole safetensors file"),
        (long_header, "not a whole safetensors file: a header of 1000000000000000 bytes"),
        (other_format, r"header \['format'\], expected 't4c-model-1'"),
        (bare, r"header \['crevnet-1'\], expected 't4c-model-1'"),
        (whole_numbers, r"int32, expected torch.float32"),
        (extra_weight, r"more \(1,\), expected nothing"),
    ],
)
def test_a_spoiled_model_is_refused_by_name(tmp_path, spoil, said):
    path = save_model(tmp_path / "model.safetensors", some("unet_recurrent"), TASK, EXTRA)
    spoil(path)
    with pytest.raises(CheckpointError, match=said) as refusal:
        load_model(path)
    assert str(refusal.value).startswith(f"{path}: ")
