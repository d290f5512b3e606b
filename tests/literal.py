"""CrevNet once more, slowly: the equations as the paper and the authors' code have them.

One clip at a time, one gate at a time, one convolution a gate; plain autograd, nothing fused,
nothing batched over time. Shares no code with `crevnet`, only the numbers of a config.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import pad


def conv(dims, inputs, outputs, kernel, *, stride=1, bias=True):
    if dims == 2:
        return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=bias)
    return nn.Conv3d(inputs, outputs, kernel, (1, stride, stride), kernel // 2, bias=bias)


def norm(dims, channels, kind):
    if kind == "group":
        return nn.GroupNorm(1, channels)
    return nn.BatchNorm2d(channels) if dims == 2 else nn.BatchNorm3d(channels)


def space_to_channels(x: Tensor) -> Tensor:
    """Row of the 2 x 2 patch, column of the patch, channel."""
    return torch.cat([x[..., row::2, column::2] for row in (0, 1) for column in (0, 1)], 1)


def channels_to_space(x: Tensor) -> Tensor:
    x00, x01, x10, x11 = x.chunk(4, 1)
    even = torch.stack((x00, x01), -1).flatten(-2)
    odd = torch.stack((x10, x11), -1).flatten(-2)
    return torch.stack((even, odd), -2).flatten(-3, -2)


class Block(nn.Module):
    """`(a, b) -> (b', a' + F(b))`, F three pre-activated convolutions."""

    def __init__(self, config, inputs, outputs, stride, first):
        super().__init__()
        inner = max(1, outputs // config.bottleneck)
        self.stride = stride
        self.convs = nn.ModuleList(
            [
                conv(config.dims, inputs, inner, 3, stride=stride, bias=False),
                conv(config.dims, inner, inner, 3, bias=False),
                conv(config.dims, inner, outputs, 3, bias=False),
            ]
        )
        channels = (inner, inner) if first else (inputs, inner, inner)
        self.norms = nn.ModuleList(norm(config.dims, n, config.norm) for n in channels)

    def residual(self, b):
        norms = list(self.norms)
        if len(norms) == 3:
            b = torch.relu(norms.pop(0)(b))
        x = self.convs[0](b)
        x = self.convs[1](torch.relu(norms[0](x)))
        return self.convs[2](torch.relu(norms[1](x)))

    def there(self, a, b):
        added = self.residual(b)
        if self.stride == 2:
            a, b = space_to_channels(a), space_to_channels(b)
        return b, a + added

    def back(self, b, y):
        if self.stride == 2:
            b = channels_to_space(b)
        a = y - self.residual(b)
        return (channels_to_space(a) if self.stride == 2 else a), b


class ConvLSTM(nn.Module):
    """The paper's appendix A."""

    def __init__(self, dims, width):
        super().__init__()
        self.i, self.f, self.g, self.o = (conv(dims, 2 * width, width, 3) for _ in range(4))
        self.co = nn.Parameter(torch.zeros(width, *[1] * dims))

    def forward(self, x, h, c, m):
        xh = torch.cat((x, h), 1)
        i = torch.sigmoid(self.i(xh))
        f = torch.sigmoid(self.f(xh))
        c = f * c + i * torch.tanh(self.g(xh))
        o = torch.sigmoid(self.o(xh) + self.co * c)
        return o * torch.tanh(c), c, m


class STLSTM(nn.Module):
    """The paper's appendix A."""

    def __init__(self, dims, width):
        super().__init__()
        self.i, self.f, self.g, self.o = (conv(dims, 2 * width, width, 3) for _ in range(4))
        self.im, self.fm, self.gm = (conv(dims, 2 * width, width, 3) for _ in range(3))
        self.co = nn.Parameter(torch.zeros(width, *[1] * dims))
        self.mo = nn.Parameter(torch.zeros(width, *[1] * dims))
        self.last = conv(dims, 2 * width, width, 1, bias=False)

    def forward(self, x, h, c, m):
        xh, xm = torch.cat((x, h), 1), torch.cat((x, m), 1)
        i = torch.sigmoid(self.i(xh))
        f = torch.sigmoid(self.f(xh))
        c = f * c + i * torch.tanh(self.g(xh))
        im = torch.sigmoid(self.im(xm))
        fm = torch.sigmoid(self.fm(xm))
        m = fm * m + im * torch.tanh(self.gm(xm))
        o = torch.sigmoid(self.o(xh) + self.co * c + self.mo * m)
        return o * torch.tanh(self.last(torch.cat((c, m), 1))), c, m


