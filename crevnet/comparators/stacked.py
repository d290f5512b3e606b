"""Stacked ConvLSTM and stacked ST-LSTM, which is PredRNN: tables 1 and 2, in 2D and 3D.

ConvLSTM is Shi et al. (2015), as in CrevNet's appendix A; ST-LSTM and its zigzag are Wang et al.
(2017). Frames are cut into patches, whose pixels are channels, and never made smaller again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast, get_args

import torch
from torch import Tensor, nn

from crevnet.comparators.frames import (
    Forgetting,
    FrameByFrame,
    PatchedStack,
    State,
    check_sizes,
)
from crevnet.gates import advance, tanh
from crevnet.layers import Dims, convolution, lay_channels_last
from crevnet.pixel_shuffle import shuffle, unshuffle

StackedCell = Literal["conv_lstm", "st_lstm"]
CellState = tuple[Tensor, Tensor, Tensor | None]
"""Hidden state, cell state, spatiotemporal memory M (none in ConvLSTM)."""


@dataclass(frozen=True, slots=True)
class StackedConfig(PatchedStack):
    """A stack of recurrent cells in numbers and names; see `PatchedStack` for the rest.

    Attributes:
        dims: 2 convolves in space alone, 3 a clip of frames in time and space.
        clip: Frames that a step sees; in 3D the depth of all its maps, in 2D channels side by side.
        cell: *conv_lstm*, or *st_lstm*.
        kernel: Side of the kernels, in time too.
        bias: Whether convolutions have biases, and ConvLSTM its peephole of a weight per channel on
            `o`. With neither the parameters are as many as those that the published counts have.
    """

    dims: Dims = 2
    clip: int = 1
    cell: StackedCell = "conv_lstm"

    def __post_init__(self) -> None:
        PatchedStack.__post_init__(self)  # slots leave no plain `super()`
        check_sizes(self, self.clip)
        if self.dims not in (2, 3):
            raise ValueError(f"dims {self.dims}, expected 2 or 3")
        if self.cell not in get_args(StackedCell):
            raise ValueError(f"cell {self.cell!r}, expected one of {get_args(StackedCell)}")


class WideConvLSTM(nn.Module):
    """ConvLSTM whose input may be of another width than its state."""

    spatial = False

    def __init__(self, config: StackedConfig, inputs: int) -> None:
        super().__init__()
        dims, width = config.dims, config.width
        self.gates = convolution(
            dims, inputs + width, 4 * width, config.kernel, bias=config.bias
        )  # i, f, g, o from [x, h]
        self.forgetting = Forgetting(width, 4, dims, config.forget_bias)
        self.peephole = nn.Parameter(torch.zeros(width, *[1] * dims)) if config.bias else None

    def forward(self, x: Tensor, hidden: Tensor, cell: Tensor, memory: Tensor | None) -> CellState:
        """Advance one step."""
        said = self.forgetting(self.gates(torch.cat((x, hidden), 1)))
        gates, o = _split(said)
        cell = advance(gates, cell)
        if self.peephole is not None:
            o = o + self.peephole * cell
        return torch.sigmoid(o) * tanh(cell), cell, None


class WideSTLSTM(nn.Module):
    """ST-LSTM whose input may be of another width; `o` sees both memories through convolutions."""

    spatial = True

    def __init__(self, config: StackedConfig, inputs: int) -> None:
        super().__init__()
        dims, width, kernel, bias = config.dims, config.width, config.kernel, config.bias
        both = inputs + width
        self.gates = convolution(dims, both, 4 * width, kernel, bias=bias)  # i, f, g, o: [x, h]
        self.memory_gates = convolution(dims, both, 3 * width, kernel, bias=bias)  # from [x, M]
        self.output_gate = convolution(dims, 2 * width, width, kernel, bias=False)  # o: [C, M]
        self.mix = convolution(dims, 2 * width, width, 1, bias=False)  # W_1x1
        self.forgetting = Forgetting(width, 4, dims, config.forget_bias)
        self.memory_forgetting = Forgetting(width, 3, dims, config.forget_bias)

    def forward(self, x: Tensor, hidden: Tensor, cell: Tensor, memory: Tensor | None) -> CellState:
        """Advance one step."""
        if memory is None:
            raise ValueError("an ST-LSTM needs the spatiotemporal memory M, and was given none")
        gates, o = _split(self.forgetting(self.gates(torch.cat((x, hidden), 1))))
        cell = advance(gates, cell)
        memory_gates = self.memory_forgetting(self.memory_gates(torch.cat((x, memory), 1)))
        memory = advance(memory_gates, memory)
        both = torch.cat((cell, memory), 1)
        return torch.sigmoid(o + self.output_gate(both)) * tanh(self.mix(both)), cell, memory


AnyWideCell = WideConvLSTM | WideSTLSTM
WIDE_CELLS: dict[StackedCell, type[AnyWideCell]] = {
    "conv_lstm": WideConvLSTM,
    "st_lstm": WideSTLSTM,
}


class Stacked(FrameByFrame):
    """Cells upon cells; M goes up through them, and from the top to the next step's first.

    The next frame is a 1x1 convolution of the topmost hidden state; in 3D of its last slice.
    """

    def __init__(self, config: StackedConfig) -> None:
        super().__init__(config, sees=config.clip)
        self.config = config
        pixels = config.patch**2
        inputs = (config.channels + config.static_channels) * pixels
        if config.dims == 2:
            inputs *= config.clip
        kind = WIDE_CELLS[config.cell]
        self.cells = nn.ModuleList(
            kind(config, config.width if number else inputs) for number in range(config.cells)
        )
        self.head = nn.Conv2d(config.width, config.channels * pixels, 1, bias=config.bias)
        lay_channels_last(self)

    def start(self, seen: Tensor) -> State:
        """Return zeros: h and c of each cell, then M."""
        config, (B, k, _, H, W) = self.config, seen.shape
        depth = (k,) if config.dims == 3 else ()
        zeros = seen.new_zeros(B, config.width, *depth, H // config.patch, W // config.patch)
        return (zeros,) * (2 * config.cells + WIDE_CELLS[config.cell].spatial)

    def step(self, seen: Tensor, state: State) -> tuple[Tensor, State]:
        """Advance one step."""
        patch, n = self.config.patch, self.config.cells
        # (B, k, C, H, W) to (B, C', [k,] h, w)
        flat = self.config.dims == 2
        x = unshuffle(seen.flatten(1, 2) if flat else seen.transpose(1, 2), patch)
        hidden, cells = [], []
        memory = state[2 * n] if len(state) > 2 * n else None
        for number, one in enumerate(self.cells):
            cell = cast(AnyWideCell, one)
            x, c, memory = cell(x, state[number], state[n + number], memory)
            hidden.append(x)
            cells.append(c)
        frame = shuffle(self.head(x if flat else x[:, :, -1]), patch)
        return frame, (*hidden, *cells, *([] if memory is None else [memory]))


def _split(said: Tensor) -> tuple[Tensor, Tensor]:
    """Part i, f and g from o."""
    width = said.shape[1] // 4
    gates, o = said.split((3 * width, width), 1)
    return gates, o
