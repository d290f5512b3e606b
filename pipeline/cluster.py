"""Work in order: on threads of this process, or on a Dask cluster given by its address.

Workers of a cluster need this package installed, and stores and outputs at the same paths.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from pipeline.errors import ClusterError, ConfigError

if TYPE_CHECKING:
    from distributed import Client

Result = TypeVar("Result")
AHEAD = 2
"""Calls under way for each thread of a cluster, so that none waits; results wait in their turn."""
WORKER_SECONDS = 120.0
"""How long a cluster's first worker is waited for."""


@contextmanager
def connected(address: str) -> Iterator[Client]:
    """Yield a client of a cluster.

    Raises:
        ConfigError: There is no scheduler at that address.
        ClusterError: No worker came, or the cluster broke, inside the `with` too.
    """
    from distributed import CancelledError, Client, KilledWorker

    try:
        client = Client(address)
    except (OSError, ValueError) as fault:
        raise ConfigError(f"cluster: no Dask scheduler at {address!r}: {fault}") from None
    with client:
        try:
            client.wait_for_workers(1, timeout=WORKER_SECONDS)
        except TimeoutError:
            raise ClusterError(
                f"cluster: {address!r} has no worker, and none came within {WORKER_SECONDS:g} s"
            ) from None
        try:
            yield client
        except KilledWorker as fault:
            raise ClusterError(f"cluster: {address!r}: {fault}") from None
        except CancelledError as fault:
            raise ClusterError(f"cluster: {address!r}: the scheduler is gone: {fault}") from None


def in_order(
    function: Callable[..., Result],
    jobs: Sequence[tuple[Any, ...]],
    *,
    workers: int = 2,
    cluster: str | None = None,
) -> Iterator[Result]:
    """Yield what a function makes of each job, in the order of the jobs, a few ahead at a time.

    Args:
        function: Importable by name where there is a cluster.
        jobs: Its arguments.
        workers: Threads of this process, where there is no cluster; one works in the caller's own.
        cluster: Address of a `distributed` scheduler.

    Raises:
        ConfigError: There is no scheduler at that address.
        ClusterError: The cluster has no workers, or broke.
        Exception: Whatever the function raises.
    """
    if cluster is None and workers <= 1:
        for job in jobs:
            yield function(*job)
        return
    if cluster is None:
        import dask  # late: worker processes import this module, and need no Dask

        for first in range(0, len(jobs), workers):
            tasks = [dask.delayed(function)(*job) for job in jobs[first : first + workers]]
            yield from dask.compute(*tasks, scheduler="threads", num_workers=workers)
        return
    with connected(cluster) as client:
        ahead = AHEAD * max(1, sum(client.nthreads().values()))
        futures = deque(client.submit(function, *job, pure=False) for job in jobs[:ahead])
        for job in jobs[ahead:]:
            yield futures.popleft().result()
            futures.append(client.submit(function, *job, pure=False))
        while futures:
            yield futures.popleft().result()
