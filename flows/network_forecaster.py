"""A trained network as a forecaster: what it is told, and what it says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from crevnet.correction import Correction
from pipeline.errors import ModelError
from pipeline.flips import Mirror
from pipeline.windows import Window


class Told(Protocol):
    """What a network is told of a city besides the frames."""

    def told(
        self, history: NDArray[np.float32], windows: Sequence[Window]
    ) -> tuple[NDArray[np.float16] | None, NDArray[np.float16] | None]:
        """Return what is usual `(B, T + horizon, C, H, W)` and the planes `(B, S, H, W)`."""
        ...

    def mirrored(
        self,
        turn: Mirror,
        usual: NDArray[np.float16] | None,
        static: NDArray[np.float16] | None,
    ) -> tuple[NDArray[np.float16] | None, NDArray[np.float16] | None]:
        """Return the same, mirrored."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class NetworkForecaster:
    """A network and what it is told of a city; a `pipeline.forecasters.Forecaster`.

    Attributes:
        correction: The network and its task, on its device.
        inputs: What it is told besides the frames.
        device: Where it runs.
        batch: Windows at a time.
        bfloat16: Whether convolutions run in bfloat16.
        mirrors: The forecast is the mean over the city as it is and mirrored by each of these.
        learned: Days whose windows its weights were trained on.
        alone: Whether the base speaks alone, without the network.
    """

    correction: Correction
    inputs: Told
    device: torch.device
    batch: int = 4
    bfloat16: bool = False
    mirrors: tuple[Mirror, ...] = ()
    learned: tuple[str, ...] = ()
    alone: bool = False

    def forecast(
        self, history: NDArray[np.float32], windows: Sequence[Window]
    ) -> NDArray[np.float32]:
        """Return forecasts of the windows' leads, `(B, L, C, H, W)` in [0, 1].

        Raises:
            ModelError: It was trained for other leads, or another history.
        """
        task = self.correction.task
        found, trained = (history.shape[1], windows[0].leads), (task.history, task.leads)
        if found != trained:
            raise ModelError(f"history and leads {found}, but the network learned {trained}")
        parts = [
            self._forecast(history[at : at + self.batch], windows[at : at + self.batch])
            for at in range(0, len(windows), self.batch)
        ]
        return np.concatenate(parts)

    def _forecast(
        self, history: NDArray[np.float32], windows: Sequence[Window]
    ) -> NDArray[np.float32]:
        usual, static = self.inputs.told(history, windows)
        total = self._say(history, usual, static)
        for turn in self.mirrors:
            said = self._say(turn.means(history), *self.inputs.mirrored(turn, usual, static))
            total += turn.means(said)
        return total / np.float32(1 + len(self.mirrors))

    @torch.inference_mode()
    def _say(
        self, history: NDArray[np.float32], *inputs: NDArray[np.float16] | None
    ) -> NDArray[np.float32]:
        usual, static = (
            None if half is None else torch.from_numpy(half).to(self.device) for half in inputs
        )
        frames = torch.from_numpy(np.ascontiguousarray(history)).to(self.device)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bfloat16):
            if self.alone:
                said = self.correction.alone(frames, usual)
            else:
                said = self.correction.ahead(frames, usual, static)
        forecast: NDArray[np.float32] = said.float().cpu().numpy()
        return forecast
