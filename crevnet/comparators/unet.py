"""U-Net with time in the channels: what won the Traffic4cast competitions on grids."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from crevnet.autoencoder import MemoryMode
from crevnet.comparators.stages import (
    Decoder,
    Encoder,
    Norm,
    check_frames,
    refuse_batch_norm,
    widths,
)
from crevnet.padding import crop, pad
from crevnet.plain import from_plain, to_plain


@dataclass(frozen=True, slots=True)
class UNetConfig:
    """A U-Net in numbers and names.

    Attributes:
        channels: Channels of a frame.
        static_channels: Planes of a map, appended to the frames.
        history: Frames it sees: its input has `channels * history + static_channels` channels.
        horizon: Frames it says, all at once: its head has `channels * horizon` outputs.
        width: Channels of the finest level.
        depth: How often the grid is halved.
        growth: How many times more channels each next level has.
        widest: No level has more channels than this.
        convolutions: Convolutions of kernel 3 of each stage.
        norm: *group* normalises each sample alone, in up to 8 groups; *batch* is the winners'
            BatchNorm; or *none*.
    """

    channels: int = 3
    static_channels: int = 0
    history: int = 9
    horizon: int = 3
    width: int = 64
    depth: int = 4
    growth: int = 2
    widest: int = 1024
    convolutions: int = 2
    norm: Norm = "group"

    def __post_init__(self) -> None:
        sizes = (self.channels, self.history, self.horizon, self.convolutions)
        if min(sizes) < 1 or self.static_channels < 0:
            raise ValueError(f"{self}: every size is at least 1")
        if self.norm not in ("group", "batch", "none"):
            raise ValueError(f"norm {self.norm!r}, expected 'group', 'batch' or 'none'")
        self.widths()

    @property
    def factor(self) -> int:
        """What the sides of a grid are padded to a multiple of."""
        return int(2**self.depth)

    @property
    def layers(self) -> int:
        """Convolutions, a lower bound of the tensors it has."""
        return (2 * self.depth + 1) * self.convolutions + self.depth + 1

    def widths(self) -> tuple[int, ...]:
        """Return the channels of each level, finest first."""
        return widths(self.width, self.growth, self.depth, self.widest)

    def to_dict(self) -> dict[str, Any]:
        """Return the same as plain values."""
        return to_plain(self)

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> UNetConfig:
        """Return a config from plain values.

        Raises:
            ValueError: A key is unknown, or a value is not allowed.
        """
        return from_plain(cls, value)


class UNet(nn.Module):
    """All frames of the history in, all frames of the forecast out, in one pass.

    Shapes:
        Frames `(B, T, C, H, W)`, any H and W; static map `(B, S, H, W)`.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        inputs = config.channels * config.history + config.static_channels
        shape = config.widths(), config.convolutions, config.norm
        self.encoder = Encoder(inputs, *shape)
        self.decoder = Decoder(config.channels * config.horizon, *shape)
        self.to(memory_format=torch.channels_last)  # a fifth faster on a CPU

    def unroll(
        self,
        history: Tensor,
        horizon: int,
        static: Tensor | None = None,
        *,
        memory: MemoryMode = "plain",
    ) -> Tensor:
        """Say the next frames.

        Args:
            history: `(B, T, C, H, W)`; of more frames than the config's the last are seen.
            horizon: Frames wanted, at most the config's.
            static: `(B, S, H, W)` for a config with static channels.
            memory: *plain* keeps activations for backward; *frugal* makes each stage's again.

        Returns:
            `(B, horizon, C, H, W)`, not bounded.

        Raises:
            ValueError: Too few frames, a horizon that the head has not got, other channels, or a
                map missing or unasked for.
        """
        config = self.config
        check_frames(history, static, config.channels, config.static_channels, config.history)
        if not 1 <= horizon <= config.horizon:
            raise ValueError(f"a horizon of {horizon} frames, but the head says {config.horizon}")
        refuse_batch_norm(self, memory)
        H, W = history.shape[-2:]
        x = history[:, -config.history :].flatten(1, 2)  # (B, T * C, H, W)
        if static is not None:
            x = torch.cat((x, static), 1)
        levels = self.encoder(pad(x, config.factor), memory)
        said = crop(self.decoder(levels, memory), H, W)
        frames: Tensor = said.unflatten(1, (config.horizon, config.channels))
        return frames[:, :horizon]

    def forward(self, history: Tensor, static: Tensor | None = None) -> Tensor:
        """Say all frames of the config's horizon."""
        return self.unroll(history, self.config.horizon, static)
