"""One run at a time in a folder, and its tasks side by side."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TypeVar

import dask

from pipeline.errors import PointsError

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


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold a city's folder for one run at a time; the hold ends with the process, however it ends.

    Raises:
        PointsError: Another run has it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PointsError(f"{folder}: another run is rasterising here; wait for it") from None
        yield
    finally:
        os.close(descriptor)


def clear(folder: Path, *, but: Path | None = None) -> None:
    """Remove what runs left in a scratch folder, all or all but one."""
    for stale in folder.glob("*"):
        if stale != but:
            shutil.rmtree(stale)
    if but is None and folder.exists():
        folder.rmdir()
