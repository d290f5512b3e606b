"""The two-way autoencoder: one bijective network whose two directions encode and decode."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from crevnet.config import CrevNetConfig
from crevnet.coupling import CouplingBlock, Halves, Residual
from crevnet.layers import channels_last
from crevnet.pixel_shuffle import shuffle, unshuffle
from crevnet.reversible import run_forward, run_inverse

MemoryMode = Literal["plain", "frugal"]


class TwoWayAutoencoder(nn.Module):
    """Frames to features and back, with the same weights: `decode(encode(x)) = x`.

    Shapes:
        Volume `(B, C, [D,] H, W)`; features are two halves `(B, width, [D,] H / f, W / f)`, with
        `f` the config's `factor`.
    """

    def __init__(self, config: CrevNetConfig) -> None:
        super().__init__()
        self.dims = config.dims
        width = 2 * config.input_channels
        blocks = []
        for stage, (count, stride) in enumerate(zip(config.blocks, config.strides, strict=True)):
            for number in range(count):
                step = stride if number == 0 else 1
                inputs, width = width, width * step**2
                residual = Residual(
                    config.dims,
                    inputs,
                    width,
                    stride=step,
                    bottleneck=config.bottleneck,
                    norm=config.norm,
                    dropout=config.dropout,
                    first=stage == number == 0,
                )
                blocks.append(CouplingBlock(residual, step))
        self.blocks = nn.ModuleList(blocks)

    def encode(self, volume: Tensor, memory: MemoryMode = "plain") -> Halves:
        """Turn a volume into features; `memory="frugal"` keeps no activations for backward.

        They are laid out channels last, as a predictor's convolutions like best.
        """
        even, odd = unshuffle(volume, 2).chunk(2, dim=1)
        layout = channels_last(self.dims)
        if memory == "frugal" and torch.is_grad_enabled():
            return run_forward(self._blocks(), (even.contiguous(), odd.contiguous()), layout)
        halves = even, odd
        for block in self._blocks():
            halves = block(halves)
        a, b = halves
        return a.contiguous(memory_format=layout), b.contiguous(memory_format=layout)

    def decode(self, halves: Halves, memory: MemoryMode = "plain") -> Tensor:
        """Turn features back into a volume; undoes `encode`."""
        if memory == "frugal" and torch.is_grad_enabled():
            halves = run_inverse(self._blocks(), halves)
        else:
            for block in reversed(self._blocks()):
                halves = block.inverse(halves)
        return shuffle(torch.cat(halves, dim=1), 2)

    def _blocks(self) -> list[CouplingBlock]:
        return [block for block in self.blocks if isinstance(block, CouplingBlock)]
