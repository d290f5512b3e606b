"""The tasks of a run side by side, and what runs leave behind."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TypeVar

import dask

Progress = Callable[[str, int, int], None]
"""Told the stage (`read`, `sort` or `draw`), how many of its tasks are done, and of how many."""
Job = TypeVar("Job")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Tasks:
    """A stage's tasks, run side by side in Dask threads.

    Attributes:
        workers: Tasks at a time.
        progress: Told as each ends.
    """

    workers: int
    progress: Progress | None

    def run(
        self, stage: str, function: Callable[[Job], Result], jobs: Iterable[Job]
    ) -> list[Result]:
        """Return what a function makes of each job, in their order."""
        jobs = list(jobs)
        gate, done = Lock(), iter(range(1, len(jobs) + 1))

        def one(job: Job) -> Result:
            result = function(job)
            with gate:
                if self.progress is not None:
                    self.progress(stage, next(done), len(jobs))
            return result

        tasks = [dask.delayed(one, pure=False)(dask.delayed(job, traverse=False)) for job in jobs]
        scheduler = "threads" if self.workers > 1 else "synchronous"
        results: tuple[Result, ...] = dask.compute(
            *tasks, scheduler=scheduler, num_workers=self.workers
        )
        return list(results)


def clear(folder: Path, *, but: Path | None = None) -> None:
    """Remove what runs left in a scratch folder, all or all but one."""
    for stale in folder.glob("*"):
        if stale != but:
            shutil.rmtree(stale)
    if but is None and folder.exists():
        folder.rmdir()
