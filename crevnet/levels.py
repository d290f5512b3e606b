"""How a city stands today against what is usual, near a cell and far: a base made better.

What is usual says where and when there is traffic, a short history says how much of it there is
today, but only over many cells: one cell's nine frames are mostly noise. So a base may have added
to it a weighted sum of a few features of every cell, channel and lead, fitted by least squares
on training days:

| feature | what |
|---|---|
| mean | mean of the history, less what is usual at the lead |
| last | last frame of the history, less its mean |
| late | mean of the history's last third, less its mean |
| level *r* | what is usual at the lead, times the share the history lies above it in *r* cells |
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

QUIET = 1e-3
"""Added to both sides of a level, in units of frames: where nothing is usual, nothing is rare."""
HIGHEST = 4.0
"""Levels above are taken for it."""


def features(history: Tensor, usual: Tensor, radii: Sequence[int]) -> Iterator[Tensor]:
    """Yield each feature in the order of the table, one for each radius at the end.

    Args:
        history: `(B, T, C, H, W)` float in [0, 1].
        usual: What is usual in the history and at the leads, `(B, T + N, C, H, W)`.
        radii: Cells to each side of a box, each at least 1; boxes end at the edge.

    Yields:
        `(B, N, C, H, W)`, or `(B, 1, C, H, W)` where it is the same at all leads.
    """
    T = history.shape[1]
    mean, ahead = history.mean(1), usual[:, T:]
    yield mean[:, None] - ahead
    yield (history[:, -1] - mean)[:, None]
    yield (history[:, -max(1, T // 3) :].mean(1) - mean)[:, None]
    normal = usual[:, :T].mean(1)
    for radius in radii:
        share = (box_mean(mean, radius) + QUIET) / (box_mean(normal, radius) + QUIET)
        yield ahead * (share.clamp(max=HIGHEST) - 1)[:, None]


def level(history: Tensor, usual: Tensor, radii: Sequence[int], weights: Tensor) -> Tensor:
    """Return the weighted sum of the features, `(B, N, C, H, W)`.

    Args:
        history: As in `features`.
        usual: As in `features`.
        radii: As in `features`.
        weights: Of each lead, channel and feature, `(N, C, F)`.
    """
    total = torch.zeros_like(usual[:, history.shape[1] :])
    each = weights.unbind(-1)
    for weight, feature in zip(each, features(history, usual, radii), strict=True):
        total = total + weight[..., None, None] * feature
    return total


def box_mean(planes: Tensor, radius: int) -> Tensor:
    """Mean of each plane `(B, C, H, W)` over a box about each cell, of the cells there are."""
    side = 2 * radius + 1
    for kernel, pad in (((side, 1), (radius, 0)), ((1, side), (0, radius))):
        planes = avg_pool2d(planes, kernel, 1, pad, count_include_pad=False)
    return planes
