"""In which order windows are taken: numbers only, no data.

Windows are numbered day after day. A shuffle over everything would open every file all the time,
so days are shuffled first, and windows within a few days at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np

from pipeline.errors import ConfigError


class Order(Protocol):
    """Batches of an epoch, as numbers of windows."""

    def __len__(self) -> int:
        """Return how many batches an epoch has."""
        ...

    def batches(self, epoch: int) -> Sequence[list[int]]:
        """Return the batches of an epoch; the same epoch gives the same batches for ever."""
        ...


@dataclass(frozen=True, slots=True)
class DayShuffle:
    """Every window once an epoch, in an order fixed by seed and epoch; whole batches only.

    The order of the whole does not depend on how many processes share it: process `rank` takes
    every `world`-th window of each batch, so all have as many batches of the same size.

    Attributes:
        days: Days, of all cities together.
        per_day: Windows of each.
        batch: Windows of a batch, over all processes.
        seed: Another seed is another order.
        days_at_once: Days that windows are mixed over.
        world: Processes.
        rank: Which of them this is.
    """

    days: int
    per_day: int
    batch: int
    seed: int = 0
    days_at_once: int = 4
    world: int = 1
    rank: int = 0

    def __post_init__(self) -> None:
        _check(self.batch, self.world, self.rank)
        if self.days_at_once < 1:
            raise ConfigError(f"days_at_once: {self.days_at_once}, expected at least 1")
        if self.batch % self.world:
            raise ConfigError(f"batch: {self.batch} cannot be shared by {self.world} processes")
        if not len(self):
            raise ConfigError(
                f"batch: {self.batch}, but {self.days} days of {self.per_day} windows are "
                f"{self.days * self.per_day}; not one batch is whole"
            )

    def __len__(self) -> int:
        return self.days * self.per_day // self.batch

    def order(self, epoch: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """Return all windows of an epoch in the order they are taken, `(days * per_day,)`."""
        rng = np.random.default_rng([self.seed, epoch])
        days = rng.permutation(self.days)
        pieces = []
        for first in range(0, self.days, self.days_at_once):
            some = days[first : first + self.days_at_once, None] * self.per_day
            pieces.append(rng.permutation((some + np.arange(self.per_day)).ravel()))
        return np.concatenate(pieces).astype(np.int64)

    def batches(self, epoch: int) -> list[list[int]]:
        """Return this process's share of each batch of an epoch."""
        whole = self.order(epoch)[: len(self) * self.batch].reshape(-1, self.batch)
        shares: list[list[int]] = whole[:, self.rank :: self.world].tolist()
        return shares


@dataclass(frozen=True, slots=True)
class InOrder:
    """Every window once, in order, the last batch as small as it is; for evaluation.

    Attributes:
        total: Windows.
        batch: Windows of a batch, over all processes.
        world: Processes; each takes every `world`-th window of each batch, the last ones may have
            a batch less.
        rank: Which of them this is.
        ends: Windows before which a batch ends anyway, rising: where frames become of another
            size.
    """

    total: int
    batch: int
    world: int = 1
    rank: int = 0
    ends: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        _check(self.batch, self.world, self.rank)

    def __len__(self) -> int:
        return len(self.batches(0))

    def batches(self, epoch: int) -> list[list[int]]:
        """Return this process's share of each batch; all epochs are alike."""
        edges = [0, *self.ends, self.total]
        shares = [
            list(range(start + self.rank, min(start + self.batch, stop), self.world))
            for first, stop in pairwise(edges)
            for start in range(first, stop, self.batch)
        ]
        return [share for share in shares if share]


def _check(batch: int, world: int, rank: int) -> None:
    if batch < 1 or not 0 <= rank < world:
        raise ConfigError(
            f"batch {batch} in process {rank} of {world}: expected at least 1 of each"
        )
