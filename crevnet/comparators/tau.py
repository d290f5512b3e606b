"""The temporal attention unit, TAU (Tan et al., 2023)."""

from __future__ import annotations

from torch import Tensor, nn

from crevnet.comparators.large_kernel import LargeKernel

LEAST_SHARE, SQUEEZE = 4, 16


class TemporalAttention(nn.Module):
    """Weighs a map by where (within frames) and by which channel, so by when (between frames).

    `u * where(u) * when(u)`: *where* is a large kernel with a 1x1 convolution; *when* squeezes each
    channel to its mean, which two layers turn into a weight in (0, 1).
    """

    def __init__(self, width: int, kernel: int, dilation: int) -> None:
        super().__init__()
        self.where = nn.Sequential(LargeKernel(width, kernel, dilation), nn.Conv2d(width, width, 1))
        narrow = max(1, width // max(width // SQUEEZE, LEAST_SHARE))
        self.when = nn.Sequential(
            nn.Linear(width, narrow, bias=False),
            nn.ReLU(),
            nn.Linear(narrow, width, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, u: Tensor) -> Tensor:
        """Weigh `(B, width, h, w)`."""
        when: Tensor = self.when(u.mean((2, 3)))
        weighed: Tensor = when[:, :, None, None] * self.where(u) * u
        return weighed
