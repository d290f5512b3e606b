"""Convolution and norm in two or three dimensions, by number."""

from __future__ import annotations

from typing import Literal

from torch import nn

from crevnet.config import Norm

Dims = Literal[2, 3]


def convolution(
    dims: Dims, inputs: int, outputs: int, kernel: int, *, stride: int = 1, bias: bool = True
) -> nn.Module:
    """Return a size-keeping convolution; `stride` holds for space, never for time."""
    if dims == 2:
        return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=bias)
    return nn.Conv3d(inputs, outputs, kernel, (1, stride, stride), kernel // 2, bias=bias)


def normalisation(dims: Dims, channels: int, kind: Norm) -> nn.Module:
    """Return GroupNorm with one group, or BatchNorm."""
    if kind == "group":
        return nn.GroupNorm(1, channels)
    return nn.BatchNorm2d(channels) if dims == 2 else nn.BatchNorm3d(channels)
