"""The building block of the two-way autoencoder: an additive coupling (paper, eq. 2 and 3)."""

from __future__ import annotations

from torch import Tensor, nn

from crevnet.config import Norm
from crevnet.layers import Dims, convolution, fold, normalisation
from crevnet.pixel_shuffle import shuffle, unshuffle

Halves = tuple[Tensor, Tensor]
FOLDED_CHANNELS = 40
"""Volumes of at most so many channels times frames are folded on a CPU: measured."""


class Residual(nn.Sequential):
    """What a block adds: three convolutions of kernel 3 with a narrow middle, no bias.

    Each is led by norm and ReLU; the very first block's first one is not.

    Shapes:
        `(B, inputs, ..., H, W)` in, `(B, outputs, ..., H / stride, W / stride)` out.
    """

    def __init__(
        self,
        dims: Dims,
        inputs: int,
        outputs: int,
        *,
        stride: int,
        bottleneck: float,
        norm: Norm,
        dropout: float = 0.0,
        first: bool = False,
    ) -> None:
        inner = max(1, int(outputs / bottleneck))
        layers: list[nn.Module] = []
        if not first:
            layers += [normalisation(dims, inputs, norm), nn.ReLU()]
        layers += [
            convolution(dims, inputs, inner, 3, stride=stride, bias=False),
            normalisation(dims, inner, norm),
            nn.ReLU(),
            convolution(dims, inner, inner, 3, bias=False),
            *([nn.Dropout(dropout)] if dropout else []),
            normalisation(dims, inner, norm),
            nn.ReLU(),
            convolution(dims, inner, outputs, 3, bias=False),
        ]
        super().__init__(*layers)
        self.inputs, self.outputs = inputs, outputs
        self.may_fold = dims == 3 and norm != "batch"

    def forward(self, x: Tensor) -> Tensor:
        """Compute what is added."""
        if not self.may_fold or x.device.type != "cpu":
            return self._through(x)
        depth = x.shape[2]
        if self.inputs * depth > FOLDED_CHANNELS:
            return self._through(x)
        flat = self._through(fold(x))
        unfolded: Tensor = flat.unflatten(1, (self.outputs, depth)).contiguous()
        return unfolded

    def _through(self, x: Tensor) -> Tensor:
        for layer in self:
            x = layer(x)
        return x


class CouplingBlock(nn.Module):
    """Swap two halves and add a residual to one: `(a, b) -> (b', a' + F(b))`.

    `'` moves space into channels where the block has stride 2. `inverse` undoes `forward` for any
    residual. Two blocks in a row are the paper's eq. 2.

    Shapes:
        Each half is `(B, C, ..., H, W)` going in and `(B, C * s**2, ..., H / s, W / s)` coming
        out.
    """

    def __init__(self, residual: nn.Module, stride: int = 1) -> None:
        super().__init__()
        self.residual, self.stride = residual, stride

    def forward(self, halves: Halves) -> Halves:
        """Encode."""
        a, b = halves
        return unshuffle(b, self.stride), unshuffle(a, self.stride) + self.residual(b)

    def inverse(self, halves: Halves) -> Halves:
        """Decode: the way back."""
        c, y = halves
        b = shuffle(c, self.stride)
        return shuffle(y - self.residual(b), self.stride), b
