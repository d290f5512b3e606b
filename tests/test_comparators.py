from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import nn

from crevnet.comparators.unet import UNet, UNetConfig
from crevnet.comparators.unet_recurrent import RecurrentUNet, RecurrentUNetConfig
from tests.probing import gradients, near, world

FLAT = UNetConfig(channels=2, history=4, horizon=3, width=6, depth=2, widest=10)
CONV = RecurrentUNetConfig(channels=2, width=6, depth=2, widest=10, cells=2)
CONFIGS = {
    "unet": FLAT,
    "unet_bare": replace(FLAT, norm="none", convolutions=1, growth=3),
    "unet_batch": replace(FLAT, norm="batch"),
    "unet_map": replace(FLAT, static_channels=3),
    "conv_lstm": CONV,
    "st_lstm": replace(CONV, cell="st_lstm", static_channels=1),
    "released_st_lstm": replace(CONV, cell="released_st_lstm", cells=3),
    "conv_lstm_batch": replace(CONV, norm="batch"),
}
RECURRENT = [name for name, config in CONFIGS.items() if isinstance(config, RecurrentUNetConfig)]
EVERY = pytest.mark.parametrize("name", CONFIGS)


def build(name, dtype=torch.float64):
    torch.manual_seed(0)
    config = CONFIGS[name]
    kind = UNet if isinstance(config, UNetConfig) else RecurrentUNet
    return kind(config).to(dtype)


@EVERY
@pytest.mark.parametrize("size", [(17, 23), (8, 4), (1, 5)])
def test_any_size_comes_back(name, size):
    network = build(name).eval()
    said = network.unroll(*with_horizon(world(network, size=size), 3))
    one_step = 3 if name in RECURRENT else 0
    assert said.shape == (2, one_step + 3, 2, *size)
    assert said.isfinite().all()


def with_horizon(inputs, horizon):
    history, static = inputs
    return history, horizon, static


@EVERY
def test_samples_do_not_see_each_other(name):
    network = build(name).eval()
    history, static = world(network, batch=3)
    together = network.unroll(history, 3, static)
    for b in range(3):
        alone = network.unroll(history[b : b + 1], 3, None if static is None else static[b : b + 1])
        near(alone[0], together[b])


@pytest.mark.parametrize("name", RECURRENT)
def test_a_later_frame_does_not_change_what_was_said_before_it(name):
    network = build(name).eval()
    history, static = world(network, frames=5)
    before = network.unroll(history, 2, static)
    for changed in range(5):
        other = history.clone()
        other[:, changed] += 1
        after = network.unroll(other, 2, static)
        near(after[:, :changed], before[:, :changed])
        moved = (after - before).abs().amax((0, 2, 3, 4))
        assert (moved[changed:] > 0).all()  # it enters all that is said from it on


@pytest.mark.parametrize("name", RECURRENT)
def test_looking_ahead_is_seeing_what_was_said(name):
    network = build(name).eval()
    history, static = world(network)
    ahead = network.unroll(history, 3, static)
    seen = torch.cat((history, ahead[:, -3:-1]), 1)
    near(network.unroll(seen, 1, static), ahead)
    near(network(history, static), ahead[:, :-2])


def test_a_unet_sees_the_last_frames_and_says_the_first():
    network = build("unet")
    history, _ = world(network, frames=6)
    said = network.unroll(history[:, 2:], 3)
    near(network.unroll(history, 3), said)
    near(network.unroll(history, 2), said[:, :2])
    near(network(history), said)
    for t in range(6):
        other = history.clone()
        other[:, t] += 1
        assert torch.equal(network.unroll(other, 3), network.unroll(history, 3)) == (t < 2)


@EVERY
def test_a_gradient_reaches_every_parameter(name):
    network = build(name)
    history, static = world(network, size=(16, 24))
    network.unroll(history, 3, static).square().mean().backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None, key
        # a bias before BatchNorm has none, but for rounding
        if not ("batch" in name and key.endswith("bias")):
            assert parameter.grad.abs().max() > 0, key


@EVERY
def test_the_map_matters_where_there_is_one(name):
    network = build(name).eval()
    history, static = world(network)
    if static is None:
        with pytest.raises(ValueError, match=r"static map \(2, 1, 17, 23\), expected None"):
            network.unroll(history, 3, torch.rand(2, 1, 17, 23))
        return
    said = network.unroll(history, 3, static)
    assert not torch.equal(said, network.unroll(history, 3, 1 - static))
    with pytest.raises(ValueError, match="static map None, expected"):
        network.unroll(history, 3)


def test_fine_detail_goes_across_and_the_rest_through_the_bottom():
    network = build("unet_bare").eval()
    history, _ = world(network, size=(40, 40))
    history.requires_grad_()

    def reach():
        """How far from a pixel the input still moves it."""
        said = network.unroll(history, 3)[0, :, :, 20, 20].sum()
        (grad,) = torch.autograd.grad(said, history)
        rows, columns = grad[0].abs().sum((0, 1)).nonzero().T
        return int(max((rows - 20).abs().max(), (columns - 20).abs().max()))

    # finest stage of the encoder and of the decoder: one pixel each, and the bottom's 4 x 4 blocks
    assert reach() > 8
    with torch.no_grad():
        for parameter in network.decoder.rises.parameters():
            parameter.zero_()
    assert reach() == 2


def conv(inputs, outputs, norm):
    return 9 * inputs * outputs + outputs + (0 if norm == "none" else 2 * outputs)


