"""The two arms of a U-Net: an encoder that halves, a decoder that doubles and looks across."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import gcd
from typing import Any, Literal, Self, get_args

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from crevnet.autoencoder import MemoryMode
from crevnet.plain import from_plain, to_plain

Norm = Literal["group", "batch", "none"]
GROUPS = 8


def widths(width: int, growth: int, depth: int, widest: int) -> tuple[int, ...]:
    """Return the channels of each level, finest first: `depth + 1` of them.

    Raises:
        ValueError: A size is below 1, or there is no halving.
    """
    if min(width, growth, depth, widest) < 1:
        raise ValueError(
            f"width {width}, growth {growth}, depth {depth}, widest {widest}: expected at least 1"
        )
    if depth > 16 or growth > 16:
        raise ValueError(f"depth {depth}, growth {growth}: expected at most 16")
    return tuple(min(widest, width * growth**level) for level in range(depth + 1))


@dataclass(frozen=True, slots=True)
class UShape:
    """What every U-Net is shaped by.

    Attributes:
        channels: Channels of a frame.
        static_channels: Planes of a map, appended to the frames.
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
    width: int = 64
    depth: int = 4
    growth: int = 2
    widest: int = 1024
    convolutions: int = 2
    norm: Norm = "group"

    def __post_init__(self) -> None:
        if min(self.channels, self.convolutions) < 1 or self.static_channels < 0:
            raise ValueError(f"{self}: every size is at least 1")
        if self.norm not in get_args(Norm):
            raise ValueError(f"norm {self.norm!r}, expected 'group', 'batch' or 'none'")
        self.widths()

    @property
    def factor(self) -> int:
        """What the sides of a grid are padded to a multiple of."""
        return int(2**self.depth)

    @property
    def layers(self) -> int:
        """Convolutions, a lower bound of the tensors it has."""
        return self._arms()

    def widths(self) -> tuple[int, ...]:
        """Return the channels of each level, finest first."""
        return widths(self.width, self.growth, self.depth, self.widest)

    def _arms(self) -> int:
        return (2 * self.depth + 1) * self.convolutions + self.depth + 1

    def to_dict(self) -> dict[str, Any]:
        """Return the same as plain values."""
        return to_plain(self)

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> Self:
        """Return a config from plain values.

        Raises:
            ValueError: A key is unknown, or a value is not allowed.
        """
        return from_plain(cls, value)


def stage(inputs: int, outputs: int, convolutions: int, norm: Norm) -> nn.Sequential:
    """Return convolutions of kernel 3, each followed by its norm and ReLU."""
    layers: list[nn.Module] = []
    for number in range(convolutions):
        layers.append(nn.Conv2d(inputs if number == 0 else outputs, outputs, 3, padding=1))
        if norm == "batch":
            layers.append(nn.BatchNorm2d(outputs))
        elif norm == "group":
            layers.append(nn.GroupNorm(gcd(outputs, GROUPS), outputs))
        layers.append(nn.ReLU())
    return nn.Sequential(*layers)


class Encoder(nn.Module):
    """Stages, each after the first led by a max pooling of 2.

    Shapes:
        `(B, inputs, H, W)` in, with sides that halve evenly; out a map of each level, finest
        first: `(B, widths[i], H / 2**i, W / 2**i)`.
    """

    def __init__(self, inputs: int, wide: tuple[int, ...], convolutions: int, norm: Norm) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            stage(before, after, convolutions, norm)
            for before, after in zip((inputs, *wide), wide, strict=False)
        )
        self.pool = nn.MaxPool2d(2)

    def forward(self, x: Tensor, memory: MemoryMode = "plain") -> list[Tensor]:
        """Encode."""
        levels: list[Tensor] = []
        for number, one in enumerate(self.stages):
            x = kept(one, memory, self.pool(x) if number else x)
            levels.append(x)
        return levels


class Decoder(nn.Module):
    """Transposed convolutions of 2, each followed by a stage that also sees the encoder's map.

    Shapes:
        An encoder's maps in, `(B, outputs, H, W)` out: not bounded.
    """

    def __init__(self, outputs: int, wide: tuple[int, ...], convolutions: int, norm: Norm) -> None:
        super().__init__()
        coarse_first = list(zip(wide[:0:-1], wide[-2::-1], strict=True))
        self.rises = nn.ModuleList(
            nn.ConvTranspose2d(coarse, fine, 2, 2) for coarse, fine in coarse_first
        )
        self.stages = nn.ModuleList(
            stage(2 * fine, fine, convolutions, norm) for _, fine in coarse_first
        )
        self.head = nn.Conv2d(wide[0], outputs, 1)

    def forward(self, levels: list[Tensor], memory: MemoryMode = "plain") -> Tensor:
        """Decode."""
        *across, x = levels
        for rise, one, skip in zip(self.rises, self.stages, reversed(across), strict=True):
            x = kept(partial(_join, rise, one), memory, x, skip)
        said: Tensor = self.head(x)
        return said


def _join(rise: nn.Module, one: nn.Module, x: Tensor, skip: Tensor) -> Tensor:
    said: Tensor = one(torch.cat((rise(x), skip), 1))
    return said


def kept(function: Callable[..., Tensor], memory: MemoryMode, *inputs: Tensor) -> Tensor:
    """Call a function, keeping for backward all it makes, or with *frugal* its inputs alone."""
    if memory == "plain" or not torch.is_grad_enabled():
        return function(*inputs)
    said: Tensor = checkpoint(function, *inputs, use_reentrant=False)
    return said


def refuse_batch_norm(network: nn.Module, memory: MemoryMode) -> None:
    """Refuse to compute twice what counts batches.

    Raises:
        ValueError: *frugal* training with BatchNorm.
    """
    if memory == "plain" or not torch.is_grad_enabled():
        return
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d) and module.training:
            raise ValueError(
                "BatchNorm in training is not computed twice: its statistics would count every "
                "batch twice; use norm='group' or memory='plain'"
            )


def check_frames(
    frames: Tensor, static: Tensor | None, channels: int, static_channels: int, least: int
) -> None:
    """Refuse frames `(B, T, C, H, W)` or a map `(B, S, H, W)` that a network is not made for.

    Raises:
        ValueError: Too few frames, other channels, or a map missing or unasked for.
    """
    B, T, C, H, W = frames.shape
    if channels != C or least > T:
        raise ValueError(f"{T} frames of {C} channels, expected at least {least} of {channels}")
    wanted = (B, static_channels, H, W) if static_channels else None
    found = None if static is None else tuple(static.shape)
    if found != wanted:
        raise ValueError(f"static map {found}, expected {wanted}")