class ReleasedSTLSTM(nn.Module):
    """The authors' code: full peepholes, and a memory that looks at the new cell."""

    def __init__(self, dims, width):
        super().__init__()
        self.i, self.f, self.g = (conv(dims, 3 * width, width, 3) for _ in range(3))
        self.im, self.fm, self.gm = (conv(dims, 3 * width, width, 3) for _ in range(3))
        self.o = conv(dims, 4 * width, width, 3)
        self.last = conv(dims, 2 * width, width, 1)

    def forward(self, x, h, c, m):
        xhc = torch.cat((x, h, c), 1)
        i = torch.sigmoid(self.i(xhc))
        f = torch.sigmoid(self.f(xhc))
        c = f * c + i * torch.tanh(self.g(xhc))
        xmc = torch.cat((x, m, c), 1)
        im = torch.sigmoid(self.im(xmc))
        fm = torch.sigmoid(self.fm(xmc))
        m = fm * m + im * torch.tanh(self.gm(xmc))
        o = torch.sigmoid(self.o(torch.cat((x, h, c, m), 1)))
        return o * torch.tanh(self.last(torch.cat((c, m), 1))), c, m


CELLS = {"conv_lstm": ConvLSTM, "st_lstm": STLSTM, "released_st_lstm": ReleasedSTLSTM}


def attention(dims, width, kind):
    if kind == "single":  # appendix B
        return nn.Sequential(conv(dims, width, width, 1))
    if kind == "double":  # section 2.2
        return nn.Sequential(conv(dims, width, width, 3), nn.ReLU(), conv(dims, width, width, 3))
    layers = [conv(dims, width, width, 1), nn.GroupNorm(1, width), nn.ReLU()]
    layers += [conv(dims, width, width, 3), nn.GroupNorm(1, width), nn.ReLU()]
    return nn.Sequential(*layers, conv(dims, width, width, 1))


