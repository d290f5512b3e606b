"""The naive mix on the very days it was fitted on, as it would have been without each of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.forecasters import MovingAverage
from pipeline.usual import UsualFrames
from pipeline.windows import Window


@dataclass(frozen=True, slots=True, eq=False)
class LeftOutMix:
    """A mix whose usual leaves a training day's own frames out; a `Forecaster`.

    On other days it says what the mix itself says. Weights of 0 make it the climatology.

    Attributes:
        usual: What is usual, each training day left out of its own.
        weights: Of the history's mean, `(L, C)` in [0, 1].
    """

    usual: UsualFrames
    weights: NDArray[np.float64]

    def forecast(
        self, history: NDArray[np.float32], windows: Sequence[Window]
    ) -> NDArray[np.float32]:
        """Return the mix, `(B, L, C, H, W)` in [0, 1]."""
        usual = np.stack([self._usual(window) for window in windows])
        now = MovingAverage().forecast(history, windows)
        weights = self.weights.astype(np.float32)[..., None, None]  # (L, C, 1, 1)
        mixed: NDArray[np.float32] = weights * now + (1 - weights) * usual
        return mixed

    def _usual(self, window: Window) -> NDArray[np.float32]:
        ahead = self.usual.frames(window.day, window.split, window.stop)
        return ahead[list(window.leads)]
