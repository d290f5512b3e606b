"""E3D-LSTM (Wang et al., 2019): 3D convolutions in the cells, which recall all their past."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from crevnet.comparators.frames import (
    Forgetting,
    FrameByFrame,
    PatchedStack,
    State,
    check_sizes,
    pad_depth,
)
from crevnet.gates import advance, tanh
from crevnet.layers import lay_channels_last
from crevnet.pixel_shuffle import shuffle, unshuffle


@dataclass(frozen=True, slots=True)
class E3DLSTMConfig(PatchedStack):
    """An E3D-LSTM in numbers and names.

    Attributes:
        clip: Frames that a step sees: the depth of all its maps, and of its kernels.
        kernel: Side of the kernels in space.
        bent_memory: As released, `m' = f' tanh(W m) + i' g'`; as in the paper, `f' m + i' g'`.
        forget_bias: Added to the logits of the memory's forget gate.
    """

    clip: int = 2
    bent_memory: bool = False

    def __post_init__(self) -> None:
        PatchedStack.__post_init__(self)  # slots leave no plain `super()`
        check_sizes(self, self.clip)


class EideticConvolution(nn.Conv3d):
    """A 3D convolution that keeps its input's sizes, of an even depth too."""

    def __init__(self, config: E3DLSTMConfig, inputs: int, outputs: int, *, bias: bool) -> None:
        side = config.kernel
        super().__init__(
            inputs,
            outputs,
            (config.clip, side, side),
            padding=(0, side // 2, side // 2),
            bias=bias,
        )

    def forward(self, x: Tensor) -> Tensor:
        """Convolve `(B, C, D, H, W)`."""
        return super().forward(pad_depth(x, self.kernel_size[0]))


class EideticCell(nn.Module):
    """An eidetic LSTM: `c' = i g + norm(c + recall)`, `recall = softmax(r . C) C`.

    `C` is every cell state there has been, each of its places a key and a value; `r` asks for each
    place of now. The norm is over a sample, with a gain per channel: any grid will do.
    """

    def __init__(self, config: E3DLSTMConfig, inputs: int) -> None:
        super().__init__()
        width, bias = config.width, config.bias
        both = inputs + width
        self.gates = EideticConvolution(config, both, 4 * width, bias=bias)  # r, i, g, o: [x, h]
        self.memory_gates = EideticConvolution(config, both, 3 * width, bias=bias)  # from [x, m]
        self.memory_before = (
            EideticConvolution(config, width, width, bias=bias) if config.bent_memory else None
        )
        self.output_gate = EideticConvolution(config, 2 * width, width, bias=False)  # o: [c, m]
        self.mix = nn.Conv3d(2 * width, width, 1, bias=False)
        self.norm = nn.GroupNorm(1, width)
        self.forgetting = Forgetting(width, 3, 3, config.forget_bias)

    def forward(
        self, x: Tensor, hidden: Tensor, past: tuple[Tensor, ...], memory: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Advance one step; `past` are the cell states so far, the oldest first."""
        r, i, g, o = self.gates(torch.cat((x, hidden), 1)).chunk(4, 1)
        cell = past[-1] + recall(torch.sigmoid(r), past)
        cell = torch.sigmoid(i) * tanh(g) + self.norm(cell)
        gates = self.forgetting(self.memory_gates(torch.cat((x, memory), 1)))
        before = memory if self.memory_before is None else tanh(self.memory_before(memory))
        memory = advance(gates, before)
        both = torch.cat((cell, memory), 1)
        return torch.sigmoid(o + self.output_gate(both)) * tanh(self.mix(both)), cell, memory


def recall(asked: Tensor, past: tuple[Tensor, ...]) -> Tensor:
    """Return for each place the mean of all places of the past, weighted by softmax of likeness.

    Args:
        asked: `(B, C, D, H, W)`.
        past: One or more of the same shape.
    """
    query = asked.flatten(2).transpose(1, 2)[:, None]  # (B, 1, D * H * W, C)
    known = torch.cat([one.flatten(2) for one in past], 2).transpose(1, 2)[:, None].to(query.dtype)
    found = scaled_dot_product_attention(query, known, known, scale=1.0)
    return found[:, 0].transpose(1, 2).reshape(asked.shape)


class E3DLSTM(FrameByFrame):
    """Eidetic cells upon each other; the memory goes up, and from the top to the next step."""

    def __init__(self, config: E3DLSTMConfig) -> None:
        super().__init__(config, sees=config.clip)
        self.config = config
        pixels = config.patch**2
        inputs = (config.channels + config.static_channels) * pixels
        self.cells = nn.ModuleList(
            EideticCell(config, config.width if number else inputs)
            for number in range(config.cells)
        )
        self.head = nn.Conv3d(
            config.width, config.channels * pixels, (config.clip, 1, 1), bias=config.bias
        )
        lay_channels_last(self)

    def start(self, seen: Tensor) -> State:
        """Return zeros: h of each cell, M, then the past of each cell, which grows by a step."""
        config, (B, k, _, H, W) = self.config, seen.shape
        zeros = seen.new_zeros(B, config.width, k, H // config.patch, W // config.patch)
        return (zeros,) * (2 * config.cells + 1)

    def step(self, seen: Tensor, state: State) -> tuple[Tensor, State]:
        """Advance one step."""
        patch, n = self.config.patch, self.config.cells
        x, memory = unshuffle(seen.transpose(1, 2), patch), state[n]
        steps = (len(state) - n - 1) // n
        hidden: list[Tensor] = []
        pasts: list[Tensor] = []
        for number, one in enumerate(self.cells):
            past = state[n + 1 + number * steps : n + 1 + (number + 1) * steps]
            cell = cast(EideticCell, one)
            x, c, memory = cell(x, state[number], past, memory)
            hidden.append(x)
            pasts += (*past, c)
        frame = shuffle(self.head(x)[:, :, 0], patch)
        return frame, (*hidden, memory, *pasts)
