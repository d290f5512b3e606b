"""AdamW, and the learning rate as a function of how much of the budget is used up."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import nn

Schedule = Literal["cosine", "one_cycle", "constant", "fifth"]

START = 0.04
"""Learning rate at the very start, as a share of the highest."""


def adamw(module: nn.Module, learning_rate: float, weight_decay: float) -> torch.optim.AdamW:
    """Return AdamW (arXiv 1711.05101) that decays matrices and kernels, not biases and norms."""
    weights = [p for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in weights if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in weights if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=learning_rate)


def rate(schedule: Schedule, warmup: float, progress: float) -> float:
    """Return the learning rate as a share of the highest.

    It rises from `START` to 1 in the first `warmup` of the budget; then *cosine* and *one_cycle*
    fall to 0 along half a cosine, *constant* stays, and *fifth* stays until five sixths of the
    budget are used up and is a fifth from then on, as released for Moving MNIST. *one_cycle* also
    rises along half a cosine (arXiv 1708.07120, without its cycle of the momentum), the others
    along a line.

    Args:
        schedule: Which.
        warmup: Share of the budget, in [0, 1).
        progress: Share of the budget that is used up, taken for 1 when above.
    """
    progress = min(max(progress, 0.0), 1.0)
    if progress < warmup:
        risen = progress / warmup
        if schedule == "one_cycle":
            risen = (1 - math.cos(math.pi * risen)) / 2
        return START + (1 - START) * risen
    if schedule == "constant":
        return 1.0
    if schedule == "fifth":
        return 1.0 if progress < 5 / 6 else 0.2
    return (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup))) / 2