class LiteralCrevNet(nn.Module):
    """Frames `(B, T, C, H, W)`; a step sees the clip from frame t on and says the next clip."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        frame = config.channels if config.dims == 3 else config.channels * config.clip
        width, self.factor = 2 * (frame + config.static_channels), 2
        blocks = []
        for count, stride in zip(config.blocks, config.strides, strict=True):
            for number in range(count):
                step = stride if number == 0 else 1
                blocks.append(Block(config, width, width * step**2, step, first=not blocks))
                width *= step**2
            self.factor *= stride
        self.blocks = nn.ModuleList(blocks)
        cell = CELLS[config.cell]
        self.cells = nn.ModuleList(cell(config.dims, width) for _ in range(config.modules))
        self.attentions = nn.ModuleList(
            attention(config.dims, width, config.attention) for _ in range(config.modules)
        )

    def volume(self, clip: Tensor, static: Tensor | None) -> Tensor:
        """`(B, k, C, H, W)` as convolutions see it: map beside, zeros around."""
        k = self.config.clip
        if self.config.dims == 3:
            frames = torch.stack([clip[:, number] for number in range(k)], 2)
            beside = None if static is None else torch.stack([static] * k, 2)
        else:
            frames, beside = torch.cat([clip[:, number] for number in range(k)], 1), static
        volume = frames if beside is None else torch.cat((frames, beside), 1)
        H, W = volume.shape[-2:]
        below, right = -H % self.factor, -W % self.factor
        return pad(volume, (0, right, 0, below))

    def clip(self, volume: Tensor, H: int, W: int) -> Tensor:
        k, C = self.config.clip, self.config.channels
        if self.config.dims == 3:
            frames = [volume[:, :C, number, :H, :W] for number in range(k)]
        else:
            frames = [volume[:, C * number : C * (number + 1), :H, :W] for number in range(k)]
        return torch.stack(frames, 1)

    def encode(self, volume):
        a, b = space_to_channels(volume).chunk(2, 1)
        for block in self.blocks:
            a, b = block.there(a, b)
        return a, b

    def decode(self, a, b):
        for block in reversed(self.blocks):
            a, b = block.back(a, b)
        return channels_to_space(torch.cat((a, b), 1))

    def start(self, a: Tensor):
        zeros = torch.zeros_like(a)
        return [zeros] * len(self.cells), [zeros] * len(self.cells), zeros

    def predict(self, x1, x2, state):
        """One step of the predictor; M goes up, and from the top to the next step."""
        hs, cs, m = list(state[0]), list(state[1]), state[2]
        for layer, (cell, attend) in enumerate(zip(self.cells, self.attentions, strict=True)):
            hs[layer], cs[layer], m = cell(x1, hs[layer], cs[layer], m)
            g = self.config.gate_cap * torch.sigmoid(attend(hs[layer]))
            x1, x2 = (1 - g) * x2 + g * hs[layer], x1
        return x1, x2, (hs, cs, m)

    def forward(self, frames: Tensor, static: Tensor | None = None) -> Tensor:
        """Teacher forcing: `(B, T - k, k, C, H, W)`."""
        k, (H, W), state, said = self.config.clip, frames.shape[-2:], None, []
        for t in range(frames.shape[1] - k):
            a, b = self.encode(self.volume(frames[:, t : t + k], static))
            a, b, state = self.predict(a, b, state or self.start(a))
            said.append(self.clip(self.decode(a, b), H, W))
        return torch.stack(said, 1)

    def roll_out(
        self, history: Tensor, horizon: int, static: Tensor | None = None, *, overwrite: bool
    ) -> Tensor:
        """Frames after a history, `(B, horizon, C, H, W)`; every predicted clip is encoded again.

        With `overwrite`, what is known of a predicted clip is put there first, as released.
        """
        k, (H, W), state, said = self.config.clip, history.shape[-2:], None, []
        for t in range(history.shape[1] - k + 1):
            a, b = self.encode(self.volume(history[:, t : t + k], static))
            a, b, state = self.predict(a, b, state or self.start(a))
        for lead in range(horizon):
            volume = self.decode(a, b)
            clip = self.clip(volume, H, W)
            said.append(clip[:, -1])
            known = k - 1 - lead
            if overwrite and known > 0:
                clip = torch.cat((history[:, -known:], clip[:, known:]), 1)
                volume = self.volume(clip, static)
            a, b = self.encode(volume)
            a, b, state = self.predict(a, b, state)
        return torch.stack(said, 1)


def literal(model: nn.Module) -> LiteralCrevNet:
    """The same network, with the same numbers, dtype and mode."""
    net = LiteralCrevNet(model.config)
    net.to(next(model.parameters()).dtype).train(model.training)
    with torch.no_grad():
        for mine, theirs in zip(net.blocks, model.autoencoder.blocks, strict=True):
            layers = list(theirs.residual.modules())
            for kind, own in ((nn.modules.conv._ConvNd, mine.convs), (NORMS, mine.norms)):
                found = [layer for layer in layers if isinstance(layer, kind)]
                for a, b in zip(own, found, strict=True):
                    a.load_state_dict(b.state_dict())
        for number, rpm in enumerate(model.predictor.rpms):
            net.attentions[number].load_state_dict(rpm.attention.state_dict())
            copy_cell(rpm.cell, net.cells[number], model.config.cell)
    return net


NORMS = (nn.GroupNorm, nn.BatchNorm2d, nn.BatchNorm3d)


def copy_cell(fused: nn.Module, cell: nn.Module, kind: str) -> None:
    def split(convolution, gates):
        weights = convolution.weight.chunk(len(gates))
        biases = convolution.bias.chunk(len(gates))
        for gate, weight, bias in zip(gates, weights, biases, strict=True):
            gate.weight.copy_(weight)
            gate.bias.copy_(bias)

    if kind == "conv_lstm":
        split(fused.gates, (cell.i, cell.f, cell.g, cell.o))
        cell.co.copy_(fused.peephole)
        return
    split(fused.memory_gates, (cell.im, cell.fm, cell.gm))
    cell.last.load_state_dict(fused.mix.state_dict())
    if kind == "st_lstm":
        split(fused.gates, (cell.i, cell.f, cell.g, cell.o))
        cell.co.copy_(fused.peephole[0])
        cell.mo.copy_(fused.peephole[1])
    else:
        split(fused.gates, (cell.i, cell.f, cell.g))
        split(fused.output_gate, (cell.o,))
