"""What a benchmark reads, whatever it comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline.sources import Clip, ClipSource
from pipeline.sources.moving_mnist import DrawnSequences


@dataclass(frozen=True, slots=True)
class First:
    """The first sequences of a set."""

    whole: ClipSource[Any]
    count: int

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Clip[Any]:
        """Return a clip."""
        if not 0 <= index < self.count:
            raise IndexError(f"sequence {index} of {self.count}")
        return self.whole[index]


@dataclass(frozen=True, slots=True, eq=False)
class BenchmarkData:
    """All sequences of a benchmark.

    Attributes:
        training: Drawn on the fly, or windows in an order without end.
        validation: What chooses the best weights.
        test: What is scored.
        layers: The test set as it is drawn, each digit alone; none for a file or a video.
        horizon: Frames to say of the test set.
        trained_horizon: Frames to say of what is learned and chosen by.
        canvas: Rows and columns.
        learned: Says all that decides what is learned from, as plain values.
        scored: Says all that decides what is scored, as plain values.
    """

    training: ClipSource[Any]
    validation: ClipSource[Any]
    test: ClipSource[Any]
    layers: DrawnSequences | None
    horizon: int
    trained_horizon: int
    canvas: tuple[int, int]
    learned: str
    scored: str
