"""How long a training may last, and how much of that is used up."""

from __future__ import annotations

import multiprocessing
import os
import resource
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Kind = Literal["steps", "epochs", "minutes", "cpu_seconds"]


@dataclass(frozen=True, slots=True)
class Budget:
    """An amount of something.

    Attributes:
        kind: Of what.
        amount: How much.
    """

    kind: Kind
    amount: float

    def __post_init__(self) -> None:
        if not self.amount > 0:
            raise ValueError(f"a budget of {self.amount} {self.kind}, expected above 0")

    def in_steps(self, batches: int, accumulate: int) -> Budget:
        """Return epochs as whole steps, at least one; anything else as it is."""
        if self.kind != "epochs":
            return self
        return Budget("steps", max(1, int(self.amount * batches / accumulate + 1e-9)))

    def progress(self, steps: int, seconds: float, cpu_seconds: float) -> float:
        """Return the share that is used up: 1 is the end.

        Raises:
            ValueError: The budget is in epochs; `in_steps` makes it known how long they are.
        """
        if self.kind == "epochs":
            raise ValueError("epochs of an unknown number of batches")
        used = {"steps": steps, "minutes": seconds / 60, "cpu_seconds": cpu_seconds}
        return used[self.kind] / self.amount


class Clock:
    """Wall and CPU time, going on from what earlier runs have used."""

    def __init__(self, seconds: float = 0.0, processor: float = 0.0) -> None:
        self._wall = time.monotonic() - seconds
        self._processor = cpu_seconds() - processor
        self._last = processor

    def seconds(self) -> float:
        """Return seconds of wall time."""
        return time.monotonic() - self._wall

    def cpu_seconds(self) -> float:
        """Return CPU-seconds of this process and its children; never less than before."""
        self._last = max(self._last, cpu_seconds() - self._processor)
        return self._last


def cpu_seconds() -> float:
    """Return CPU-seconds of this process, of children that ended, and of workers that run.

    The system counts a child once it has ended; running ones are asked for where `/proc` exists.
    """
    running = 0.0
    for child in multiprocessing.active_children():
        with suppress(OSError, ValueError, IndexError):
            fields = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
            running += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    mine = resource.getrusage(resource.RUSAGE_SELF)
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return running + mine.ru_utime + mine.ru_stime + ended.ru_utime + ended.ru_stime
