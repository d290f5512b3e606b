"""Laws of the networks of tables 1 and 2, and of PredNet, SimVP and TAU."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from crevnet.comparators.e3d_lstm import E3DLSTMConfig
from crevnet.comparators.frames import FrameByFrame
from crevnet.comparators.frnn import FRNNConfig
from crevnet.comparators.pred_net import PredNetConfig
from crevnet.comparators.pred_rnn_plus_plus import PredRNNPlusPlusConfig
from crevnet.comparators.simvp import SimVPConfig
from crevnet.comparators.stacked import StackedConfig
from crevnet.comparators.unet_rpm import RpmUNetConfig
from crevnet.comparators.vpn import VPNConfig
from crevnet.cost import cost
from crevnet.tables import SMALL, TABLE_1, TABLE_2
from crevnet.zoo import ZOO, build, describe, from_description
from tests.probing import FRAMES, gradients, near, really_kept, world
from tests.tiny_comparators import CONFIGS, build_tiny

EVERY = pytest.mark.parametrize("name", CONFIGS)
ONE_PASS = ("frnn", "simvp", "simvp_group", "tau_group")
STEPPING = pytest.mark.parametrize("name", [name for name in CONFIGS if name not in ONE_PASS])


def steps_of(network):
    """Frames that it sees before the first it says."""
    return network.sees if isinstance(network, FrameByFrame) else 1


@EVERY
@pytest.mark.parametrize("size", [(17, 23), (8, 4), (1, 5)])
def test_any_size_comes_back(name, size):
    network = build_tiny(name).eval()
    history, static = world(network, size=size)
    with torch.no_grad():
        said = network.unroll(history, 3, static)
    early = 0 if name in ONE_PASS else FRAMES - steps_of(network)
    assert said.shape == (2, early + 3, 2, *size)
    assert said.isfinite().all()


@EVERY
def test_samples_do_not_see_each_other(name):
    network = build_tiny(name).eval()
    history, static = world(network, batch=3)
    with torch.no_grad():
        together = network.unroll(history, 3, static)
        for b in range(3):
            one = None if static is None else static[b : b + 1]
            near(network.unroll(history[b : b + 1], 3, one)[0], together[b])


@STEPPING
def test_a_later_frame_does_not_change_what_was_said_before_it(name):
    network = build_tiny(name).eval()
    history, static = world(network, frames=5, size=(8, 12))
    first = steps_of(network)  # the frame that is said first
    with torch.no_grad():
        before = network.unroll(history, 2, static)
        for changed in range(5):
            other = history.clone()
            other[:, changed] += 1
            after = network.unroll(other, 2, static)
            kept = max(0, changed + 1 - first)
            near(after[:, :kept], before[:, :kept])
            moved = (after - before).abs().amax((0, 2, 3, 4))
            assert (moved[kept:] > 0).all()  # it enters all that is said from it on


@STEPPING
def test_looking_ahead_is_seeing_what_was_said(name):
    network = build_tiny(name).eval()
    history, static = world(network)
    with torch.no_grad():
        ahead = network.unroll(history, 3, static)
        seen = torch.cat((history, ahead[:, -3:-1]), 1)
        near(network.unroll(seen, 1, static), ahead)
        near(network(history, static), ahead[:, :-2])


@pytest.mark.parametrize("name", ONE_PASS)
def test_the_first_of_a_forecast_are_a_shorter_one(name):
    network = build_tiny(name).eval()
    history, static = world(network)
    with torch.no_grad():
        long = network.unroll(history, 3, static)
        near(network.unroll(history, 2, static), long[:, :2])
        near(network(history, static)[:, :1], long[:, :1])
        for t in range(FRAMES):  # every frame matters
            other = history.clone()
            other[:, t] += 1
            assert not torch.equal(network.unroll(other, 3, static), long)


def test_simvp_sees_the_last_frames_and_looks_again_at_what_it_said():
    network = build_tiny("simvp").eval()
    history, _ = world(network, frames=6)
    with torch.no_grad():
        said = network.unroll(history, 10)
        near(network.unroll(history[:, 2:], 10), said)
        near(network.unroll(said[:, :4], 6), said[:, 4:])


def test_a_folded_network_forgets_the_frames_and_goes_on_from_its_states():
    """The forecast is a function of the last filtered frame and the states, and nothing else."""
    network = build_tiny("frnn")
    history, static = world(network)
    with torch.no_grad():
        for unit in network.units:  # shut: no state ever changes
            for gates in (unit.gates, unit.gates_down):
                gates.weight.zero_()
                gates.bias.fill_(-1e3)
        said = network.unroll(history, 3, static)
        near(said[:, 1:], said[:, :-1])
        other = history.clone()
        other[:, :-1] += 1
        near(network.unroll(other, 3, static), said)  # all states are as they were at first
        other[:, -1] += 1
        assert not torch.allclose(network.unroll(other, 3, static), said)


def test_pred_net_is_surprised_by_what_is_new_alone():
    """A frame that is as it was said is missed by nothing, whatever it shows."""
    network = build_tiny("pred_net").eval()
    history, static = world(network, size=(8, 12))
    with torch.no_grad():
        seen = torch.cat((history[:, 0], static), 1)
        state = network.start(seen[:, None])
        said = network._expected(0, state[0])
        quiet = network._miss(said, state[:3])
        assert not quiet[0].any()
        missed = network._miss(seen, state[:3])[0]
        over, under = missed.chunk(2, 1)
        near(over - under, seen - said)
        assert not (over * under).any()
        assert (over > 0).any()
        assert (under > 0).any()


@pytest.mark.parametrize("highest", [0.25, 1.0, None])
def test_pred_net_says_pixels_between_its_bounds(highest):
    torch.manual_seed(0)
    network = build("pred_net", widths=[6], highest=highest).double()
    start = network.expectations[0].bias
    assert (start == (0 if highest is None else highest / 2)).all()
    with torch.no_grad():
        network.expectations[0].weight.mul_(100)
        said = network.unroll(world(network)[0], 3)
    if highest is None:
        assert said.min() < -1
        assert said.max() > 1
    else:
        assert said.min() == 0
        assert said.max() == highest


@EVERY
def test_a_gradient_reaches_every_parameter(name):
    network = build_tiny(name)
    history, static = world(network, size=(16, 24))
    network.unroll(history, 3, static).square().mean().backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.abs().max() > 0, key


@EVERY
def test_a_step_lowers_the_loss(name):
    network = build_tiny(name)
    history, static = world(network, size=(8, 12))
    truth = torch.rand(2, 3, 2, 8, 12, dtype=torch.float64)
    optimiser = torch.optim.SGD(network.parameters(), lr=1e-2)

    def loss():
        return (network.unroll(history, 3, static)[:, -3:] - truth).square().mean()

    before = loss()
    before.backward()
    optimiser.step()
    with torch.no_grad():
        assert loss() < before


@EVERY
def test_a_network_comes_back_from_what_it_says_of_itself(name):
    network = build_tiny(name).eval()
    description = json.loads(json.dumps(describe(network)))
    again = from_description(description).double().eval()
    again.load_state_dict(network.state_dict())
    history, static = world(network, size=(9, 12))
    with torch.no_grad():
        assert torch.equal(again.unroll(history, 3, static), network.unroll(history, 3, static))
    assert describe(again) == description
    assert type(network.config).from_dict(network.config.to_dict()) == network.config


@pytest.mark.parametrize("name", [name for name in CONFIGS if name != "simvp"])
def test_frugal_training_gives_the_same_and_keeps_less(name):
    network = build_tiny(name)
    inputs = world(network)
    said, grads, kept = gradients(network, "plain", inputs)
    frugal_said, frugal_grads, frugal_kept = gradients(network, "frugal", inputs)
    near(frugal_said, said)
    for one, two in zip(frugal_grads, grads, strict=True):
        near(one, two)
    assert frugal_kept < 0.8 * kept


def test_batch_norm_is_never_counted_twice():
    network = build_tiny("simvp")
    history, _ = world(network)
    with pytest.raises(ValueError, match="BatchNorm in training"):
        network.unroll(history, 3, memory="frugal")
    network.eval().unroll(history, 3, memory="frugal").sum().backward()


@EVERY
@pytest.mark.parametrize("memory", ["plain", "frugal"])
def test_bfloat16_is_near(name, memory):
    network = build_tiny(name, torch.float32)
    if name == "simvp":
        network.eval()
    history, static = world(network, dtype=torch.float32)
    exact = network.unroll(history, 3, static)
    with torch.autocast("cpu", torch.bfloat16):
        said = network.unroll(history, 3, static, memory=memory)
    said.float().square().mean().backward()
    assert (said.float() - exact).square().mean() < 1e-3 * exact.square().mean()
    assert all(p.grad.isfinite().all() for p in network.parameters())


@EVERY
def test_the_map_matters_where_there_is_one(name):
    network = build_tiny(name).eval()
    history, static = world(network, size=(8, 12))
    with torch.no_grad():
        if static is None:
            with pytest.raises(ValueError, match=r"static map \(2, 1, 8, 12\), expected None"):
                network.unroll(history, 3, torch.rand(2, 1, 8, 12))
            return
        said = network.unroll(history, 3, static)
        assert not torch.equal(said, network.unroll(history, 3, 1 - static))
        with pytest.raises(ValueError, match="static map None, expected"):
            network.unroll(history, 3)


@EVERY
def test_impossible_inputs_are_refused(name):
    network = build_tiny(name)
    with pytest.raises(ValueError, match="frames of 3 channels"):
        network.unroll(torch.rand(1, FRAMES, 3, 8, 8).double(), 3)
    with pytest.raises(ValueError, match="0 frames of 2 channels"):
        network.unroll(torch.rand(1, 0, 2, 8, 8).double(), 3)
    static = world(network, batch=1, size=(8, 8))[1]
    with pytest.raises(ValueError, match="a horizon of 0 frames"):
        network.unroll(torch.rand(1, FRAMES, 2, 8, 8).double(), 0, static)


@pytest.mark.parametrize(
    ("kind", "change", "said"),
    [
        (StackedConfig, {"channels": 0}, "every size is at least 1"),
        (StackedConfig, {"static_channels": -1}, "every size is at least 1"),
        (StackedConfig, {"cells": 0}, "every size is at least 1"),
        (StackedConfig, {"cells": 10**6}, "expected at most 4096"),
        (StackedConfig, {"width": 0}, "every size is at least 1"),
        (StackedConfig, {"kernel": 4}, "kernel 4, expected an odd one"),
        (StackedConfig, {"dims": 4}, "dims: '4'"),
        (StackedConfig, {"cell": "released_st_lstm"}, "cell: "),
        (StackedConfig, {"forget_bias": float("inf")}, "forget_bias"),
        (PredRNNPlusPlusConfig, {"cells": 1}, "1 cells, expected at least 2"),
        (PredRNNPlusPlusConfig, {"kernel": 0}, "kernel 0"),
        (E3DLSTMConfig, {"clip": 0}, "every size is at least 1"),
        (E3DLSTMConfig, {"bias": 1}, "bias: '1' is not bool"),
        (FRNNConfig, {"units": [8, 8]}, "2 units, 8 kernels"),
        (FRNNConfig, {"filters": []}, "0 filters"),
        (FRNNConfig, {"units": [8] * 17, "kernels": [3] * 17}, "17 units, expected at most 16"),
        (PredNetConfig, {"widths": []}, "0 widths, expected 1 to 16"),
        (PredNetConfig, {"widths": [4] * 17}, "17 widths, expected 1 to 16"),
        (PredNetConfig, {"widths": [4, 0]}, "every size is at least 1"),
        (PredNetConfig, {"widths": [4, "5"]}, "widths: "),
        (PredNetConfig, {"highest": 0.0}, "highest 0.0, expected above 0"),
        (PredNetConfig, {"highest": float("inf")}, "highest: 'inf'"),
        (VPNConfig, {"width": 7}, "7 channels, expected an even one"),
        (VPNConfig, {"dilations": []}, "no dilations"),
        (VPNConfig, {"dilations": [0]}, "every size is at least 1"),
        (SimVPConfig, {"history": 0}, "every size is at least 1"),
        (SimVPConfig, {"blocks": 1}, "1 blocks, expected at least 2"),
        (SimVPConfig, {"kernel": 7}, "kernel 7, expected at least 3 x 3"),
        (SimVPConfig, {"norm": "none"}, "norm: "),
        (SimVPConfig, {"translator": "swin"}, "translator: "),
        (SimVPConfig, {"width": 5}, "5 channels, expected an even one"),
        (SimVPConfig, {"stages": 17}, "expected at most 16"),
        (RpmUNetConfig, {"modules": 0}, "every size is at least 1"),
        (RpmUNetConfig, {"gate_cap": 0.0}, "gate_cap 0.0"),
        (RpmUNetConfig, {"widest": 33}, "33 channels at the bottom"),
        (RpmUNetConfig, {"attention": "none"}, "attention: "),
    ],
)
def test_impossible_networks_are_refused(kind, change, said):
    with pytest.raises(ValueError, match=said):
        kind.from_dict(change)


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


PUBLISHED = {  # in thousands, as the toolkit that measures them side by side has them
    "pred_rnn": 23_840,
    "simvp": 46_770,
    "tau": 44_660,
}
UNUSED = {  # convolutions that the toolkit's cells hold, and never call
    "stacked_conv_lstm": (15_080, 4 * (25 * 256 * 128 + 256 * 128)),
    "pred_rnn_plus_plus": (38_580, 4 * 25 * 256 * 128),
}


def test_published_parameter_counts_are_met():
    with torch.device("meta"):
        for name, thousands in PUBLISHED.items():
            assert round(count(build(name)) / 1e4) * 10 == thousands, name
        for name, (thousands, unused) in UNUSED.items():
            assert round((count(build(name)) + unused) / 1e4) * 10 == thousands, name
        # published with a gain and an offset for each of 2 x 16 x 16 places, here for each channel
        released = build("e3d_lstm", bent_memory=True)
        places = 4 * 2 * 128 * (2 * 16 * 16 - 1)
        assert round((count(released) + places) / 1e4) * 10 == 51_350
        per_unit = [3 * ((k * (i + o)) ** 2 + i + o) + o for i, o, k in folded()]
        filters = 25 * 32 + 32 + 1 + 25 * 32 * 64 + 64 + 32
        assert count(build("frnn")) == filters + sum(per_unit)
        blocks = 20 * (2 * 256 * 128 + 128 + 256 + 2 * (9 * 4 * 128**2 + 4 * 128))
        cell = 9 * 512 * 1024 + 1024 + 256
        # as its authors' network for KITTI counts itself, https://github.com/coxlab/prednet/issues/74
        assert count(build("pred_net")) == 6_915_948
        assert count(build("vpn")) == blocks + cell + (9 + 1) * 256 + 256 + 1


def folded():
    wide = (64, 128, 128, 256, 256, 512, 512, 256, 256)
    return zip(wide[:-1], wide[1:], (5, 5, 5, 5, 3, 3, 3, 3), strict=True)


@pytest.mark.parametrize(
    ("name", "giga", "steps"),
    [
        ("stacked_conv_lstm", 56.8, 19),
        ("pred_rnn", 116.0, 19),
        ("pred_rnn_plus_plus", 171.7, 19),
        ("simvp", 16.5, 1),
        ("tau", 16.0, 1),
    ],
)
def test_published_multiply_accumulates_are_met(name, giga, steps):
    """Of 10 frames in and 10 out on 64 x 64; every step costs the same, so two are counted."""
    network_sees, said = (2, 1) if steps > 1 else (10, 10)
    with torch.device("meta"), FlopCounterMode(display=False) as counter, torch.no_grad():
        build(name).unroll(torch.empty(1, network_sees, 1, 64, 64), said)
    counted = counter.get_total_flops() / 2 / 1e9 * (steps / 2 if steps > 1 else 1)
    assert counted == pytest.approx(giga, rel=0.01)


def test_every_cell_of_the_tables_is_a_network():
    rows = ("Stacked-RNN", "3D Stacked-RNN", "UNet+StackedRNN", "UNet+RPM")
    rows += ("CrevNet w/o 3D", "CrevNet + 3D")
    assert list(TABLE_2) == [(row, cell) for row in rows for cell in ("ConvLSTM", "ST-LSTM")]
    assert len(set(TABLE_2.values())) == 12
    for (row, column), name in TABLE_2.items():
        config = ZOO[name]
        assert config.channels == 1
        assert config.cell == column.lower().replace("-", "_").replace("convlstm", "conv_lstm")
        assert (getattr(config, "dims", 2) == 3) == ("3D" in row and "w/o" not in row)
    assert len(set(TABLE_1.values())) == len(TABLE_1) == 8
    assert set(TABLE_1.values()) <= set(ZOO)


def test_small_networks_are_small_and_of_the_same_kind():
    wanted = {*TABLE_1.values(), *TABLE_2.values(), "pred_net", "simvp", "tau"}
    assert set(SMALL) == {name for name in wanted if not name.startswith("mnist")}
    with torch.device("meta"):
        for name, small in SMALL.items():
            assert type(ZOO[small]) is type(ZOO[name])
            assert 0.5e6 < count(build(small)) < 3e6, small
            for field in ("cell", "dims", "clip", "translator"):
                assert getattr(ZOO[small], field, None) == getattr(ZOO[name], field, None)


@pytest.mark.parametrize("memory", ["plain", "frugal"])
@pytest.mark.parametrize(
    "name", ["st_lstm", "e3d_lstm", "frnn", "pred_net", "rpm_st_lstm", "tau_group"]
)
def test_bytes_counted_are_those_that_training_keeps(name, memory):
    network = build_tiny(name, torch.float32)
    history, static = world(network, batch=1, dtype=torch.float32)
    really = really_kept(network, history, 3, static, memory)
    counted = cost(network, history=FRAMES, horizon=3, height=17, width=23)
    assert getattr(counted, f"saved_{memory}") == pytest.approx(really, rel=0.01)
