"""What training and forecasting ask of a network."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from crevnet.autoencoder import MemoryMode


class Network(Protocol):
    """A module that looks ahead from a history: CrevNet, and what it is compared with."""

    def unroll(
        self,
        history: Tensor,
        horizon: int,
        static: Tensor | None = None,
        *,
        memory: MemoryMode = "plain",
    ) -> Tensor:
        """Say the last N of the T + horizon frames, N at least `horizon`.

        Args:
            history: `(B, T, C, H, W)`.
            horizon: Frames to forecast, rolled out freely; the last ones of the answer. What comes
                before them are one-step predictions of history frames from the true ones.
            static: `(B, S, H, W)`, for a network with extra input channels.
            memory: *frugal* keeps no activations for backward, where the network can do so.

        Returns:
            `(B, N, C, H, W)`, in the scale of the history.
        """
        ...
