from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from crevnet.config import CrevNetConfig
from crevnet.coupling import Residual
from crevnet.model import CrevNet
from crevnet.pixel_shuffle import shuffle, unshuffle
from crevnet.predictor import IllConditionedError
from tests.literal import literal

CELLS = ("conv_lstm", "st_lstm", "released_st_lstm")
ATTENTIONS = ("single", "double", "deep")
EXACT, ROUGH = torch.float64, torch.float32
SMALL = CrevNetConfig(
    channels=2, static_channels=1, clip=2, blocks=(2, 1), strides=(1, 2), modules=3
)
DEEP = CrevNetConfig(blocks=(1, 1, 1), modules=8, cell="released_st_lstm")


@pytest.fixture(autouse=True)
def one_thread():
    """Tiny tensors are not worth a second thread, least of all on shared cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def build(config, dtype=EXACT, seed=0) -> CrevNet:
    """A network no number of which is 0 or 1 by design: what starts there could be left out."""
    torch.manual_seed(seed)
    model = CrevNet(config).to(dtype)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 1 or "peephole" in name:
                parameter.add_(0.3 * torch.randn_like(parameter))
        for name, buffer in model.named_buffers():
            if "running" in name:
                buffer.add_(0.3 * torch.rand_like(buffer))
    return model


def world(config, dtype=EXACT, batch=2, steps=3, size=(9, 14), seed=1):
    torch.manual_seed(seed)
    frames = torch.rand(batch, config.clip + steps, config.channels, *size, dtype=dtype)
    static = torch.rand(batch, config.static_channels, *size, dtype=dtype)
    return frames, static if config.static_channels else None


def distance(a, b) -> float:
    assert a.shape == b.shape
    return float((a - b).detach().abs().max())


@pytest.mark.parametrize(("dtype", "bound"), [(EXACT, 1e-12), (ROUGH, 1e-4)])
@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("cell", CELLS)
def test_agrees_with_the_equations(cell, attention, dims, dtype, bound):
    config = replace(SMALL, cell=cell, attention=attention, dims=dims, gate_cap=0.95)
    model = build(config, dtype)
    frames, static = world(config, dtype)
    frames.requires_grad_()
    said, expected = model(frames, static), literal(model)(frames, static)
    assert said.shape == (2, 3, 2, 2, 9, 14)
    assert distance(said, expected) < bound
    found, true = (torch.autograd.grad(x.square().sum(), frames)[0] for x in (said, expected))
    assert (found - true).norm() < bound * true.norm()


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("training", [False, True])
def test_batch_norm_agrees_with_the_equations_step_by_step(dims, training):
    model = build(replace(SMALL, dims=dims, norm="batch")).train(training)
    frames, static = world(model.config)
    oracle = literal(model)
    assert distance(model(frames, static), oracle(frames, static)) < 1e-12
    for (name, found), expected in zip(model.named_buffers(), oracle.buffers(), strict=True):
        assert distance(found, expected) < 1e-12, name
        assert "tracked" not in name or found == 6 * training  # three steps, there and back


@pytest.mark.parametrize("shape", [(2, 3, 6, 12), (2, 3, 5, 6, 12)])
@pytest.mark.parametrize("factor", [1, 2, 3])
def test_pixel_shuffle_is_exact_and_ordered(shape, factor):
    x = torch.rand(shape)
    there = unshuffle(x, factor)
    assert torch.equal(shuffle(there, factor), x)
    for row in range(factor):
        for column in range(factor):
            for channel in range(3):
                taken = there[:, (row * factor + column) * 3 + channel]
                assert torch.equal(taken, x[:, channel, ..., row::factor, column::factor])


def test_first_half_is_the_even_rows():
    x = torch.rand(2, 3, 4, 8, 6)
    x[..., 1::2, :] = -1
    even, odd = unshuffle(x, 2).chunk(2, 1)
    assert even.min() >= 0
    assert odd.max() == -1


def test_pixel_shuffle_refuses_what_does_not_divide():
    with pytest.raises(ValueError, match=r"7 x 6.*2 x 2"):
        unshuffle(torch.zeros(1, 1, 7, 6), 2)
    with pytest.raises(ValueError, match=r"6 channels.*2 x 2"):
        shuffle(torch.zeros(1, 6, 7, 6), 2)


SHAPES = {
    "3d": ({}, (17, 23)),
    "2d": ({"dims": 2}, (17, 23)),
    "2d released": (
        {"dims": 2, "channels": 1, "clip": 1, "blocks": (2,) * 4, "strides": (1, 2, 2, 2)},
        (33, 20),
    ),
    "unstrided": ({"strides": (1, 1), "bottleneck": 4}, (5, 7)),
    "strided first": ({"strides": (2, 2)}, (17, 23)),
    "city": (
        {"dims": 2, "channels": 1, "static_channels": 0, "clip": 1, "blocks": (1, 1)},
        (495, 436),
    ),
}


@pytest.mark.parametrize("norm", ["group", "batch", "none"])
@pytest.mark.parametrize("name", SHAPES)
def test_decode_undoes_encode(name, norm):
    changes, size = SHAPES[name]
    config = replace(SMALL, norm=norm, modules=1, cell="conv_lstm", **changes)
    for dtype, bound in ((EXACT, 1e-12), (ROUGH, 1e-5)):
        for training in (False, True):
            model = build(config, dtype).train(training)
            frames, static = world(config, dtype, steps=0, size=size)
            a, b = model.encode(frames, static)
            sides = [-(-side // config.factor) for side in size]
            assert a.shape[2] == config.width
            assert list(a.shape[-2:]) == sides
            assert a.abs().max() > 0.1
            reach = max(1.0, float(a.detach().abs().max()))
            assert distance(model.decode((a[0], b[0]), *size), frames) < bound * reach


@pytest.mark.parametrize(("dtype", "bound"), [(EXACT, 1e-12), (ROUGH, 1e-5)])
def test_decode_undoes_encode_once_trained(dtype, bound):
    config = replace(SMALL, static_channels=0, blocks=(4, 5), modules=1, cell="conv_lstm")
    model = build(config, dtype)
    frames, _ = world(config, dtype, size=(8, 8))
    truth = frames[:, 1:].unfold(1, 2, 1).movedim(-1, 2)
    adam = torch.optim.Adam(model.parameters(), lr=1e-2)
    before = [p.detach().clone() for p in model.autoencoder.parameters()]
    for _ in range(15):
        adam.zero_grad()
        (model(frames) - truth).square().mean().backward()
        adam.step()
    moved = [distance(p, q) for p, q in zip(model.autoencoder.parameters(), before, strict=True)]
    assert min(moved) > 1e-3
    with torch.no_grad():
        a, b = model.encode(frames)
        again = model.decode((a[0], b[0]), 8, 8)
    assert distance(again, frames[:, :2]) < bound


def test_encode_undoes_decode():
    model = build(replace(SMALL, static_channels=0))
    halves = tuple(torch.randn(2, model.config.width, 2, 3, 5, dtype=EXACT) for _ in range(2))
    volume = model.autoencoder.decode(halves)
    for said, expected in zip(model.autoencoder.encode(volume), halves, strict=True):
        assert distance(said, expected) < 1e-12


@pytest.mark.parametrize("dims", [2, 3])
def test_features_fed_back_equal_clips_decoded_and_encoded_again(dims):
    model = build(replace(SMALL, dims=dims))
    frames, static = world(model.config)
    halves = model.encode(frames, static)
    memory, said = model.predictor.start(halves[0][0]), []
    for now in zip(*halves, strict=True):
        out, memory = model.predictor(now, memory)
    for _ in range(4):
        said.append(model.decode(out, 9, 14)[:, -1])
        out, memory = model.predictor(out, memory)
    expected = literal(model).roll_out(frames, 4, static, overwrite=False)
    assert distance(torch.stack(said, 1), expected) < 1e-12


@pytest.mark.parametrize("norm", ["group", "batch", "none"])
def test_a_batch_of_one_and_of_many_give_the_same_answer(norm):
    model = build(replace(SMALL, norm=norm)).eval()
    frames, static = world(model.config, batch=3)
    together = model(frames, static)
    alone = [model(frames[i : i + 1], static[i : i + 1]) for i in range(3)]
    assert distance(together, torch.cat(alone)) < 1e-13


def step_with(config, dtype, bias):
    """A network with opener gates, and a step of it amid a sequence."""
    model = build(config, dtype)
    with torch.no_grad():
        for rpm in model.predictor.rpms:
            rpm.attention[-1].bias += bias
        frames, static = world(config, dtype, steps=2, size=(16, 24))
        halves = model.encode(frames, static)
        before = model.predictor.start(halves[0][0])
        for now in list(zip(*halves, strict=True))[:-1]:
            _, before = model.predictor(now, before)
        said, after = model.predictor((halves[0][-1], halves[1][-1]), before)
        clip = model.decode(said, 16, 24)
    return model, clip, before, after, frames[:, 2:]


# Worst pixel by what is added to gate logits, eight modules; float32 from +4 on is refused.
TABLE = [
    (ROUGH, 0, 1e-4),
    (ROUGH, 2, 3e-2),
    (EXACT, 0, 1e-12),
    (EXACT, 2, 1e-10),
    (EXACT, 4, 1e-5),
]


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(("dtype", "bias", "bound"), TABLE)
def test_a_prediction_gives_back_the_clip_it_came_from(cell, dtype, bias, bound):
    model, clip, before, after, seen = step_with(replace(DEEP, cell=cell), dtype, bias)
    with torch.no_grad():
        again, condition = model.invert(clip, before, after, limit=math.inf)
    assert distance(again, seen) < bound
    assert distance(again, seen) < 100 * torch.finfo(dtype).eps * condition
    assert distance(clip, seen) > 0.1  # the way back was a way


@pytest.mark.parametrize("dtype", [ROUGH, EXACT])
@pytest.mark.parametrize("cell", CELLS)
def test_saturated_gates_are_refused_not_undone(cell, dtype):
    model, clip, before, after, _ = step_with(replace(DEEP, cell=cell), dtype, 9)
    with pytest.raises(IllConditionedError, match=r"condition number .* at module \d of 8"):
        model.invert(clip, before, after)


def test_a_gate_of_exactly_one_is_refused_under_any_limit():
    model, clip, before, after, _ = step_with(DEEP, ROUGH, 40)
    with pytest.raises(IllConditionedError):
        model.invert(clip, before, after, limit=1e30)


@pytest.mark.parametrize("cell", CELLS)
def test_capped_gates_stay_well_conditioned(cell):
    config = replace(DEEP, cell=cell, gate_cap=0.8)
    for dtype, bound in ((EXACT, 1e-8), (ROUGH, 0.5)):
        model, clip, before, after, seen = step_with(config, dtype, 9)
        with torch.no_grad():
            again, condition = model.invert(clip, before, after)
        assert 1e5 < condition < 5**8 * 1.001
        assert distance(again, seen) < bound


@pytest.mark.parametrize("lost", ["hidden", "cell", "spatial"])
def test_undoing_a_step_takes_every_part_of_the_memory(lost):
    model, clip, before, after, seen = step_with(DEEP, EXACT, 0)
    known = {"before": before, "after": after}
    side = "after" if lost == "spatial" else "before"  # M as each module passed it on
    blank = tuple(torch.zeros_like(x) for x in getattr(before, lost))
    known[side] = replace(known[side], **{lost: blank})
    with torch.no_grad():
        assert distance(model.invert(clip, **known)[0], seen) > 1e-4


@pytest.mark.parametrize("attention", ["single", "double", "deep"])
def test_gates_may_start_open(attention):
    torch.manual_seed(0)
    shape = {"dims": 2, "clip": 1, "blocks": (1,), "strides": (1,), "modules": 2}
    config = CrevNetConfig(**shape, attention=attention, gate_bias=6.0)
    for rpm in CrevNet(config).predictor.rpms:
        assert rpm.gate(torch.rand(1, config.width, 4, 5) / 10).min() > 0.95
    for rpm in CrevNet(replace(config, gate_bias=0.0)).predictor.rpms:
        assert rpm.gate(torch.rand(1, config.width, 4, 5) / 10).min() < 0.7


def test_without_a_norm_a_block_adds_little_where_it_sees_little():
    """No bias, no norm: what is added grows with what is seen, and is nothing for nothing."""
    residual = Residual(2, 3, 6, stride=2, bottleneck=0.5, norm="none").to(EXACT)
    x = torch.randn(2, 3, 10, 6, dtype=EXACT)
    assert residual(x).shape == (2, 6, 5, 3)
    assert [part.out_channels for part in residual if isinstance(part, nn.Conv2d)] == [12, 12, 6]
    torch.testing.assert_close(residual(0.01 * x), 0.01 * residual(x))
    normed = Residual(2, 3, 6, stride=2, bottleneck=0.5, norm="group").to(EXACT)
    assert distance(normed(0.01 * x), 0.01 * normed(x)) > 0.1
