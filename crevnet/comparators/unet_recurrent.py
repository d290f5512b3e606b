"""U-Net with recurrent cells at its bottom: the paper's comparators on Traffic4cast (table 3)."""

from __future__ import annotations

from collections.abc import Sequence
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


class UNetWithMemory(nn.Module):
    """A frame in, the next frame out; what it remembers is at the bottom of the U.

    A subclass says what is there, in `start` and `advance`.

    Shapes:
        Frames `(B, T, C, H, W)`, any H and W; static map `(B, S, H, W)`.
    """

    def __init__(self, shape: UShape) -> None:
        super().__init__()
        self.shape = shape
        arms = shape.widths(), shape.convolutions, shape.norm
        self.encoder = Encoder(shape.channels + shape.static_channels, *arms)
        self.decoder = Decoder(shape.channels, *arms)

    def start(self, like: Tensor) -> Memory:
        """Return what is remembered before a first step on maps like one, `(B, C, h, w)`."""
        raise NotImplementedError

    def advance(self, seen: Tensor, state: Memory) -> tuple[Tensor, Memory]:
        """Advance a step: the bottom's map `(B, C, h, w)` of now in, that of next out."""
        raise NotImplementedError

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
        shape = self.shape
        check_frames(history, static, shape.channels, shape.static_channels, 1)
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
        x = pad(frames.transpose(0, 1).flatten(0, 1), self.shape.factor)  # (T * B, C + S, H, W)
        *across, bottom = self.encoder(x, memory)
        steps = bottom.unflatten(0, (T, B))
        state = self.start(steps[0]) if state is None else state
        tops = []
        for seen in steps:
            top, state = self._step(seen, state, memory)
            tops.append(top)
        said = self.decoder([*across, torch.cat(tops)], memory)
        said = crop(said, H, W).unflatten(0, (T, B)).transpose(0, 1)
        return said, state

    def _step(self, seen: Tensor, state: Memory, memory: MemoryMode) -> tuple[Tensor, Memory]:
        """Advance one frame; only the topmost M enters the next step (the zigzag)."""
        flat = (*state.hidden, *state.cell, *state.spatial[-1:])
        if memory == "frugal" and torch.is_grad_enabled():
            top, *after = checkpoint(self._flat, seen, *flat, use_reentrant=False)
        else:
            top, *after = self._flat(seen, *flat)
        return top, _memory(after)

    def _flat(self, seen: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        top, after = self.advance(seen, _memory(state))
        return (top, *after.hidden, *after.cell, *after.spatial[-1:])


class RecurrentUNet(UNetWithMemory):
    """Cells upon cells at the bottom of the U."""

    def __init__(self, config: RecurrentUNetConfig) -> None:
        super().__init__(config)
        self.config = config
        kind = CELLS[config.cell]
        self.cells = nn.ModuleList(kind(2, config.widths()[-1]) for _ in range(config.cells))
        self.to(memory_format=torch.channels_last)  # a fifth faster on a CPU

    def start(self, like: Tensor) -> Memory:
        """Return zeros."""
        return Memory.zeros(like, len(self.cells), spatial=CELLS[self.config.cell].spatial)

    def advance(self, seen: Tensor, state: Memory) -> tuple[Tensor, Memory]:
        """Advance the cells, each seeing the hidden state of the one below."""
        x, m = seen, state.spatial_in
        hidden, cells = [], []
        for one, h, c in zip(self.cells, state.hidden, state.cell, strict=True):
            x, c, m = cast(AnyCell, one)(x, h, c, m)
            hidden.append(x)
            cells.append(c)
        return x, Memory(tuple(hidden), tuple(cells), () if m is None else (m,))


def _memory(flat: Sequence[Tensor]) -> Memory:
    """Return h and c of each module and the topmost M, if there is one, as a memory."""
    n = len(flat) // 2
    return Memory(tuple(flat[:n]), tuple(flat[n : 2 * n]), tuple(flat[2 * n :]))
