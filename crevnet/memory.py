"""What a predictor remembers: a value, passed in and returned, never kept on a module."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Memory:
    """The state of a predictor after a step.

    Attributes:
        hidden: Hidden state of each module's cell, `(B, C, [D,] h, w)`.
        cell: Cell state of each.
        spatial: The spatiotemporal memory M as it left each module in this step; empty for
            ConvLSTM. Only the last enters the next step (the zigzag); the others are what undoing
            the step needs, and the paper forgets.
    """

    hidden: tuple[Tensor, ...]
    cell: tuple[Tensor, ...]
    spatial: tuple[Tensor, ...] = ()

    @classmethod
    def zeros(cls, like: Tensor, modules: int, *, spatial: bool) -> Memory:
        """Return the memory before a first step, made for a feature map's batch, size, device."""
        nothing = tuple(torch.zeros_like(like) for _ in range(modules))
        return cls(nothing, nothing, nothing if spatial else ())

    @property
    def spatial_in(self) -> Tensor | None:
        """The M that enters the next step's first module."""
        return self.spatial[-1] if self.spatial else None
