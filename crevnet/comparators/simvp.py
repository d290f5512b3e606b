"""SimVP (Gao et al., 2022), with gated attention (gSTA; Tan et al., 2022) or TAU between.

No recurrence: an encoder of single frames, a translator that sees all frames as channels, a decoder
of single frames. It says as many frames as it sees.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from crevnet.autoencoder import MemoryMode
from crevnet.comparators.frames import FrameShape, check_kernel, check_sizes
from crevnet.comparators.large_kernel import GatedAttention
from crevnet.comparators.stages import check_frames, kept, refuse_batch_norm
from crevnet.comparators.tau import TemporalAttention
from crevnet.padding import crop, pad
from crevnet.pixel_shuffle import shuffle

Translator = Literal["gsta", "tau"]
SimVPNorm = Literal["batch", "group"]
SMALL = 1e-2
"""What the layers of a translator's block are scaled with at first."""


@dataclass(frozen=True, slots=True)
class SimVPConfig(FrameShape):
    """A SimVP in numbers and names; as published for Moving MNIST.

    Attributes:
        history: Frames it sees, and says at once.
        stages: Convolutions of the encoder, and of the decoder; every second one halves the grid.
        width: Channels of a frame's features.
        translator: *gsta* or *tau*.
        blocks: Blocks of the translator.
        wide: Channels between its blocks; the first and the last see `history * width`.
        widening: How many times wider a block's inner layers are.
        kernel: Cells that a block's large kernel sees along each side, at least 3 dilations.
        dilation: Of its second half.
        norm: *batch* is the published BatchNorm of the translator; *group* sees a sample alone.
    """

    history: int = 10
    stages: int = 4
    width: int = 64
    translator: Translator = "gsta"
    blocks: int = 8
    wide: int = 512
    widening: int = 8
    kernel: int = 21
    dilation: int = 3
    norm: SimVPNorm = "batch"

    def __post_init__(self) -> None:
        FrameShape.__post_init__(self)  # slots leave no plain `super()`
        check_sizes(self, self.history, self.widening, self.dilation)
        check_sizes(self, self.stages, most=16)
        check_sizes(self, self.width, self.wide, self.blocks, most=2**31)
        check_kernel(self.kernel)
        if self.kernel < 3 * self.dilation:
            raise ValueError(f"kernel {self.kernel}, expected at least 3 x {self.dilation}")
        if self.width % 2:
            raise ValueError(f"a width of {self.width} channels, expected an even one")
        if self.blocks < 2:
            raise ValueError(f"{self.blocks} blocks, expected at least 2")
        if self.translator not in get_args(Translator):
            raise ValueError(f"translator {self.translator!r}, expected 'gsta' or 'tau'")
        if self.norm not in get_args(SimVPNorm):
            raise ValueError(f"norm {self.norm!r}, expected 'batch' or 'group'")

    @property
    def factor(self) -> int:
        """What the sides of a grid are padded to a multiple of."""
        return int(2 ** (self.stages // 2))

    @property
    def layers(self) -> int:
        """A lower bound of the tensors it has."""
        return 2 * self.stages + self.blocks


class FrameStage(nn.Module):
    """A convolution of kernel 3, GroupNorm of two groups and SiLU; may halve or double the grid."""

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1, rise: int = 1) -> None:
        super().__init__()
        self.rise = rise
        self.convolution = nn.Conv2d(inputs, outputs * rise**2, 3, stride, 1)
        self.norm = nn.GroupNorm(2, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve `(N, inputs, h, w)`."""
        x = shuffle(self.convolution(x), self.rise)
        return nn.functional.silu(self.norm(x))


class TranslatorBlock(nn.Module):
    """`x + a attention(norm(x))`, then `x + b mix(norm(x))`, and a 1x1 convolution to fit.

    The attention is a gate between two 1x1 convolutions, with its input added; the mix two 1x1
    convolutions with a depthwise one between. a and b are a weight per channel, small at first.
    """

    def __init__(self, config: SimVPConfig, inputs: int, outputs: int) -> None:
        super().__init__()
        wide = inputs * config.widening

        def norm() -> nn.Module:
            return nn.BatchNorm2d(inputs) if config.norm == "batch" else nn.GroupNorm(1, inputs)

        gate = GatedAttention if config.translator == "gsta" else TemporalAttention
        self.attention_norm, self.mix_norm = norm(), norm()
        self.attention = nn.Sequential(
            nn.Conv2d(inputs, inputs, 1),
            nn.GELU(),
            gate(inputs, config.kernel, config.dilation),
            nn.Conv2d(inputs, inputs, 1),
        )
        self.rise = nn.Conv2d(inputs, wide, 1)
        self.depthwise = nn.Conv2d(wide, wide, 3, padding=1, groups=wide)
        self.fall = nn.Conv2d(wide, inputs, 1)
        self.attention_scale = nn.Parameter(torch.full((inputs, 1, 1), SMALL))
        self.mix_scale = nn.Parameter(torch.full((inputs, 1, 1), SMALL))
        self.fit = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Translate `(B, inputs, h, w)`."""
        seen = self.attention_norm(x)
        x = x + self.attention_scale * (seen + self.attention(seen))
        mixed = self.fall(gelu(self.depthwise(self.rise(self.mix_norm(x)))))
        fitted: Tensor = self.fit(x + self.mix_scale * mixed)
        return fitted


class SimVP(nn.Module):
    """As many frames out as it sees, in one pass; for more of them, what it said is seen.

    Shapes:
        Frames `(B, T, C, H, W)`, any H and W; static map `(B, S, H, W)`.
    """

    def __init__(self, config: SimVPConfig) -> None:
        super().__init__()
        self.config = config
        width, flat = config.width, config.history * config.width
        inputs = config.channels + config.static_channels
        steps = [1 + number % 2 for number in range(config.stages)]  # 1, 2, 1, 2, ...
        self.encoder = nn.ModuleList(
            FrameStage(width if number else inputs, width, stride=step)
            for number, step in enumerate(steps)
        )
        wide = (flat, *[config.wide] * (config.blocks - 1), flat)
        self.translator = nn.ModuleList(
            TranslatorBlock(config, ins, outs) for ins, outs in pairwise(wide)
        )
        self.decoder = nn.ModuleList(
            FrameStage(width, width, rise=step) for step in reversed(steps)
        )
        self.head = nn.Conv2d(width, config.channels, 1)
        self.apply(_draw)
        self.to(memory_format=torch.channels_last)

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
            horizon: Frames wanted; for more than the config's history it looks again, at what it
                said.
            static: `(B, S, H, W)` for a config with static channels.
            memory: *plain* keeps activations for backward; *frugal* makes those of each stage and
                of each block again.

        Returns:
            `(B, horizon, C, H, W)`, not bounded.

        Raises:
            ValueError: Too few frames, no horizon, other channels, or a map missing or unasked for.
        """
        config = self.config
        check_frames(history, static, config.channels, config.static_channels, config.history)
        if horizon < 1:
            raise ValueError(f"a horizon of {horizon} frames, expected at least 1")
        refuse_batch_norm(self, memory)
        seen, said = history[:, -config.history :], []
        for _ in range(-(-horizon // config.history)):
            seen = self._look(seen, static, memory)
            said.append(seen)
        return torch.cat(said, 1)[:, :horizon]

    def forward(self, history: Tensor, static: Tensor | None = None) -> Tensor:
        """Say as many frames as it sees."""
        return self.unroll(history, self.config.history, static)

    def _look(self, frames: Tensor, static: Tensor | None, memory: MemoryMode) -> Tensor:
        B, T, _, H, W = frames.shape
        if static is not None:
            frames = torch.cat((frames, static[:, None].expand(B, T, *static.shape[1:])), 2)
        x = pad(frames.flatten(0, 1), self.config.factor)  # (B * T, C + S, H, W)
        for number, one in enumerate(self.encoder):
            x = kept(one, memory, x)
            if number == 0:
                fine = x
        x = x.unflatten(0, (B, T)).flatten(1, 2)  # (B, T * width, h, w)
        for one in self.translator:
            x = kept(one, memory, x)
        x = x.unflatten(1, (T, -1)).flatten(0, 1)
        *rises, last = self.decoder
        for one in rises:
            x = kept(one, memory, x)
        said = crop(self.head(kept(last, memory, x + fine)), H, W)
        frames_said: Tensor = said.unflatten(0, (B, T))
        return frames_said


def _draw(module: nn.Module) -> None:
    """Draw the weights of convolutions so that variance is kept going back, as published."""
    if isinstance(module, nn.Conv2d):
        rows, columns = module.kernel_size
        spread = (2 / (rows * columns * module.out_channels / module.groups)) ** 0.5
        nn.init.normal_(module.weight, 0, spread)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
