"""Batches of examples in a fixed order, whatever the number of processes that read them."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch.utils.data import DataLoader, Sampler

from crevnet.batch import Batch, collate
from flows.day_shuffle import Order
from flows.examples import Examples, Pick


@dataclass(slots=True, eq=False)
class Batches:
    """Batches in a fixed order, from any one on; readers stay between epochs.

    Whatever the number of readers, batch `n` of an epoch is the same.

    Attributes:
        examples: What is read.
        order: In which order.
        workers: Processes that read; 0 reads in this one.
        start: How they are started.
        pin: Whether batches lie in pinned memory, for a fast way to a GPU.
    """

    examples: Examples
    order: Order
    workers: int = 0
    start: str = "spawn"
    pin: bool = False
    _plan: _Plan = field(default_factory=lambda: _Plan(), repr=False)
    _loader: DataLoader[Batch] | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.order)

    def batches(self, epoch: int = 0, first: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch, from number `first` on; one such walk at a time."""
        if self._loader is None:
            self._loader = DataLoader(
                self.examples,  # type: ignore[arg-type]  # collate makes batches of examples
                batch_sampler=self._plan,
                num_workers=self.workers,
                collate_fn=collate,
                pin_memory=self.pin,
                multiprocessing_context=self.start if self.workers else None,
                persistent_workers=self.workers > 0,
                worker_init_fn=go_on,
                generator=torch.Generator(),  # else it would draw from the training's own
            )
        listed = self.order.batches(epoch)[first:]
        self._plan.picks = [[Pick(number, epoch) for number in batch] for batch in listed]
        yield from _quietly(self._loader)

    def __iter__(self) -> Iterator[Batch]:
        return self.batches()

    def close(self) -> None:
        """Let the readers go."""
        self._loader = None


def go_on(worker: int) -> None:
    """Have a reader outlive signals to all: the training stops when it may, its readers after it.

    A reader ends when the training lets it go or is gone.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


def _quietly(loader: DataLoader[Batch]) -> Iterator[Batch]:
    """Start a walk; a reader's death fails a read, not whatever runs when it is heard of."""
    before = signal.getsignal(signal.SIGCHLD)
    walk = iter(loader)  # the first one ever sets a handler that raises anywhere
    if before is not None and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGCHLD, before)
    return walk


class _Plan(Sampler[list[Pick]]):
    """The batches that the loader is to read next."""

    def __init__(self) -> None:
        self.picks: list[list[Pick]] = []

    def __iter__(self) -> Iterator[list[Pick]]:
        return iter(self.picks)

    def __len__(self) -> int:
        return len(self.picks)
