"""The comparators once more, slowly: their papers' equations, a gate at a time.

Convolutions are sums over shifted maps, attention is a loop over places; nothing is fused. Shares
no code with `crevnet`, only the numbers of its weights.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import pad

from crevnet.padding import pad as pad_to
from tests.literal import CELLS, attention, copy_cell
from tests.probing import near, world
from tests.tiny_comparators import build_tiny


def conv(x: Tensor, weight: Tensor, bias: Tensor | None = None, dilation: int = 1) -> Tensor:
    """`sum over taps of W x`, maps kept at their size by zeros around, in 2D or 3D.

    Of an even kernel the odd zero is at the end.
    """
    taps = weight.shape[2:]
    around = [(dilation * ((k - 1) // 2), dilation * (k - 1 - (k - 1) // 2)) for k in taps]
    wide = pad(x, [side for pair in reversed(around) for side in pair])
    said = None
    for tap in torch.cartesian_prod(*(torch.arange(k) for k in taps)).tolist():
        part = wide
        for axis, (at, size) in enumerate(zip(tap, x.shape[2:], strict=True)):
            part = part.narrow(2 + axis, at * dilation, size)
        add = torch.einsum("oi,bi...->bo...", weight[(..., *tap)], part)
        said = add if said is None else said + add
    return said if bias is None else said + bias.reshape(-1, *[1] * (x.dim() - 2))


def of(layer, x, *, rows=None, columns=None, dilation=1):
    """Some of a layer's outputs, from some of its inputs."""
    rows, columns = rows or slice(None), columns or slice(None)
    bias = None if layer.bias is None else layer.bias[rows]
    return conv(x, layer.weight[rows, columns], bias, dilation)


def gate(layer, number, count, *seen):
    """The number-th of the gates whose convolutions share a layer, each tensor on its own."""
    width = layer.weight.shape[0] // count
    rows, at, said = slice(number * width, (number + 1) * width), 0, 0
    for tensor in seen:
        columns = slice(at, at + tensor.shape[1])
        said = said + conv(tensor, layer.weight[rows, columns])
        at += tensor.shape[1]
    assert at == layer.weight.shape[1]
    if layer.bias is not None:
        said = said + layer.bias[rows].reshape(-1, *[1] * (said.dim() - 2))
    return said


def to_patches(x: Tensor, p: int) -> Tensor:
    rows = [x[..., row::p, column::p] for row in range(p) for column in range(p)]
    return torch.cat(rows, 1)


