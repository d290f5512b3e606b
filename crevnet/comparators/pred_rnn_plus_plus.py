"""PredRNN++ (Wang et al., 2018): causal LSTMs in a stack, and a gradient highway beside them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from crevnet.comparators.frames import (
    Forgetting,
    FrameByFrame,
    PatchedStack,
    State,
)
from crevnet.gates import advance, tanh
from crevnet.layers import lay_channels_last
from crevnet.pixel_shuffle import shuffle, unshuffle


@dataclass(frozen=True, slots=True)
class PredRNNPlusPlusConfig(PatchedStack):
    """A PredRNN++ in numbers and names; see `PatchedStack`.

    Its cells are causal LSTMs, at least 2: the highway lies between the first and the second.
    """

    def __post_init__(self) -> None:
        PatchedStack.__post_init__(self)  # slots leave no plain `super()`
        if self.cells < 2:
            raise ValueError(f"{self.cells} cells, expected at least 2, with the highway between")


class CausalLSTM(nn.Module):
    """A causal LSTM: the spatiotemporal memory is updated after the cell, and sees it.

    `f, i, g` from `[x, h, c]`; `f', i', g'` from `[x, c', m]`; `m' = f' tanh(W3 m) + i' g'`;
    `o = tanh(W4 [x, c', m'])`; `h' = o tanh(W5 [c', m'])`.
    """

    def __init__(self, config: PredRNNPlusPlusConfig, inputs: int) -> None:
        super().__init__()
        width = config.width

        def conv(ins: int, outs: int, kernel: int = config.kernel) -> nn.Conv2d:
            return nn.Conv2d(ins, outs, kernel, padding=kernel // 2, bias=config.bias)

        self.gates = conv(inputs + 2 * width, 3 * width)  # W1, in the order i, f, g
        self.memory_gates = conv(inputs + 2 * width, 3 * width)  # W2
        self.memory_before = conv(width, width)  # W3
        self.output_gate = conv(inputs + 2 * width, width)  # W4
        self.mix = nn.Conv2d(2 * width, width, 1, bias=False)  # W5
        self.forgetting = Forgetting(width, 3, 2, config.forget_bias)

    def forward(
        self, x: Tensor, hidden: Tensor, cell: Tensor, memory: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Advance one step."""
        cell = advance(self.forgetting(self.gates(torch.cat((x, hidden, cell), 1))), cell)
        gates = self.forgetting(self.memory_gates(torch.cat((x, cell, memory), 1)))
        memory = advance(gates, tanh(self.memory_before(memory)))
        o = tanh(self.output_gate(torch.cat((x, cell, memory), 1)))
        return o * tanh(self.mix(torch.cat((cell, memory), 1))), cell, memory


class GradientHighway(nn.Module):
    """A gradient highway unit: `z' = s p + (1 - s) z`, with p and s from `[x, z]`."""

    def __init__(self, config: PredRNNPlusPlusConfig) -> None:
        super().__init__()
        width, kernel = config.width, config.kernel
        self.gates = nn.Conv2d(
            2 * width, 2 * width, kernel, padding=kernel // 2, bias=config.bias
        )  # p, s

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        """Advance one step."""
        p, s = self.gates(torch.cat((x, z), 1)).chunk(2, 1)
        return torch.lerp(z, tanh(p).to(z.dtype), torch.sigmoid(s).to(z.dtype))


class PredRNNPlusPlus(FrameByFrame):
    """Causal LSTMs upon each other; what enters the second comes over the highway."""

    def __init__(self, config: PredRNNPlusPlusConfig) -> None:
        super().__init__(config)
        self.config = config
        pixels = config.patch**2
        inputs = (config.channels + config.static_channels) * pixels
        self.cells = nn.ModuleList(
            CausalLSTM(config, config.width if number else inputs) for number in range(config.cells)
        )
        self.highway = GradientHighway(config)
        self.head = nn.Conv2d(config.width, config.channels * pixels, 1, bias=config.bias)
        lay_channels_last(self)

    def start(self, seen: Tensor) -> State:
        """Return zeros: h and c of each cell, then M, then the highway's z."""
        config, (B, _, _, H, W) = self.config, seen.shape
        zeros = seen.new_zeros(B, config.width, H // config.patch, W // config.patch)
        return (zeros,) * (2 * config.cells + 2)

    def step(self, seen: Tensor, state: State) -> tuple[Tensor, State]:
        """Advance one step."""
        n = self.config.cells
        x, memory, z = unshuffle(seen[:, 0], self.config.patch), state[2 * n], state[2 * n + 1]
        hidden, cells = [], []
        for number, one in enumerate(self.cells):
            if number == 1:
                x = z = self.highway(x, z)
            cell = cast(CausalLSTM, one)
            x, c, memory = cell(x, state[number], state[n + number], memory)
            hidden.append(x)
            cells.append(c)
        frame = shuffle(self.head(x), self.config.patch)
        return frame, (*hidden, *cells, memory, z)
