"""What training minimises."""

from __future__ import annotations

import torch
from torch import Tensor


def clip_loss(
    predicted: Tensor, frames: Tensor, *, new_frame: float = 1.0, first_step: int = 0
) -> Tensor:
    """Mean squared error of every step's clip against the true one.

    Released: all frames of a clip weigh alike, though all but the last were seen already, and all
    steps count, the warm-up too.

    Args:
        predicted: `(B, T - k, k, C, H, W)`, from `CrevNet.forward`.
        frames: The true `(B, T, C, H, W)`.
        new_frame: Weight of a clip's last, new frame; the others weigh 1. The weights' sum does not
            matter: the loss is a mean.
        first_step: Steps before it do not count.

    Returns:
        A scalar.

    Raises:
        ValueError: The shapes do not belong together, or no step counts.
    """
    B, steps, k = predicted.shape[:3]
    if (B, steps + k) != tuple(frames.shape[:2]) or not 0 <= first_step < steps:
        raise ValueError(
            f"{tuple(predicted.shape)} predicted of {tuple(frames.shape)} from step {first_step}"
        )
    truth = frames[:, 1:].unfold(1, k, 1).movedim(-1, 2)  # (B, T - k, k, C, H, W)
    error = (predicted - truth)[:, first_step:].square()
    weights = torch.ones(k, dtype=error.dtype, device=error.device)
    weights[-1] = new_frame
    return torch.einsum("bskchw,k->", error, weights) / (error[:, :, 0].numel() * weights.sum())
