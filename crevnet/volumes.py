"""Between frames as people see them and the volumes that convolutions see."""

from __future__ import annotations

import torch
from torch import Tensor

from crevnet.config import CrevNetConfig


def to_volume(config: CrevNetConfig, frames: Tensor, static: Tensor | None) -> Tensor:
    """Cut `(B, T, C, H, W)` into overlapping clips, all steps in one batch.

    Returns:
        `(N * B, C + S, k, H, W)` in 3D, `(N * B, k * C + S, H, W)` in 2D, with `N = T - k + 1`
        steps, step by step.

    Raises:
        ValueError: Too few frames, other channels than the config's, or a map missing or unasked
            for.
    """
    B, T, C, H, W = frames.shape
    k, S = config.clip, config.static_channels
    if config.channels != C or k > T:
        raise ValueError(f"{T} frames of {C} channels, expected at least {k} of {config.channels}")
    if (static is None) != (S == 0) or (static is not None and static.shape != (B, S, H, W)):
        found = None if static is None else tuple(static.shape)
        raise ValueError(f"static map {found}, expected {(B, S, H, W) if S else None}")
    clips = frames.unfold(1, k, 1)  # (B, N, C, H, W, k)
    N = clips.shape[1]
    if config.dims == 3:
        volume = clips.permute(1, 0, 2, 5, 3, 4).reshape(N * B, C, k, H, W)
        if static is not None:
            map_ = static[None, :, :, None].expand(N, B, S, k, H, W).reshape(N * B, S, k, H, W)
            volume = torch.cat((volume, map_), 1)
        return volume
    volume = clips.permute(1, 0, 5, 2, 3, 4).reshape(N * B, k * C, H, W)
    if static is not None:
        volume = torch.cat((volume, static[None].expand(N, B, S, H, W).reshape(N * B, S, H, W)), 1)
    return volume


def to_frames(config: CrevNetConfig, volume: Tensor) -> Tensor:
    """Turn volumes back into clips `(N, k, C, H, W)`, leaving out the map."""
    k, C = config.clip, config.channels
    if config.dims == 3:
        return volume[:, :C].transpose(1, 2)
    stacked: Tensor = volume[:, : k * C].unflatten(1, (k, C))
    return stacked
