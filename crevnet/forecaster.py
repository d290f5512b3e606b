"""The front door: numpy in, numpy out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from crevnet.model import CrevNet
from crevnet.rollout import forecast

Precision = torch.dtype


@dataclass(frozen=True, slots=True)
class NumpyForecaster:
    """A network for people who have arrays.

    Attributes:
        model: The network; put into evaluation mode for a forecast, and back.
        device: Where it runs, e.g. `"cpu"` or `"cuda:0"`.
        batch: How many histories at a time; more need more memory.
        bfloat16: Run convolutions in bfloat16.
    """

    model: CrevNet
    device: str = "cpu"
    batch: int = 4
    bfloat16: bool = False

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise ValueError(f"batches of {self.batch}, expected at least 1")
        self.model.to(self.device)

    def forecast(
        self,
        history: NDArray[np.float32],
        leads: Sequence[int],
        static: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        """Say the frames at some leads.

        Args:
            history: `(B, T, C, H, W)` in [0, 1].
            leads: Counted from 0 for the next frame, in rising order.
            static: `(B, S, H, W)` in [0, 1], for a network with a map.

        Returns:
            `(B, L, C, H, W)`, clipped to [0, 1].

        Raises:
            ValueError: The history is empty, too short or of another number of channels.
        """
        if history.ndim != 5 or not len(history):
            raise ValueError(f"a history of {history.shape}, expected (B, T, C, H, W)")
        training = self.model.training
        self.model.eval()
        try:
            said = [
                self._forecast(history[i : i + self.batch], leads, _part(static, i, self.batch))
                for i in range(0, len(history), self.batch)
            ]
        finally:
            self.model.train(training)
        return np.concatenate(said)

    @torch.inference_mode()
    def _forecast(
        self,
        history: NDArray[np.float32],
        leads: Sequence[int],
        static: NDArray[np.float32] | None,
    ) -> NDArray[np.float32]:
        device = torch.device(self.device)
        map_ = None if static is None else torch.from_numpy(np.array(static)).to(device)
        frames = torch.from_numpy(np.array(history)).to(device)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.bfloat16):
            said = forecast(self.model, frames, leads, map_)
        clipped: NDArray[np.float32] = said.float().clamp(0, 1).cpu().numpy()
        return clipped


def _part(static: NDArray[np.float32] | None, start: int, size: int) -> NDArray[np.float32] | None:
    return None if static is None else static[start : start + size]
