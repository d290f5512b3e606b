"""A large depthwise kernel as a small dense one and a sparse wide one, and attention by it."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class LargeKernel(nn.Sequential):
    """A depthwise convolution, then a dilated one, that together see about `kernel` cells.

    With 21 and a dilation of 3: sides of 5 and of 7 cells, three apart.
    """

    def __init__(self, width: int, kernel: int, dilation: int) -> None:
        dense = 2 * dilation - 1
        sparse = kernel // dilation
        sparse += sparse % 2 - 1  # odd, rounded down
        around = dilation * (sparse - 1) // 2
        super().__init__(
            nn.Conv2d(width, width, dense, padding=dense // 2, groups=width),
            nn.Conv2d(width, width, sparse, padding=around, groups=width, dilation=dilation),
        )


class GatedAttention(nn.Module):
    """`sigmoid(g) f`, with f and g from a large kernel and a 1x1 convolution: the gate of gSTA."""

    def __init__(self, width: int, kernel: int, dilation: int) -> None:
        super().__init__()
        self.large = LargeKernel(width, kernel, dilation)
        self.split = nn.Conv2d(width, 2 * width, 1)

    def forward(self, u: Tensor) -> Tensor:
        """Bend `(B, width, h, w)`."""
        f, g = self.split(self.large(u)).chunk(2, 1)
        bent: Tensor = torch.sigmoid(g) * f
        return bent
