"""How good a network is on windows it does not learn from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from lightning_fabric import Fabric
from torch import Tensor

from crevnet.batch import Batch, frames
from crevnet.correction import Correction


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Mean squared errors of clipped forecasts, in units of frames (1 is 255).

    Attributes:
        table: One row a lead, one column a channel.
    """

    table: tuple[tuple[float, ...], ...]

    @classmethod
    def of(cls, table: Sequence[Sequence[float]]) -> Evaluation:
        """Return one from its numbers."""
        return cls(tuple(tuple(row) for row in table))

    def to_list(self) -> list[list[float]]:
        """Return the numbers alone."""
        return [list(row) for row in self.table]

    @property
    def mse(self) -> float:
        """Over everything."""
        return sum(map(sum, self.table)) / sum(map(len, self.table))

    @property
    def by_lead(self) -> tuple[float, ...]:
        """Of each lead."""
        return tuple(sum(row) / len(row) for row in self.table)

    @property
    def by_channel(self) -> tuple[float, ...]:
        """Of each channel."""
        return tuple(sum(column) / len(column) for column in zip(*self.table, strict=True))


@torch.no_grad()
def evaluate(
    correction: Correction,
    batches: Iterable[Batch],
    fabric: Fabric,
    *,
    naive: bool = False,
    between: Callable[[], None] | None = None,
) -> Evaluation:
    """Score forecasts against what came, on the channels that are scored.

    Args:
        correction: What forecasts; in evaluation mode for the while.
        batches: This process's share; every process's counts by its number of examples.
        fabric: Device, precision and the other processes.
        naive: Score the base alone instead.
        between: Called before every batch; may raise.

    Raises:
        ValueError: No process has any.
    """
    leads = len(correction.task.leads)
    sums: Tensor | None = None
    training = correction.training
    correction.eval()
    try:
        for batch in batches:
            if between is not None:
                between()
            there = batch.to(fabric.device)
            with fabric.autocast():
                said = correction.naive(there) if naive else correction.forecast(there)
            error = (said.float() - frames(there.future)).square()
            error = error[:, :, : correction.task.scored]
            B, L, C, H, W = error.shape
            part = torch.full((L * C + 1,), B * H * W, dtype=torch.float64, device=error.device)
            part[:-1] = error.sum((0, 3, 4), dtype=torch.float64).flatten()
            sums = part if sums is None else sums + part
    finally:
        correction.train(training)
    size = torch.tensor(0 if sums is None else len(sums), device=fabric.device)
    if fabric.world_size > 1:
        size = torch.as_tensor(fabric.all_reduce(size, reduce_op="max"))
    if not size:
        raise ValueError("no held-out windows to score")
    if sums is None:  # this process had none
        sums = torch.zeros(int(size), dtype=torch.float64, device=fabric.device)
    if fabric.world_size > 1:
        sums = torch.as_tensor(fabric.all_reduce(sums, reduce_op="sum"))
    return Evaluation.of((sums[:-1] / sums[-1]).reshape(leads, -1).tolist())
