"""Structural similarity as something to learn from (Wang et al., 2004)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import conv2d

SIZE, SIGMA = 11, 1.5
"""Side and spread of the window, in pixels, as in the paper of SSIM."""


def structural_similarity(said: Tensor, truth: Tensor) -> Tensor:
    """Return the mean structural similarity of frames in [0, 1], each channel for itself.

    Gaussian windows of 11 x 11 where they fit whole, range 1. Values beyond [0, 1] count as they
    are. Gradients flow to `said`. In float32 at least, mixed precision or not: a variance is a
    small difference of large means.

    Args:
        said: `(..., H, W)`, H and W at least 11.
        truth: Of the same shape.

    Returns:
        A scalar, at most 1; 1 where both are equal.

    Raises:
        ValueError: The shapes differ, or frames are smaller than a window.
    """
    if said.shape != truth.shape or min(said.shape[-2:]) < SIZE:
        raise ValueError(
            f"{tuple(said.shape)} said of {tuple(truth.shape)}: expected equal shapes of at least "
            f"{SIZE} x {SIZE} pixels"
        )
    kind = torch.promote_types(torch.promote_types(said.dtype, truth.dtype), torch.float32)
    x, y = (frames.to(kind).reshape(-1, 1, *said.shape[-2:]) for frames in (said, truth))
    n = len(x)
    with torch.autocast(said.device.type, enabled=False):
        means = _window(torch.cat((x, y, x * x, y * y, x * y)))
    mx, my, xx, yy, xy = means.split(n)
    vx, vy, cov = xx - mx * mx, yy - my * my, xy - mx * my
    c1, c2 = 0.01**2, 0.03**2
    light = (2 * mx * my + c1) / (mx * mx + my * my + c1)
    similarity: Tensor = (light * (2 * cov + c2) / (vx + vy + c2)).mean()
    return similarity


def _window(frames: Tensor) -> Tensor:
    """Average `(N, 1, H, W)` over windows, down and then across."""
    steps = torch.arange(SIZE, dtype=frames.dtype, device=frames.device) - SIZE // 2
    bell = torch.exp(-(steps**2) / (2 * SIGMA**2))
    bell = bell / bell.sum()
    down: Tensor = conv2d(frames, bell.view(1, 1, SIZE, 1))
    across: Tensor = conv2d(down, bell.view(1, 1, 1, SIZE))
    return across
