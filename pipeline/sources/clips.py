"""What a source gives: clips, each at its index for ever."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

Where = TypeVar("Where")


@dataclass(frozen=True, slots=True, eq=False)
class Clip(Generic[Where]):
    """What was cut.

    Attributes:
        history: `(T, C, H, W)` uint8, what a model sees.
        future: `(L, C, H, W)` uint8, what it should say.
        where: Which cut this is; for traffic a `Window`.
    """

    history: NDArray[np.uint8]
    future: NDArray[np.uint8]
    where: Where


class ClipSource(Protocol[Where]):
    """A numbered collection of clips; the same index gives the same clip for ever."""

    def __len__(self) -> int:
        """Return how many clips there are."""
        ...

    def __getitem__(self, index: int) -> Clip[Where]:
        """Return a clip."""
        ...
