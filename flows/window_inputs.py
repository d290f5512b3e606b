"""What a network is told of a city of which no day may be used: a window's own history alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crevnet.task import Task
from flows.examples import Half, mirrored
from pipeline.context import Context
from pipeline.editions import City, Edition
from pipeline.flips import Mirror
from pipeline.windows import Window


@dataclass(frozen=True, slots=True, eq=False)
class WindowInputs:
    """What is usual is the mean of the window's history, and planes are made of that history.

    The naive mix of a history's mean with itself is that mean: a network that corrects the mix, or
    what is usual, corrects the mean of the history then.

    Attributes:
        horizon: Frames up to the last lead.
        needs_usual: Whether the base needs what is usual.
        context: Names of the planes, the clock and the known cities; none, if there are no planes.
    """

    horizon: int
    needs_usual: bool
    context: Context | None

    @classmethod
    def of(
        cls, task: Task, edition: Edition, city: City, known: Sequence[str] = ()
    ) -> WindowInputs:
        """Return them for what a network was trained to do, in a city."""
        context = Context(edition, city, task.inputs, {}, None, tuple(known))
        return cls(task.horizon, task.needs_usual, context if task.inputs else None)

    def told(
        self, history: NDArray[np.float32], windows: Sequence[Window]
    ) -> tuple[Half | None, Half | None]:
        """Return what is usual `(B, T + horizon, C, H, W)` and the planes `(B, S, H, W)`, or none.

        Args:
            history: `(B, T, C, H, W)` in [0, 1].
            windows: Where these were cut; their clocks are read.
        """
        usual = static = None
        if self.needs_usual:
            mean = history.mean(axis=1, keepdims=True).astype(np.float16)
            usual = np.repeat(mean, history.shape[1] + self.horizon, axis=1)
        if self.context is not None:
            each = zip(windows, history, strict=True)
            static = np.stack([self.context.by_window(window, frames) for window, frames in each])
        return usual, static

    def mirrored(
        self, turn: Mirror, usual: Half | None, static: Half | None
    ) -> tuple[Half | None, Half | None]:
        """Return the same, mirrored: see `flows.examples.mirrored`."""
        return mirrored(self.context, turn, usual, static)
