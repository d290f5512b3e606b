"""U-Net with reversible predictive modules at its bottom: a row of the paper's table 2."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from crevnet.cells import CELLS
from crevnet.comparators.stages import UShape
from crevnet.comparators.unet_recurrent import UNetWithMemory
from crevnet.config import Attention, Cell
from crevnet.memory import Memory
from crevnet.predictor import Predictor


@dataclass(frozen=True, slots=True)
class RpmUNetConfig(UShape):
    """A U-Net with RPMs in numbers and names; see `UShape` for the rest.

    The bottom's channels are the two groups that the modules rewrite in turn, each half as wide as
    the last level.

    Attributes:
        cell: *conv_lstm*, *st_lstm* or *released_st_lstm*, as in CrevNet.
        attention: *single*, *double* or *deep*, as in CrevNet.
        modules: Reversible predictive modules.
        gate_cap: Gates are at most this.
        gate_bias: What the gates' logits start at; 0 leaves it to the layer.
    """

    width: int = 32
    depth: int = 3
    widest: int = 128
    cell: Cell = "conv_lstm"
    attention: Attention = "single"
    modules: int = 8
    gate_cap: float = 1.0
    gate_bias: float = 0.0

    def __post_init__(self) -> None:
        UShape.__post_init__(self)  # slots leave no plain `super()`
        if self.modules < 1:
            raise ValueError(f"{self}: every size is at least 1")
        if self.cell not in CELLS:
            raise ValueError(f"cell {self.cell!r}, expected one of {list(CELLS)}")
        if self.attention not in get_args(Attention):
            raise ValueError(f"attention {self.attention!r}, expected one of {get_args(Attention)}")
        if not 0 < self.gate_cap <= 1:
            raise ValueError(f"gate_cap {self.gate_cap}, expected in (0, 1]")
        if self.widths()[-1] % 2:
            raise ValueError(f"{self.widths()[-1]} channels at the bottom, expected an even number")

    @property
    def layers(self) -> int:
        """Convolutions and modules, a lower bound of the tensors it has."""
        return self._arms() + self.modules


@dataclass(frozen=True, slots=True)
class _BottomShape:
    """What a predictor asks for: the RPMs' part of a config."""

    width: int
    cell: Cell
    attention: Attention
    modules: int
    gate_cap: float
    gate_bias: float
    dims: Literal[2, 3] = 2


class RpmUNet(UNetWithMemory):
    """RPMs at the bottom of the U, between its halves by channel."""

    def __init__(self, config: RpmUNetConfig) -> None:
        super().__init__(config)
        self.config = config
        half = config.widths()[-1] // 2
        shape = config.cell, config.attention, config.modules, config.gate_cap, config.gate_bias
        self.predictor = Predictor(_BottomShape(half, *shape))
        self.to(memory_format=torch.channels_last)

    def start(self, like: Tensor) -> Memory:
        """Return zeros."""
        return self.predictor.start(like.chunk(2, 1)[0])

    def advance(self, seen: Tensor, state: Memory) -> tuple[Tensor, Memory]:
        """Advance the modules."""
        a, b = seen.chunk(2, 1)
        halves, state = self.predictor((a, b), state)
        return torch.cat(halves, 1), state
