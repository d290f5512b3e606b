"""What a head learns from: frames, or features that a frozen network made of them, and boxes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Target(NamedTuple):
    """What is in a frame; boxes are left, top, right, bottom in pixels of the frame.

    A tuple, so that what casts a batch's tensors (mixed precision) finds them.

    Attributes:
        boxes: float32 `(n, 4)`.
        classes: int64 `(n,)`, from 1; 0 is nothing.
        ignored: float32 `(m, 4)`: where nobody is to learn that there is nothing.
    """

    boxes: Tensor
    classes: Tensor
    ignored: Tensor

    def to(self, device: torch.device | str) -> Target:
        """Return the same on a device."""
        return Target(self.boxes.to(device), self.classes.to(device), self.ignored.to(device))


class DetectionBatch(NamedTuple):
    """Frames side by side: a `LearnerBatch`.

    Attributes:
        seen: uint8 `(B, T, 3, H, W)`, or float32 `(B, channels, h, w)` where they are features.
        targets: One a frame.
        where: What each is called.
    """

    seen: Tensor
    targets: tuple[Target, ...]
    where: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Frames."""
        return len(self.targets)

    def to(self, device: torch.device | str) -> DetectionBatch:
        """Return the same on a device."""
        return DetectionBatch(
            self.seen.to(device, non_blocking=True),
            tuple(target.to(device) for target in self.targets),
            self.where,
        )


def side_by_side(
    seen: Sequence[Tensor], targets: Sequence[Target], where: Sequence[str]
) -> DetectionBatch:
    """Return a batch of frames."""
    return DetectionBatch(torch.stack(list(seen)), tuple(targets), tuple(where))
