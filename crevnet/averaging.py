"""An average of a network's weights over its training: what is scored and saved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    """Exponential moving average of weights and buffers, short-sighted at first.

    After n updates the decay is `min(decay, (1 + n) / (10 + n))`, so that the random first weights
    are soon forgotten.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        if not 0 < decay < 1:
            raise ValueError(f"decay {decay}, expected in (0, 1)")
        self.decay = decay
        self.updates = 0
        self.values = {name: value.clone() for name, value in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Take in the weights after a step; whole numbers are copied."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        for name, value in module.state_dict().items():
            if value.is_floating_point():
                self.values[name].lerp_(value, 1 - decay)
            else:
                self.values[name].copy_(value)

    def restore(self, values: Mapping[str, Tensor], updates: int) -> None:
        """Go on from saved values."""
        for name, value in values.items():
            self.values[name].copy_(value)
        self.updates = updates

    @contextmanager
    def swapped(self, module: nn.Module) -> Iterator[None]:
        """Give a network the averaged weights for a while, and its own back after."""
        own = {name: value.clone() for name, value in module.state_dict().items()}
        module.load_state_dict(self.values)
        try:
            yield
        finally:
            module.load_state_dict(own)
