"""Convolutional recurrent cells: ConvLSTM and ST-LSTM of the paper, ST-LSTM as released.

Gates that look at the same tensors share one convolution. All tensors are `(B, C, [D,] h, w)`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from crevnet.config import Cell
from crevnet.gates import advance, tanh
from crevnet.layers import Dims, convolution

State = tuple[Tensor, Tensor, Tensor | None]
"""Hidden state, cell state, spatiotemporal memory (none in ConvLSTM)."""


class ConvLSTM(nn.Module):
    """ConvLSTM as in the paper's appendix A, with a peephole of a weight per channel on `o`."""

    spatial = False

    def __init__(self, dims: Dims, width: int) -> None:
        super().__init__()
        self.gates = convolution(dims, 2 * width, 4 * width, 3)  # i, f, g, o from [x, h]
        self.peephole = nn.Parameter(torch.zeros(width, *[1] * dims))

    def forward(self, x: Tensor, hidden: Tensor, cell: Tensor, memory: Tensor | None) -> State:
        """Advance one step."""
        gates, o = _split(self.gates(torch.cat((x, hidden), 1)))
        cell = advance(gates, cell)
        hidden = torch.sigmoid(o + self.peephole * cell) * tanh(cell)
        return hidden, cell, None


class STLSTM(nn.Module):
    """ST-LSTM as in the paper's appendix A, with peepholes of a weight per channel on `o`."""

    spatial = True

    def __init__(self, dims: Dims, width: int) -> None:
        super().__init__()
        self.gates = convolution(dims, 2 * width, 4 * width, 3)  # i, f, g, o from [x, h]
        self.memory_gates = convolution(dims, 2 * width, 3 * width, 3)  # i', f', g' from [x, M]
        self.peephole = nn.Parameter(torch.zeros(2, width, *[1] * dims))  # of C and of M
        self.mix = convolution(dims, 2 * width, width, 1, bias=False)  # W_1x1

    def forward(self, x: Tensor, hidden: Tensor, cell: Tensor, memory: Tensor | None) -> State:
        """Advance one step."""
        memory = _there(memory)
        gates, o = _split(self.gates(torch.cat((x, hidden), 1)))
        cell = advance(gates, cell)
        memory = advance(self.memory_gates(torch.cat((x, memory), 1)), memory)
        o = torch.sigmoid(o + self.peephole[0] * cell + self.peephole[1] * memory)
        return o * tanh(self.mix(torch.cat((cell, memory), 1))), cell, memory


class ReleasedSTLSTM(nn.Module):
    """ST-LSTM as the authors released it.

    The gates of the cell also see the old cell, those of the memory the new one (a causal order),
    and the output gate sees both through a convolution.
    """

    spatial = True

    def __init__(self, dims: Dims, width: int) -> None:
        super().__init__()
        self.gates = convolution(dims, 3 * width, 3 * width, 3)  # i, f, g from [x, h, c]
        self.memory_gates = convolution(dims, 3 * width, 3 * width, 3)  # i', f', g' from [x, M, c']
        self.output_gate = convolution(dims, 4 * width, width, 3)  # o from [x, h, c', M']
        self.mix = convolution(dims, 2 * width, width, 1)

    def forward(self, x: Tensor, hidden: Tensor, cell: Tensor, memory: Tensor | None) -> State:
        """Advance one step."""
        memory = _there(memory)
        cell = advance(self.gates(torch.cat((x, hidden, cell), 1)), cell)
        memory = advance(self.memory_gates(torch.cat((x, memory, cell), 1)), memory)
        o = torch.sigmoid(self.output_gate(torch.cat((x, hidden, cell, memory), 1)))
        return o * tanh(self.mix(torch.cat((cell, memory), 1))), cell, memory


AnyCell = ConvLSTM | STLSTM | ReleasedSTLSTM
CELLS: dict[Cell, type[AnyCell]] = {
    "conv_lstm": ConvLSTM,
    "st_lstm": STLSTM,
    "released_st_lstm": ReleasedSTLSTM,
}


def _split(said: Tensor) -> tuple[Tensor, Tensor]:
    """Part i, f and g from o."""
    gates, o = said.split((said.shape[1] // 4 * 3, said.shape[1] // 4), 1)
    return gates, o


def _there(memory: Tensor | None) -> Tensor:
    if memory is None:
        raise ValueError("an ST-LSTM needs the spatiotemporal memory M, and was given none")
    return memory
