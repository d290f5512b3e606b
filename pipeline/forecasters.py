"""The naive ladder: what any network has to beat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.windows import Window

Frames = NDArray[np.float32]


class Forecaster(Protocol):
    """Anything that turns history into a forecast."""

    def forecast(self, history: Frames, windows: Sequence[Window]) -> Frames:
        """Say what follows.

        Args:
            history: `(B, T, C, H, W)` in [0, 1].
            windows: Where each of the B was cut: its city, time and leads.

        Returns:
            `(B, L, C, H, W)`, a frame for each lead of the windows.
        """
        ...


@dataclass(frozen=True, slots=True)
class Zeros:
    """Nothing will move."""

    def forecast(self, history: Frames, windows: Sequence[Window]) -> Frames:
        """Return zeros."""
        return np.zeros_like(_over_leads(history[:, -1], windows))


@dataclass(frozen=True, slots=True)
class Persistence:
    """The last frame will stay (copy-last)."""

    def forecast(self, history: Frames, windows: Sequence[Window]) -> Frames:
        """Return the last frame, once a lead."""
        return _over_leads(history[:, -1], windows)


@dataclass(frozen=True, slots=True)
class MovingAverage:
    """The mean of the last frames will stay.

    Attributes:
        frames: How many; `None` takes the whole history.
    """

    frames: int | None = None

    def forecast(self, history: Frames, windows: Sequence[Window]) -> Frames:
        """Return the mean of the last frames, once a lead.

        Raises:
            ValueError: The history is shorter.
        """
        frames = history.shape[1] if self.frames is None else self.frames
        if not 1 <= frames <= history.shape[1]:
            raise ValueError(f"the mean of {frames} frames, but a history of {history.shape[1]}")
        return _over_leads(history[:, -frames:].mean(axis=1, dtype=np.float32), windows)


def _over_leads(frame: Frames, windows: Sequence[Window]) -> Frames:
    """Repeat `(B, C, H, W)` for every lead: `(B, L, C, H, W)`."""
    return np.repeat(frame[:, None], len(windows[0].leads), axis=1)
