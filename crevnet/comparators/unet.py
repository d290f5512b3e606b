"""U-Net with time in the channels: what won the Traffic4cast competitions on grids."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from crevnet.autoencoder import MemoryMode
from crevnet.comparators.stages import (
    Decoder,
    Encoder,
    UShape,
    check_frames,
    refuse_batch_norm,
)
from crevnet.padding import crop, pad


@dataclass(frozen=True, slots=True)
class UNetConfig(UShape):
    """A U-Net in numbers and names; see `UShape` for the rest.

    Attributes:
        history: Frames it sees: its input has `channels * history + static_channels` channels.
        horizon: Frames it says, all at once: its head has `channels * horizon` outputs.
    """

    history: int = 9
    horizon: int = 3

    def __post_init__(self) -> None:
        UShape.__post_init__(self)  # slots leave no plain `super()`
        if min(self.history, self.horizon) < 1:
            raise ValueError(f"{self}: every size is at least 1")


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
