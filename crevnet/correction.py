"""A network's word as a correction to something simple."""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from crevnet.autoencoder import MemoryMode
from crevnet.batch import Batch, frames
from crevnet.levels import level
from crevnet.network import Network
from crevnet.task import Task


class Correction(nn.Module):
    """A network that sees and says differences to a base, scaled: `base + network / scale`.

    The base of a frame is nothing, the history's mean, or what is usual then. With base *mix* the
    network sees differences to what is usual, and its word is added to the naive mix
    `w * mean of the history + (1 - w) * usual`: saying zero, it *is* the mix.

    Shapes:
        Frames `(B, T, C, H, W)` in [0, 1]; what is usual `(B, T + horizon, C, H, W)` likewise.
    """

    def __init__(self, network: nn.Module, task: Task) -> None:
        super().__init__()
        self.network = network
        self.task = task

    def forward(
        self,
        history: Tensor,
        usual: Tensor | None = None,
        static: Tensor | None = None,
        *,
        memory: MemoryMode = "plain",
    ) -> Tensor:
        """Say all that the network's `unroll` says, in units of frames.

        Args:
            history: `(B, T, C, H, W)` float in [0, 1].
            usual: `(B, T + horizon, C, H, W)` in [0, 1], for a base that needs it.
            static: `(B, S, H, W)` for a task with extra inputs.
            memory: See `Network.unroll`.

        Returns:
            float32 `(B, N, C, H, W)`, not clipped; the last `horizon` are the forecast.

        Raises:
            ValueError: The history is of another length than the task's, or what it needs is
                missing, or given and not needed.
        """
        self._check(history, usual, static)
        network = cast(Network, self.network)
        sees = self.task.sees or self.task.history
        seen = self.seen(history, usual)
        planes = [] if static is None else [static.to(seen.dtype)]
        if self.task.recent:
            planes.append(seen.mean(1))
        extra = torch.cat(planes, 1) if planes else None
        seen = seen[:, -sees:]
        said = network.unroll(seen, self.task.horizon, extra, memory=memory).to(seen.dtype)
        if not self.task.horizon <= said.shape[1] < self.task.horizon + sees:
            raise ValueError(
                f"{said.shape[1]} frames of {sees} seen, expected "
                f"{self.task.horizon} and what was said on the way"
            )
        return self.base(history, usual, said.shape[1]) + said / self.task.scale

    def forecast(self, batch: Batch) -> Tensor:
        """Say the task's leads: float32 `(B, L, C, H, W)`, clipped to [0, 1]."""
        return self.ahead(frames(batch.history), batch.usual, batch.static)

    def ahead(self, history: Tensor, usual: Tensor | None, static: Tensor | None) -> Tensor:
        """Say the same of frames: what `forward` takes in, the task's leads out."""
        return self._asked(self(history, usual, static)).clamp(0, 1)

    def naive(self, batch: Batch) -> Tensor:
        """Say what the base alone says at the task's leads, as `forecast` does."""
        return self.alone(frames(batch.history), batch.usual)

    def alone(self, history: Tensor, usual: Tensor | None) -> Tensor:
        """Say the same of frames."""
        self._check_frames(history, usual)
        return self._asked(self.base(history, usual, self.task.horizon)).clamp(0, 1)

    def seen(self, history: Tensor, usual: Tensor | None = None) -> Tensor:
        """Turn frames `(B, T, C, H, W)` into what the network sees of them."""
        if self.task.base == "none":
            return history * self.task.scale
        if self.task.base == "window_mean":
            return (history - history.mean(1, keepdim=True)) * self.task.scale
        return (history - _known(usual)[:, : history.shape[1]]) * self.task.scale

    def base(self, history: Tensor, usual: Tensor | None, count: int) -> Tensor:
        """Say what is added to the network's word at the last `count` of the T + horizon frames."""
        if self.task.base == "none":
            return history.new_zeros(1)
        if self.task.base == "window_mean":
            return history.mean(1, keepdim=True).expand(-1, count, -1, -1, -1)
        base = _known(usual)[:, -count:]
        if self.task.base == "mix":
            now, weights = self._now(history)[:, -count:], self._weights(history)[-count:]
            weights = weights[..., None, None]  # (N, C, 1, 1)
            base = weights * now + (1 - weights) * base
        if self.task.level_weights is None:
            return base
        weights = self._between_leads(np.asarray(self.task.level_weights), history)
        ahead = level(history, _known(usual), self.task.levels, weights)
        early = ahead.new_zeros(len(ahead), count - self.task.horizon, *ahead.shape[2:])
        return base + torch.cat((early, ahead), 1)  # of the history it knows what would be said

    def _now(self, history: Tensor) -> Tensor:
        """Mean of what came before each of the T + horizon frames, of the history at most.

        Nothing comes before the first frame: it stands for itself, and nobody is asked for it.
        """
        T = history.shape[1]
        count = torch.arange(1, T + 1, device=history.device)[:, None, None, None]
        running = history.cumsum(1) / count
        whole = history.mean(1, keepdim=True)
        ahead = whole.expand(-1, self.task.horizon, -1, -1, -1)
        return torch.cat((history[:, :1], running[:, :-1], ahead), 1)

    def _weights(self, history: Tensor) -> Tensor:
        """The mix's weights of each of the T + horizon frames, `(T + horizon, C)`.

        Leads that were not asked for lie on the line between those that were; a frame of the
        history is said one step ahead, so as the first lead.
        """
        leads = self._between_leads(np.asarray(self.task.weights), history)
        return torch.cat((leads[:1].expand(history.shape[1], -1), leads))

    def _between_leads(self, given: NDArray[np.float64], like: Tensor) -> Tensor:
        """Values of the asked leads `(L, ...)`, and on lines between them, `(horizon, ...)`."""
        every, flat = np.arange(self.task.horizon), given.reshape(len(given), -1)
        lines = np.stack([np.interp(every, self.task.leads, column) for column in flat.T], 1)
        shaped = lines.reshape(len(every), *given.shape[1:])
        return torch.tensor(shaped, dtype=like.dtype, device=like.device)

    def _asked(self, said: Tensor) -> Tensor:
        return said[:, -self.task.horizon :][:, list(self.task.leads)]

    def _check(self, history: Tensor, usual: Tensor | None, static: Tensor | None) -> None:
        self._check_frames(history, usual)
        if (static is not None) != bool(self.task.inputs):
            given = "given" if static is not None else "missing"
            raise ValueError(f"extra channels are {given}, but the inputs are {self.task.inputs}")

    def _check_frames(self, history: Tensor, usual: Tensor | None) -> None:
        task, T = self.task, history.shape[1]
        if task.history != T:
            raise ValueError(f"a history of {T} frames, expected {task.history}")
        if (usual is not None) != task.needs_usual:
            given = "given" if usual is not None else "missing"
            raise ValueError(f"what is usual is {given}, but the base is {task.base!r}")
        wanted = (history.shape[0], T + task.horizon, *history.shape[2:])
        if usual is not None and tuple(usual.shape) != wanted:
            raise ValueError(f"what is usual is {tuple(usual.shape)}, expected {wanted}")


def _known(usual: Tensor | None) -> Tensor:
    if usual is None:
        raise ValueError("what is usual is missing")
    return usual.float()
