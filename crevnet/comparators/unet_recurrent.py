"""U-Net with recurrent cells at its bottom: the paper's comparators on Traffic4cast (table 3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from crevnet.autoencoder import MemoryMode
from crevnet.cells import CELLS, AnyCell
from crevnet.comparators.stages import (
    Decoder,
    Encoder,
    UShape,
    check_frames,
    refuse_batch_norm,
)
from crevnet.config import Cell
from crevnet.memory import Memory
from crevnet.padding import crop, pad


@dataclass(frozen=True, slots=True)
class RecurrentUNetConfig(UShape):
    """A recurrent U-Net in numbers and names; see `UShape` for the rest.

    The cells are as wide as the last level. With *batch* the norm is over the frames of a history
    too.

    Attributes:
        cell: *conv_lstm*, *st_lstm* or *released_st_lstm*, as in CrevNet.
        cells: How many are stacked.
    """

    width: int = 32
    depth: int = 3
    widest: int = 256
    cell: Cell = "conv_lstm"
    cells: int = 4

    def __post_init__(self) -> None:
        UShape.__post_init__(self)  # slots leave no plain `super()`
        if self.cells < 1:
            raise ValueError(f"{self}: every size is at least 1")
        if self.cell not in CELLS:
            raise ValueError(f"cell {self.cell!r}, expected one of {list(CELLS)}")

    @property
    def layers(self) -> int:
        """Convolutions and cells, a lower bound of the tensors it has."""
        return self._arms() + self.cells


class RecurrentUNet(nn.Module):
    """A frame in, the next frame out; what it remembers is at the bottom of the U.

    Shapes:
        Frames `(B, T, C, H, W)`, any H and W; static map `(B, S, H, W)`.
    """

    def __init__(self, config: RecurrentUNetConfig) -> None:
        super().__init__()
        self.config = config
        shape = config.widths(), config.convolutions, config.norm
        self.encoder = Encoder(config.channels + config.static_channels, *shape)
        kind = CELLS[config.cell]
        self.cells = nn.ModuleList(kind(2, config.widths()[-1]) for _ in range(config.cells))
        self.decoder = Decoder(config.channels, *shape)
        self.to(memory_format=torch.channels_last)  # a fifth faster on a CPU

    def unroll(
        self,
        history: Tensor,
        horizon: int,
        static: Tensor | None = None,
        *,
        memory: MemoryMode = "plain",
    ) -> Tensor:
        """Say every next frame of a history, then look ahead, each frame said fed back as it is.

        Args:
            history: `(B, T, C, H, W)`.
            horizon: Frames to look ahead, at least 1.
            static: `(B, S, H, W)` for a config with static channels.
            memory: *plain* keeps activations for backward; *frugal* makes those of each stage and
                of each step of the cells again.

        Returns:
            `(B, T - 1 + horizon, C, H, W)`, not bounded: frames `1 .. T + horizon - 1`. The last
            `horizon` are the forecast; each before them is said from the true frames before it.

        Raises:
            ValueError: No frames, no horizon, other channels, or a map missing or unasked for.
        """
        config = self.config
        check_frames(history, static, config.channels, config.static_channels, 1)
        if horizon < 1:
            raise ValueError(f"a horizon of {horizon} frames, expected at least 1")
        refuse_batch_norm(self, memory)
        frames, state = self._advance(history, static, None, memory)
        said = [frames]
        for _ in range(horizon - 1):
            frames, state = self._advance(frames[:, -1:], static, state, memory)
            said.append(frames)
        return torch.cat(said, 1)

    def forward(self, history: Tensor, static: Tensor | None = None) -> Tensor:
        """Say the frame after each of a history, `(B, T, C, H, W)`."""
        return self.unroll(history, 1, static)

    def _advance(
        self, frames: Tensor, static: Tensor | None, state: Memory | None, memory: MemoryMode
    ) -> tuple[Tensor, Memory]:
        """Say the frame after each: encoded and decoded as one batch, step by step between."""
        B, T, _, H, W = frames.shape
        if static is not None:
            frames = torch.cat((frames, static[:, None].expand(B, T, *static.shape[1:])), 2)
        # Steps first, so that a step's maps are one stretch of memory.
        x = pad(frames.transpose(0, 1).flatten(0, 1), self.config.factor)  # (T * B, C + S, H, W)
        *across, bottom = self.encoder(x, memory)
        steps = bottom.unflatten(0, (T, B))
        if state is None:
            spatial = CELLS[self.config.cell].spatial
            state = Memory.zeros(steps[0], len(self.cells), spatial=spatial)
        tops = []
        for seen in steps:
            state = self._step(seen, state, memory)
            tops.append(state.hidden[-1])
        said = self.decoder([*across, torch.cat(tops)], memory)
        said = crop(said, H, W).unflatten(0, (T, B)).transpose(0, 1)
        return said, state

    def _step(self, seen: Tensor, state: Memory, memory: MemoryMode) -> Memory:
        """Advance the cells one frame; only the topmost M enters the next step (the zigzag)."""
        flat = (*state.hidden, *state.cell, *state.spatial[-1:])
        if memory == "frugal" and torch.is_grad_enabled():
            after = checkpoint(self._through, seen, *flat, use_reentrant=False)
        else:
            after = self._through(seen, *flat)
        n = len(self.cells)
        return Memory(after[:n], after[n : 2 * n], after[2 * n :])

    def _through(self, x: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        n = len(self.cells)
        m = state[2 * n] if len(state) > 2 * n else None
        hidden, kept = [], []
        for one, h, c in zip(self._cells(), state[:n], state[n : 2 * n], strict=True):
            x, c, m = one(x, h, c, m)
            hidden.append(x)
            kept.append(c)
        return (*hidden, *kept, *([] if m is None else [m]))

    def _cells(self) -> list[AnyCell]:
        return [cast(AnyCell, cell) for cell in self.cells]
