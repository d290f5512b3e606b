"""What is minimised: a forecast's error, and that of the steps on the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from crevnet.autoencoder import MemoryMode
from crevnet.batch import Batch, frames
from crevnet.correction import Correction
from crevnet.learner import Learner
from crevnet.loss import clip_loss
from crevnet.structural import structural_similarity


class Objective(Protocol):
    """A loss of a batch."""

    def __call__(self, correction: Correction, batch: Batch, memory: MemoryMode) -> Tensor:
        """Return a scalar, in squared units of frames."""
        ...


@dataclass(frozen=True, slots=True)
class RollOut:
    """Mean squared error of the asked leads, and of the one-step predictions of the history.

    Attributes:
        forecast: Weight of the leads, rolled out freely.
        teacher: Weight of the one-step predictions; a network without any has none.
        structure: Weight of what the leads lack in structural similarity, between 0 and 2; for
            frames in [0, 1].
        channel_weights: Of each channel; their sum does not matter. All alike where none.
    """

    forecast: float = 1.0
    teacher: float = 0.0
    structure: float = 0.0
    channel_weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        asked = (self.forecast, self.teacher, self.structure)
        if min(*asked, *(self.channel_weights or ())) < 0 or not sum(asked) > 0:
            raise ValueError(f"{self}: weights below 0, or all 0")
        if self.channel_weights is not None and not sum(self.channel_weights) > 0:
            raise ValueError(f"{self}: weights below 0, or all 0")

    def __call__(self, correction: Correction, batch: Batch, memory: MemoryMode) -> Tensor:
        """Return the weighted sum of both errors."""
        task, history = correction.task, frames(batch.history)
        said = correction(history, batch.usual, batch.static, memory=memory)
        steps = said.shape[1] - task.horizon
        ahead = said[:, steps:][:, list(task.leads)]
        loss = self.forecast * mean_square(ahead, frames(batch.future), self.channel_weights)
        if self.structure:
            lacking = 1 - structural_similarity(ahead, frames(batch.future))
            loss = loss + self.structure * lacking
        if self.teacher and steps:
            early = mean_square(said[:, :steps], history[:, -steps:], self.channel_weights)
            loss = loss + self.teacher * early
        return loss


@dataclass(frozen=True, slots=True)
class TeacherForcing:
    """Every clip from the true one before it, history and future alike: `CrevNet.forward`.

    Attributes:
        new_frame: Weight of a clip's last, new frame, see `clip_loss`.
        first_step: Steps before it do not count.
    """

    new_frame: float = 1.0
    first_step: int = 0

    def __call__(self, correction: Correction, batch: Batch, memory: MemoryMode) -> Tensor:
        """Return the error of all clips.

        Raises:
            ValueError: The future has gaps, or the base is one that a true frame has no part in.
        """
        task = correction.task
        if list(task.leads) != list(range(task.horizon)) or task.base in ("mix", "window_mean"):
            raise ValueError(f"teacher forcing with leads {task.leads} and base {task.base!r}")
        movie = torch.cat((frames(batch.history), frames(batch.future)), 1)
        seen = correction.seen(movie, batch.usual)
        static = None if batch.static is None else batch.static.to(seen.dtype)
        said = correction.network(seen, static, memory=memory)
        loss = clip_loss(said, seen, new_frame=self.new_frame, first_step=self.first_step)
        return loss / task.scale**2


class Trainee(Learner):
    """A correction and what it minimises."""

    def __init__(self, correction: Correction, objective: Objective) -> None:
        super().__init__()
        self.correction = correction
        self.objective = objective

    @property
    def network(self) -> nn.Module:
        """The correction's."""
        return self.correction.network

    def identity(self) -> dict[str, Any]:
        """Return the task and the objective."""
        task = {f"task: {name}": value for name, value in self.correction.task.to_dict().items()}
        objective = repr(self.objective).replace(" structure=0.0,", "")  # as before there was one
        return {**task, "objective": objective}

    def forward(self, batch: Batch, memory: MemoryMode = "plain") -> Tensor:
        """Return the batch's loss, a float32 scalar."""
        return self.objective(self.correction, batch, memory).float()


def correction_of(learner: Learner) -> Correction:
    """Return what forecasts.

    Raises:
        ValueError: It learns something else, and cannot be scored on windows.
    """
    if not isinstance(learner, Trainee):
        raise ValueError(f"windows to score a {type(learner).__name__}, which says no forecast")
    return learner.correction


def mean_square(said: Tensor, truth: Tensor, weights: Sequence[float] | None = None) -> Tensor:
    """Mean squared error of `(B, L, C, H, W)`, channels weighted; a scalar."""
    error = (said - truth).square()
    if weights is None:
        return error.mean()
    if len(weights) != error.shape[2]:
        raise ValueError(f"{len(weights)} channel weights, but {error.shape[2]} channels")
    share = torch.tensor(weights, dtype=error.dtype, device=error.device)
    return (error.mean((0, 1, 3, 4)) * share).sum() / share.sum()
