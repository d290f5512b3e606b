"""Convolution and norm in two or three dimensions, by number."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, group_norm, pad

from crevnet.config import Norm

Dims = Literal[2, 3]


def channels_last(dims: Dims) -> torch.memory_format:
    """Return the layout in which a cell's channels lie side by side."""
    return torch.channels_last if dims == 2 else torch.channels_last_3d


def lay_channels_last(network: nn.Module) -> None:
    """Lay the weights of all convolutions in that order."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.to(memory_format=torch.channels_last)
        elif isinstance(module, nn.Conv3d):
            module.to(memory_format=torch.channels_last_3d)


def convolution(
    dims: Dims, inputs: int, outputs: int, kernel: int, *, stride: int = 1, bias: bool = True
) -> nn.Module:
    """Return a size-keeping convolution; `stride` holds for space, never for time."""
    if dims == 2:
        return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=bias)
    kind = FoldingConv3d if kernel == 3 else nn.Conv3d
    return kind(inputs, outputs, kernel, (1, stride, stride), kernel // 2, bias=bias)


def normalisation(dims: Dims, channels: int, kind: Norm) -> nn.Module:
    """Return GroupNorm with one group, BatchNorm, or nothing."""
    if kind == "none":
        return nn.Identity()
    if kind == "group":
        return FoldingNorm(1, channels)
    return nn.BatchNorm2d(channels) if dims == 2 else nn.BatchNorm3d(channels)


def fold(x: Tensor) -> Tensor:
    """Make frames channels: `(B, C, D, H, W)` to `(B, C * D, H, W)`, channels last.

    On CPUs the backward of a 3D convolution of few channels is many times slower than that of the
    2D convolution, three times as wide, that this leads to.
    """
    return x.flatten(1, 2).contiguous(memory_format=torch.channels_last)


class FoldingConv3d(nn.Conv3d):
    """A 3D convolution of kernel 3 that also takes volumes made flat by `fold`.

    There it is a 2D convolution, whose kernels hold the same weights in bands.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Convolve `(B, C, D, H, W)`, or `(B, C * D, H, W)` as such."""
        if x.dim() == 5:
            if x.shape[2] == 2 and _in_bfloat16_on_a_cpu(x):
                # oneDNN (torch 2.14, AVX512-BF16) reads what it never wrote in the backward of
                # depth 2: gradients were NaN at random. A third frame of zeros changes nothing.
                return super().forward(pad(x, (0, 0, 0, 0, 0, 1)))[:, :, :2]
            return super().forward(x)
        depth = x.shape[1] // self.in_channels
        around = pad(self.weight, (0, 0, 0, 0, depth - 1, depth - 1))
        bands = [around[:, :, depth - d : 2 * depth - d] for d in range(depth)]
        weight = torch.stack(bands, 1).flatten(2, 3).flatten(0, 1)  # (O * D, I * D, 3, 3)
        bias = None if self.bias is None else self.bias.repeat_interleave(depth)
        return conv2d(x, weight, bias, self.stride[1:], self.padding[1:])


def _in_bfloat16_on_a_cpu(x: Tensor) -> bool:
    if x.device.type != "cpu":
        return False
    return x.dtype == torch.bfloat16 or torch.is_autocast_enabled("cpu")


class FoldingNorm(nn.GroupNorm):
    """GroupNorm with one group that also takes volumes made flat by `fold`."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise each sample."""
        depth = x.shape[1] // self.num_channels
        if depth == 1:
            return super().forward(x)
        weight, bias = (p.repeat_interleave(depth) for p in (self.weight, self.bias))
        return group_norm(x, 1, weight, bias, self.eps)
