"""Work on files nobody has vetted, in processes that may die of it, side by side.

The HDF5 library has crashed, hung and swelled on hostile files before. Here such a file costs one
worker process and one named error, never the run.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress
from functools import partial
from threading import Event, Lock
from typing import Generic, TypeVar

from pebble import ProcessExpired, ProcessPool

from pipeline.cluster import connected
from pipeline.errors import PipelineError, QuarantineError

Job = TypeVar("Job")
Result = TypeVar("Result")

MEMORY_BYTES = 6 * 1024**3
TIMEOUT_SECONDS = 1800.0
PR_SET_PDEATHSIG = 1


class Quarantine(Generic[Job, Result]):
    """A function that runs in worker processes, a call at a time each.

    Args:
        function: Importable by name; its arguments and results travel pickled, so keep them small.
        workers: Processes; 0 runs the function here, for files of one's own.
        timeout: Seconds after which a call is given up and its worker killed.
        memory: Bytes of address space a worker may ask for.
    """

    def __init__(
        self,
        function: Callable[[Job], Result],
        *,
        workers: int = 1,
        timeout: float = TIMEOUT_SECONDS,
        memory: int = MEMORY_BYTES,
    ) -> None:
        self.function = function
        self.timeout = timeout
        disposable = multiprocessing.current_process().daemon  # a Dask worker under its nanny
        self._pool = (
            ProcessPool(
                max_workers=workers,
                context=multiprocessing.get_context("spawn"),
                initializer=_limit,
                initargs=(memory, os.getpid()),
            )
            if workers and not disposable
            else None
        )
        if self._pool is not None and not self._pool.active:  # asking starts the workers here
            raise RuntimeError("the worker processes did not start")

    def __enter__(self) -> Quarantine[Job, Result]:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._pool is not None:
            self._pool.stop() if any(exception) else self._pool.close()
            self._pool.join()

    def __call__(self, job: Job) -> Result:
        """Return what the function makes of a job.

        Raises:
            QuarantineError: The worker crashed, took too long, or ran out of memory.
            Exception: Whatever the function itself raises.
        """
        if self._pool is None:
            return self.function(job)
        try:
            result: Result = self._pool.schedule(
                self.function, args=(job,), timeout=self.timeout
            ).result()
        except ProcessExpired as fault:
            raise QuarantineError(f"its reader crashed (exit {fault.exitcode})") from None
        except FutureTimeoutError:
            raise QuarantineError(f"its reader hung for {self.timeout:g} s") from None
        except MemoryError:
            raise QuarantineError("its reader ran out of memory") from None
        return result


def fan_out(
    function: Callable[[Job], Result],
    jobs: Iterable[Job],
    done: Callable[[Job, Result | PipelineError | OSError], None],
    *,
    workers: int = 2,
    cluster: str | None = None,
    memory: int = MEMORY_BYTES,
) -> None:
    """Run a function over jobs in parallel with Dask; one that fails does not stop the others.

    Args:
        function: What to do, importable by name.
        jobs: Its arguments, one a call.
        done: Called in this process, one at a time, as each job ends: with its result, or with what
            was wrong with it. Any other exception, and any that it raises itself, stops the run; it
            is not called again then.
        workers: Quarantined processes on this machine, each fed by a Dask thread; 0 runs the jobs
            here, one after another.
        cluster: Address of a `distributed` scheduler to run on instead.
        memory: Bytes of address space a process here may ask for.

    Raises:
        ConfigError: There is no scheduler at that address.
    """
    import dask  # late: worker processes import this module, and need no Dask

    jobs = list(jobs)
    if cluster is not None:
        _fan_out_on_cluster(function, jobs, done, cluster)
        return
    gate, broken = Lock(), Event()
    processes = min(workers, len(jobs))
    with Quarantine(function, workers=processes, memory=memory) as quarantine:

        def run(job: Job) -> None:
            outcome: Result | PipelineError | OSError
            if broken.is_set():
                return
            try:
                outcome = quarantine(job)
            except (PipelineError, OSError) as fault:
                outcome = fault
            with gate:
                if broken.is_set():
                    return
                try:
                    done(job, outcome)
                except BaseException:
                    broken.set()
                    raise

        if workers:
            tasks = [dask.delayed(partial(run, job), pure=False)() for job in jobs]
            dask.compute(*tasks, scheduler="threads", num_workers=workers)
        else:
            for job in jobs:
                run(job)


def _fan_out_on_cluster(
    function: Callable[[Job], Result],
    jobs: list[Job],
    done: Callable[[Job, Result | PipelineError | OSError], None],
    cluster: str,
) -> None:
    from distributed import KilledWorker, as_completed

    with connected(cluster) as client:
        futures = {client.submit(function, job, pure=False): job for job in jobs}
        for future in as_completed(list(futures)):
            try:
                outcome = future.result()
            except (PipelineError, OSError) as fault:
                outcome = fault
            except KilledWorker:
                outcome = QuarantineError("it killed every worker that read it")
            done(futures[future], outcome)


def _limit(memory: int, parent: int) -> None:
    """Bound a worker's memory, and let it not outlive the process that it works for."""
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
