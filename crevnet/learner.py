"""What the loop trains, whatever it learns: from a batch to its loss."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn

from crevnet.autoencoder import MemoryMode


class LearnerBatch(Protocol):
    """A step's data, which only its learner looks into."""

    @property
    def where(self) -> tuple[str, ...]:
        """What the examples are called, for messages."""

    @property
    def size(self) -> int:
        """Examples."""

    def to(self, device: torch.device | str) -> LearnerBatch:
        """Return the same on a device."""


class Learner(nn.Module):
    """A network on its way: one forward pass from batch to loss, as DDP asks."""

    @property
    def network(self) -> nn.Module:
        """What learns: its weights alone are kept, averaged and exported."""
        raise NotImplementedError

    def identity(self) -> dict[str, Any]:
        """Return what it learns and how, as plain values: what a state must agree with."""
        raise NotImplementedError

    def forward(self, batch: Any, memory: MemoryMode = "plain") -> Tensor:
        """Return the batch's loss, a float32 scalar."""
        raise NotImplementedError