def from_patches(x: Tensor, p: int) -> Tensor:
    C = x.shape[1] // p**2
    said = x.new_zeros(*x.shape[:1], C, x.shape[-2] * p, x.shape[-1] * p)
    for number in range(p**2):
        said[..., number // p :: p, number % p :: p] = x[:, number * C : (number + 1) * C]
    return said


def halve(x):
    corners = [x[..., row::2, column::2] for row in (0, 1) for column in (0, 1)]
    return torch.stack(corners).amax(0)


def double(x):
    return x.repeat_interleave(2, -1).repeat_interleave(2, -2)


def sigmoid(x):
    return 1 / (1 + torch.exp(-x))


def roll(network, history, static, horizon, step, sees=1):
    """Frames in, frames out; `step` gets the padded last frames, each with its map."""
    frames, said = list(history.unbind(1)), []
    H, W = history.shape[-2:]
    for t in range(sees, history.shape[1] + horizon):
        recent = frames[t - sees : t]
        if static is not None:
            recent = [torch.cat((frame, static), 1) for frame in recent]
        said.append(step([pad_to(frame, network.config.factor) for frame in recent])[..., :H, :W])
        if t >= len(frames):
            frames.append(said[-1])
    return torch.stack(said, 1)


def zeros(network, history, *, depth=0):
    H, W = pad_to(history, network.config.factor).shape[-2:]
    p, c = network.config.factor, network.config.width
    return torch.zeros(len(history), c, *[depth] * bool(depth), H // p, W // p).double()


def check(name, literal, horizon=3):
    network = build_tiny(name).eval()
    history, static = world(network, size=(5, 7))
    with torch.no_grad():
        wanted = literal(network, history, static, horizon)
        near(network.unroll(history, horizon, static), wanted)


def stacked(network, history, static, horizon):
    """ConvLSTM and ST-LSTM in a stack (appendix A; PredRNN, eq. 3), forget gates shifted by 1."""
    config = network.config
    deep = config.dims == 3
    zero = zeros(network, history, depth=config.clip if deep else 0)
    h, c, m = [zero] * config.cells, [zero] * config.cells, zero

    def step(recent):
        nonlocal m
        if deep:
            patches = [to_patches(frame, config.patch) for frame in recent]
            x = torch.stack(patches, 2)
        else:
            x = to_patches(torch.cat(recent, 1), config.patch)
        for k, cell in enumerate(network.cells):
            i = sigmoid(gate(cell.gates, 0, 4, x, h[k]))
            f = sigmoid(gate(cell.gates, 1, 4, x, h[k]) + 1)
            g = torch.tanh(gate(cell.gates, 2, 4, x, h[k]))
            o = gate(cell.gates, 3, 4, x, h[k])
            c[k] = f * c[k] + i * g
            if config.cell == "conv_lstm":
                if config.bias:
                    o = o + cell.peephole * c[k]
                h[k] = sigmoid(o) * torch.tanh(c[k])
            else:
                i = sigmoid(gate(cell.memory_gates, 0, 3, x, m))
                f = sigmoid(gate(cell.memory_gates, 1, 3, x, m) + 1)
                m = f * m + i * torch.tanh(gate(cell.memory_gates, 2, 3, x, m))
                o = sigmoid(o + gate(cell.output_gate, 0, 1, c[k], m))
                h[k] = o * torch.tanh(gate(cell.mix, 0, 1, c[k], m))
            x = h[k]
        return from_patches(of(network.head, x[:, :, -1] if deep else x), config.patch)

    return roll(network, history, static, horizon, step, config.clip)


@pytest.mark.parametrize(
    "name", ["conv_lstm", "conv_lstm_clip", "conv_lstm_3d", "st_lstm", "st_lstm_3d"]
)
def test_stacks_are_those_of_their_equations(name):
    check(name, stacked)


def causal(network, history, static, horizon):
    """PredRNN++, eq. 2 and 3: causal LSTMs, the gradient highway between the first two."""
    config, zero = network.config, zeros(network, history)
    h, c, m, z = [zero] * config.cells, [zero] * config.cells, zero, zero

    def step(recent):
        nonlocal m, z
        x = to_patches(recent[0], config.patch)
        for k, cell in enumerate(network.cells):
            if k == 1:
                p = torch.tanh(gate(network.highway.gates, 0, 2, x, z))
                s = sigmoid(gate(network.highway.gates, 1, 2, x, z))
                x = z = s * p + (1 - s) * z
            i, f, g = (gate(cell.gates, number, 3, x, h[k], c[k]) for number in range(3))
            c[k] = sigmoid(f + 1) * c[k] + sigmoid(i) * torch.tanh(g)
            i, f, g = (gate(cell.memory_gates, number, 3, x, c[k], m) for number in range(3))
            old = torch.tanh(of(cell.memory_before, m))
            m = sigmoid(f + 1) * old + sigmoid(i) * torch.tanh(g)
            o = torch.tanh(gate(cell.output_gate, 0, 1, x, c[k], m))
            h[k] = x = o * torch.tanh(gate(cell.mix, 0, 1, c[k], m))
        return from_patches(of(network.head, x), config.patch)

    return roll(network, history, static, horizon, step)


def test_pred_rnn_plus_plus_is_that_of_its_equations():
    check("pred_rnn_plus_plus", causal)


def layer_norm(x, gain, offset):
    said = torch.empty_like(x)
    for b, sample in enumerate(x):
        variance = (sample - sample.mean()).square().mean()
        scaled = (sample - sample.mean()) / (variance + 1e-5).sqrt()
        said[b] = scaled * gain[:, None, None, None] + offset[:, None, None, None]
    return said


def recalled(r, past):
    """`softmax(r . C) C`, place by place."""
    said = torch.empty_like(r)
    B, _, D, H, W = r.shape
    for b in range(B):
        known = torch.cat([one[b].flatten(1) for one in past], 1)  # (C, places)
        for place in torch.cartesian_prod(*(torch.arange(n) for n in (D, H, W))).tolist():
            likeness = (r[(b, slice(None), *place)][:, None] * known).sum(0)
            share = torch.exp(likeness - likeness.max())
            said[(b, slice(None), *place)] = (known * share / share.sum()).sum(1)
    return said


def eidetic(network, history, static, horizon):
    """E3D-LSTM, eq. 1 and 2; the memory's old value bent by `tanh(W m)` as released, or not."""
    config = network.config
    zero = zeros(network, history, depth=config.clip)
    h, past, m = [zero] * config.cells, [[zero] for _ in network.cells], zero

    def step(recent):
        nonlocal m
        x = torch.stack([to_patches(frame, config.patch) for frame in recent], 2)
        for k, cell in enumerate(network.cells):
            r, i, g, o = (gate(cell.gates, number, 4, x, h[k]) for number in range(4))
            c = past[k][-1] + recalled(sigmoid(r), past[k])
            c = sigmoid(i) * torch.tanh(g) + layer_norm(c, cell.norm.weight, cell.norm.bias)
            past[k].append(c)
            i, f, g = (gate(cell.memory_gates, number, 3, x, m) for number in range(3))
            old = torch.tanh(of(cell.memory_before, m)) if config.bent_memory else m
            m = sigmoid(f + 1) * old + sigmoid(i) * torch.tanh(g)
            o = sigmoid(o + gate(cell.output_gate, 0, 1, c, m))
            h[k] = x = o * torch.tanh(gate(cell.mix, 0, 1, c, m))
        depth = [
            torch.einsum("oi,bihw->bohw", network.head.weight[:, :, d, 0, 0], x[:, :, d])
            for d in range(config.clip)
        ]
        return from_patches(sum(depth) + network.head.bias[:, None, None], config.patch)

    return roll(network, history, static, horizon, step, config.clip)


@pytest.mark.parametrize("name", ["e3d_lstm", "e3d_lstm_released"])
def test_e3d_lstm_is_that_of_its_equations(name):
    check(name, eidetic, horizon=2)


def pixels(network, history, static, horizon):
    """VPN: residual multiplicative blocks (eq. 3 and 4), a ConvLSTM, such blocks again."""

    def unit(layer, x, dilation):
        rows = [slice(n * x.shape[1], (n + 1) * x.shape[1]) for n in range(4)]
        g1, g2, g3, u = (of(layer, x, rows=part, dilation=dilation) for part in rows)
        return sigmoid(g1) * torch.tanh(sigmoid(g2) * x + sigmoid(g3) * torch.tanh(u))

    def block(one, x, dilation):
        first, mu, mv, last = one.residual
        inner = unit(mv.gates, unit(mu.gates, of(first, x), dilation), dilation)
        return x + of(last, inner)

    h = c = zeros(network, history)

    def step(recent):
        nonlocal h, c
        enter, *encoder = network.encoder
        *decoder, leave = network.decoder
        x = of(enter, recent[0])
        for number, one in enumerate(encoder):
            x = block(one, x, (1, 2, 4, 8)[number % 4])
        i, f, g, o = (gate(network.cell.gates, number, 4, x, h) for number in range(4))
        c = sigmoid(f + 1) * c + sigmoid(i) * torch.tanh(g)
        h = sigmoid(o + network.cell.peephole * c) * torch.tanh(c)
        x = h
        for one in decoder:
            x = block(one, x, 1)
        return of(leave, x)

    return roll(network, history, static, horizon, step)


def test_vpn_is_that_of_its_equations():
    check("vpn", pixels, horizon=2)


def folded(network, history, static, horizon):
    """FRNN: each unit's forward gates encode the history, its backward gates say the future."""
    (H, W), units = history.shape[-2:], list(network.units)

    def encode(unit, x, h):
        r, z = (sigmoid(gate(unit.gates, number, 2, x, h)) for number in (0, 1))
        return (1 - z) * h + z * torch.tanh(gate(unit.new, 0, 1, x, r * h))

    def decode(unit, x, h):
        r, z = (sigmoid(gate(unit.gates_down, number, 2, x, h)) for number in (0, 1))
        return (1 - z) * x + z * torch.tanh(gate(unit.new_down, 0, 1, r * x, h))

    h = [None] * len(units)
    for frame in history.unbind(1):
        x = frame if static is None else torch.cat((frame, static), 1)
        x = pad_to(x, 4)
        for layer in network.filters:
            x = torch.tanh(of(layer.up, x))
        inputs = []
        for k, unit in enumerate(units):
            x = halve(x) if k in (0, 2) else x
            inputs.append(x)
            if h[k] is None:
                h[k] = unit.first.expand(len(x), -1, *x.shape[-2:])
            x = h[k] = encode(unit, x, h[k])
    top, said = h[-1], []
    for _ in range(horizon):
        x = top
        for k in reversed(range(len(units))):
            x = inputs[k] = decode(units[k], inputs[k], x)
            x = double(x) if k in (0, 2) else x
        for number in (1, 0):
            layer = network.filters[number]
            mirrored = layer.up.weight.transpose(0, 1).flip(2, 3)
            x = conv(x, mirrored, layer.bias_down)
            x = torch.tanh(x) if number else x
        said.append(x[:, : network.config.channels, :H, :W])
        top = encode(units[-1], inputs[-1], top)
    return torch.stack(said, 1)


def test_frnn_is_that_of_its_equations():
    check("frnn", folded)


def predictive(network, history, static, horizon):
    """PredNet, algorithm 1 and eq. 1 to 4, in their order: each frame is first said, then seen."""
    (H, W), top = history.shape[-2:], len(network.config.widths)
    sides = pad_to(history, network.config.factor).shape[-2:]
    R, C, E = [], [], []
    for layer, width in enumerate(network.config.stack):
        zero = torch.zeros(len(history), width, *(side // 2**layer for side in sides)).double()
        R.append(zero)
        C.append(zero)
        E.append(torch.cat((zero, zero), 1))
    said = []
    for t in range(history.shape[1] + horizon):
        for layer in range(top, -1, -1):
            above = [double(R[layer + 1])] if layer < top else []
            seen, cell = (E[layer], R[layer], *above), network.representations[layer].gates
            i, f, o = (sigmoid(gate(cell, number, 4, *seen)) for number in (0, 1, 3))
            C[layer] = f * C[layer] + i * torch.tanh(gate(cell, 2, 4, *seen))
            R[layer] = o * torch.tanh(C[layer])
        for layer in range(top + 1):
            expected = of(network.expectations[layer], R[layer])
            if layer > 0:
                expected = expected * (expected > 0)
                missed = of(network.targets[layer - 1], E[layer - 1])
                target = halve(missed * (missed > 0))
            else:
                if network.config.highest is not None:
                    low, high = torch.zeros(()).double(), torch.ones(()).double()
                    expected = torch.minimum(torch.maximum(expected, low), high)
                said.append(expected[:, : network.config.channels, :H, :W])
                target = history[:, t] if t < history.shape[1] else said[t]
                target = target if static is None else torch.cat((target, static), 1)
                target = pad_to(target, network.config.factor)
            gap = target - expected
            E[layer] = torch.cat((gap * (gap > 0), -gap * (gap < 0)), 1)
    return torch.stack(said[1:], 1)


@pytest.mark.parametrize("name", ["pred_net", "pred_net_unbounded"])
def test_pred_net_is_that_of_its_equations(name):
    check(name, predictive)


def depthwise(layer, x, dilation=1):
    maps = [
        conv(x[:, n : n + 1], layer.weight[n : n + 1], layer.bias[n : n + 1], dilation)
        for n in range(x.shape[1])
    ]
    return torch.cat(maps, 1)


def gelu(x):
    return x * 0.5 * (1 + torch.erf(x / 2**0.5))


@pytest.mark.parametrize("name", ["simvp", "tau_group"])
def test_a_translators_block_is_that_of_its_equations(name):
    network = build_tiny(name).eval()
    block, x = network.translator[0], torch.rand(2, 24, 5, 7).double()

    def norm(layer, x):
        if name == "simvp":
            mean, variance = layer.running_mean, layer.running_var
            mean, variance = mean[:, None, None], variance[:, None, None]
        else:
            mean = x.mean((1, 2, 3), keepdim=True)
            variance = (x - mean).square().mean((1, 2, 3), keepdim=True)
        scaled = (x - mean) / (variance + 1e-5).sqrt()
        return scaled * layer.weight[:, None, None] + layer.bias[:, None, None]

    with torch.no_grad():
        if name == "simvp":
            for layer in (block.attention_norm, block.mix_norm):
                layer.running_mean.uniform_()
                layer.running_var.uniform_(0.5, 2)
        into, _, unit, out = block.attention
        seen = norm(block.attention_norm, x)
        u = gelu(of(into, seen))
        if name == "simvp":  # gSTA: sigmoid(g) f
            far = depthwise(unit.large[1], depthwise(unit.large[0], u), 3)
            f, g = (gate(unit.split, number, 2, far) for number in (0, 1))
            bent = sigmoid(g) * f
        else:  # TAU: statical and dynamical attention
            large, point = unit.where
            where = of(point, depthwise(large[1], depthwise(large[0], u), 3))
            squeezed = torch.relu(u.mean((2, 3)) @ unit.when[0].weight.T)
            when = sigmoid(squeezed @ unit.when[2].weight.T)
            bent = where * when[:, :, None, None] * u
        wanted = x + block.attention_scale * (of(out, bent) + seen)
        wide = gelu(depthwise(block.depthwise, of(block.rise, norm(block.mix_norm, wanted))))
        wanted = of(block.fit, wanted + block.mix_scale * of(block.fall, wide))
        near(block(x), wanted)


def test_simvp_is_an_encoder_a_translator_and_a_decoder_with_a_skip():
    network = build_tiny("simvp_group").eval()  # stages of stride 1, 2, 1
    history, static = world(network, size=(6, 8))

    def stage(one, x):
        x = of(one.convolution, x)
        x = x[..., ::2, ::2] if one.convolution.stride == (2, 2) else x
        x = from_patches(x, one.rise)
        halves = []
        for part in x.chunk(2, 1):
            mean = part.mean((1, 2, 3), keepdim=True)
            variance = (part - mean).square().mean((1, 2, 3), keepdim=True)
            halves.append((part - mean) / (variance + 1e-5).sqrt())
        x = torch.cat(halves, 1)
        x = x * one.norm.weight[:, None, None] + one.norm.bias[:, None, None]
        return x * sigmoid(x)

    with torch.no_grad():
        features, fine = [], []
        for t in range(4):
            x = torch.cat((history[:, t], static), 1)
            for number, one in enumerate(network.encoder):
                x = stage(one, x)
                if number == 0:
                    fine.append(x)
            features.append(x)
        x = torch.cat(features, 1)
        for block in network.translator:
            x = block(x)
        said = []
        for t, part in enumerate(x.chunk(4, 1)):
            one, two, three = network.decoder
            part = stage(two, stage(one, part))
            said.append(of(network.head, stage(three, part + fine[t])))
        near(network.unroll(history, 4, static), torch.stack(said, 1))


@pytest.mark.parametrize("name", ["rpm_conv_lstm", "rpm_st_lstm"])
def test_rpms_at_the_bottom_are_those_of_the_paper(name):
    """Section 2.2: `x2 <- (1 - g) x2 + g h`, the halves taking turns, M going up."""
    network = build_tiny(name)
    config, width = network.config, 3
    maps = torch.rand(4, 2, 2 * width, 3, 5).double()
    cells = [CELLS[config.cell](2, width).double() for _ in range(config.modules)]
    gates = [attention(2, width, config.attention).double() for _ in range(config.modules)]
    with torch.no_grad():
        for rpm, cell, attend in zip(network.predictor.rpms, cells, gates, strict=True):
            copy_cell(rpm.cell, cell, config.cell)
            attend.load_state_dict(rpm.attention.state_dict())
        zero = torch.zeros_like(maps[0, :, :width])
        h, c, m = [zero] * config.modules, [zero] * config.modules, zero
        state = network.start(maps[0])
        for seen in maps:
            x1, x2 = seen[:, :width], seen[:, width:]
            for k, (cell, attend) in enumerate(zip(cells, gates, strict=True)):
                h[k], c[k], m = cell(x1, h[k], c[k], m)
                g = torch.sigmoid(attend(h[k]))
                x1, x2 = (1 - g) * x2 + g * h[k], x1
            said, state = network.advance(seen, state)
            near(said, torch.cat((x1, x2), 1))
