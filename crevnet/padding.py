"""Odd sizes are the network's private matter: pad going in, crop coming out."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import pad as pad_with


def pad(x: Tensor, factor: int) -> Tensor:
    """Pad `(..., H, W)` with zeros at the bottom and right to multiples of `factor`."""
    H, W = x.shape[-2:]
    below, right = -H % factor, -W % factor
    return pad_with(x, (0, right, 0, below)) if below or right else x


def crop(x: Tensor, height: int, width: int) -> Tensor:
    """Cut `(..., H, W)` back to the size before `pad`."""
    return x[..., :height, :width]