def by_hand(config):
    def stage(inputs, outputs):
        more = config.convolutions - 1
        return conv(inputs, outputs, config.norm) + more * conv(outputs, outputs, config.norm)

    levels = range(config.depth + 1)
    wide = [min(config.widest, config.width * config.growth**level) for level in levels]
    flat = isinstance(config, UNetConfig)
    inputs = config.channels * (config.history if flat else 1) + config.static_channels
    outputs = config.channels * (config.horizon if flat else 1)
    total = sum(stage(a, b) for a, b in zip([inputs, *wide], wide, strict=False))
    for fine, coarse in pairwise(wide):
        total += 4 * coarse * fine + fine + stage(2 * fine, fine)
    total += wide[0] * outputs + outputs
    if not flat:
        c = wide[-1]
        cell = {
            "conv_lstm": 4 * (18 * c**2 + c) + c,
            "st_lstm": 7 * (18 * c**2 + c) + 2 * c + 2 * c**2,
            "released_st_lstm": 22 * 9 * c**2 + 2 * c**2 + 8 * c,
        }
        total += config.cells * cell[config.cell]
    return total


@EVERY
def test_parameters_are_those_of_the_formula(name):
    network = build(name)
    assert sum(p.numel() for p in network.parameters()) == by_hand(network.config)


@pytest.mark.parametrize("name", [name for name in CONFIGS if "batch" not in name])
def test_frugal_training_gives_the_same_and_keeps_less(name):
    network = build(name)
    inputs = world(network)
    said, grads, kept = gradients(network, "plain", inputs)
    frugal_said, frugal_grads, frugal_kept = gradients(network, "frugal", inputs)
    near(frugal_said, said)
    for one, two in zip(frugal_grads, grads, strict=True):
        near(one, two)
    assert frugal_kept < 0.8 * kept


@pytest.mark.parametrize("name", ["unet_batch", "conv_lstm_batch"])
def test_batch_norm_is_never_counted_twice(name):
    network = build(name)
    history, _ = world(network)
    with pytest.raises(ValueError, match="BatchNorm in training"):
        network.unroll(history, 3, memory="frugal")
    with torch.no_grad():
        network.unroll(history, 3, memory="frugal")
    network.eval().unroll(history, 3, memory="frugal").sum().backward()


@EVERY
@pytest.mark.parametrize("memory", ["plain", "frugal"])
def test_bfloat16_is_near(name, memory):
    network = build(name, torch.float32)
    if "batch" in name:
        network.eval()
    history, static = world(network, dtype=torch.float32)
    exact = network.unroll(history, 3, static)
    with torch.autocast("cpu", torch.bfloat16):
        said = network.unroll(history, 3, static, memory=memory)
    said.float().square().mean().backward()
    assert (said.float() - exact).square().mean() < 1e-3 * exact.square().mean()
    assert all(p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize("kind", [UNetConfig, RecurrentUNetConfig])
def test_configs_come_back_from_plain_values(kind):
    config = kind(width=5, norm="none", static_channels=2)
    assert kind.from_dict(config.to_dict()) == config
    with pytest.raises(ValueError, match=r"has no \['heads'\]; it has \['channels'"):
        kind.from_dict({"heads": 3})


@pytest.mark.parametrize(
    ("kind", "change", "said"),
    [
        (kind, change, said)
        for kind in (UNetConfig, RecurrentUNetConfig)
        for change, said in (
            ({"channels": 0}, "every size is at least 1"),
            ({"static_channels": -1}, "every size is at least 1"),
            ({"convolutions": 0}, "every size is at least 1"),
            ({"depth": 0}, "depth 0.*expected at least 1"),
            ({"width": 0}, "width 0"),
            ({"widest": -4}, "widest -4"),
            ({"depth": 40}, "depth 40.*at most 16"),
            ({"norm": "layer"}, "norm.*layer"),
            ({"width": "64"}, "width: '64' is not int"),
            ({"width": True}, "width: 'True' is not int"),
            ({"width": 2.0}, "width: '2.0' is not int"),
            ({"width": 10**12}, "width: .* is not int"),
            ({"norm": ["group"]}, "norm: "),
        )
    ]
    + [
        (UNetConfig, {"history": 0}, "every size is at least 1"),
        (UNetConfig, {"horizon": 0}, "every size is at least 1"),
        (RecurrentUNetConfig, {"cells": 0}, "every size is at least 1"),
        (RecurrentUNetConfig, {"cell": "gru"}, "cell.*gru"),
    ],
)
def test_impossible_networks_are_refused(kind, change, said):
    with pytest.raises(ValueError, match=said):
        kind.from_dict(change)


@pytest.mark.parametrize(
    ("name", "frames", "channels", "horizon", "said"),
    [
        ("unet", 3, 2, 3, "3 frames of 2 channels, expected at least 4 of 2"),
        ("unet", 4, 1, 3, "4 frames of 1 channels, expected at least 4 of 2"),
        ("unet", 4, 2, 4, "a horizon of 4 frames, but the head says 3"),
        ("unet", 4, 2, 0, "a horizon of 0 frames"),
        ("conv_lstm", 0, 2, 3, "0 frames of 2 channels"),
        ("conv_lstm", 4, 3, 3, "4 frames of 3 channels"),
        ("conv_lstm", 4, 2, 0, "a horizon of 0 frames"),
    ],
)
def test_impossible_inputs_are_refused(name, frames, channels, horizon, said):
    with pytest.raises(ValueError, match=said):
        build(name).unroll(torch.zeros(1, frames, channels, 8, 8).double(), horizon)


def test_weights_on_a_cpu_lie_as_its_convolutions_like_them():
    network = UNet(FLAT)
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert all(c.weight.is_contiguous(memory_format=torch.channels_last) for c in convolutions)
