"""What a training step sees: bytes, as they travel to the device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

WHITE = 255.0


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """One window's data.

    Attributes:
        history: uint8 `(T, C, H, W)`.
        future: uint8 `(L, C, H, W)`, the frames at the asked leads.
        usual: float16 `(T + horizon, C, H, W)` in [0, 1]: what is usual at each frame of the
            history and at every frame up to the last lead; or none.
        static: float16 `(S, H, W)`: extra input channels; or none.
        where: Which window it is, for messages.
    """

    history: NDArray[np.uint8]
    future: NDArray[np.uint8]
    usual: NDArray[np.float16] | None = None
    static: NDArray[np.float16] | None = None
    where: str = ""


class Batch(NamedTuple):
    """Examples side by side, `(B, ...)` each: a tuple, so that Fabric and workers can carry it."""

    history: Tensor
    future: Tensor
    usual: Tensor | None = None
    static: Tensor | None = None
    where: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Examples."""
        return int(self.history.shape[0])

    def to(self, device: torch.device | str) -> Batch:
        """Return the same on a device; from pinned memory without waiting."""
        return Batch(
            self.history.to(device, non_blocking=True),
            self.future.to(device, non_blocking=True),
            None if self.usual is None else self.usual.to(device, non_blocking=True),
            None if self.static is None else self.static.to(device, non_blocking=True),
            self.where,
        )


def collate(examples: Sequence[Example]) -> Batch:
    """Put examples side by side.

    Raises:
        ValueError: There are none, or they differ in shape or in what they have.
    """
    if not examples:
        raise ValueError("a batch of no examples")
    return Batch(
        _stack(examples, "history", True),
        _stack(examples, "future", True),
        _stack(examples, "usual", False),
        _stack(examples, "static", False),
        tuple(example.where for example in examples),
    )


def frames(pixels: Tensor) -> Tensor:
    """Turn bytes into float32 in [0, 1]."""
    return pixels.float() / WHITE


def _stack(examples: Sequence[Example], name: str, required: bool) -> Any:
    values = [getattr(example, name) for example in examples]
    if not required and all(value is None for value in values):
        return None
    shapes = {None if value is None else np.shape(value) for value in values}
    if len(shapes) > 1 or None in shapes:
        where = [example.where for example in examples]
        raise ValueError(f"{name} of different shapes {sorted(map(str, shapes))} in one: {where}")
    return torch.from_numpy(np.stack(values))
