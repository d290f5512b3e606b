"""Where a training runs, and how its processes agree."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import distributed, nn

from crevnet.settings import TrainingSettings

PATIENCE = timedelta(days=2)
"""How long processes wait for the first one; an end of it is noticed at once."""


class OtherProcessError(Exception):
    """Another process of the training failed, and says itself why; this one did not."""


def start_fabric(settings: TrainingSettings) -> Fabric:
    """Return Fabric with its processes started: those torchrun or SLURM started, or its own.

    Fabric starts the processes of one machine by running the same command once more for each.

    Raises:
        RuntimeError: There is no such device, or the processes do not find each other.
        ValueError: The processes that were started are not as many as the settings say.
    """
    wanted = settings.devices * settings.nodes
    if wanted == 1:
        _refuse_company()
    if settings.threads:
        torch.set_num_threads(settings.threads)
    try:
        fabric = Fabric(
            accelerator=settings.accelerator,
            devices=settings.devices,
            num_nodes=settings.nodes,
            strategy="ddp" if wanted > 1 else "auto",
            precision="bf16-mixed" if settings.precision == "bf16" else "32-true",
        )
        fabric.launch()
    except Exception as fault:  # of many kinds, not all of which Fabric names
        said = " ".join(str(fault).split()) or "no reason given"
        if isinstance(fault, ValueError):
            raise ValueError(said) from fault
        known = isinstance(fault, RuntimeError)
        raise RuntimeError(said if known else f"{type(fault).__name__}: {said}") from fault
    if fabric.world_size != wanted:
        raise ValueError(
            f"{fabric.world_size} processes, but {settings.nodes} machines of {settings.devices}"
        )
    return fabric


def _refuse_company() -> None:
    """Refuse to be one of several: each would train alone, and all into the same folder."""
    shell = os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive")  # started by hand in it
    for name in ("WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", *(() if shell else ("SLURM_NTASKS",))):
        if os.environ.get(name, "1") not in ("", "1"):
            raise ValueError(
                f"{os.environ[name]} processes were started ({name}), but the settings say 1; "
                "set devices and nodes to what is started, or start one"
            )
    if os.environ.get("LOCAL_RANK", "0") not in ("", "0"):
        raise ValueError(
            f"this is process {os.environ['LOCAL_RANK']} of a machine (LOCAL_RANK), counted from "
            "0, but the settings say 1 device"
        )


def refuse_batch_norm(module: nn.Module) -> None:
    """Refuse what every process would learn of its own batches alone, and only the first keeps.

    Raises:
        ValueError: There is a batch norm; names it.
    """
    for name, part in module.named_modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            raise ValueError(
                f"norm batch ({name}) with several processes: each would have statistics of its "
                "own; choose norm group, or one process"
            )


def end_processes(fabric: Fabric) -> None:
    """Part from the other processes: one that just exits may abort in a thread of theirs."""
    if fabric.world_size > 1 and distributed.is_initialized():
        distributed.destroy_process_group()


def total(fabric: Fabric, values: Sequence[float]) -> list[float]:
    """Return each value's sum over all processes, the same for each of them."""
    return _reduced(fabric, values, "sum")


def least_and_most(fabric: Fabric, value: float) -> tuple[float, float]:
    """Return the smallest and the largest of all processes' values."""
    negative, most = _reduced(fabric, (-value, value), "max")
    return 0 - negative, most  # 0 is no -0


def _reduced(fabric: Fabric, values: Sequence[float], how: str) -> list[float]:
    if fabric.world_size == 1:
        return list(values)
    mine = torch.tensor(values, dtype=torch.float64, device=fabric.device)
    reduced: list[float] = torch.as_tensor(fabric.all_reduce(mine, reduce_op=how)).tolist()
    return reduced


@contextmanager
def first_process_first(fabric: Fabric) -> Iterator[None]:
    """Run what is inside in the first process, then in all others; leave when all are done.

    For what the first one leaves on disk and the others find there. Nobody goes on alone: where
    one process raises, it raises that, and every other one `OtherProcessError`; where it is the
    first, they do not run what is inside at all. All processes must come here.

    Raises:
        OtherProcessError: Another process raised, or is gone.
    """
    if fabric.world_size == 1:
        yield
        return
    # over TCP, whatever the devices: to wait keeps no GPU busy, and no end of one goes unnoticed
    group = distributed.new_group(backend="gloo", timeout=PATIENCE)
    for first in (True, False):
        if (fabric.global_rank == 0) == first:
            try:
                yield
            except BaseException:
                with suppress(OtherProcessError):
                    _any(True, group)
                raise
        if _any(False, group):
            raise OtherProcessError("another process of this training failed and says why")


def _any(failed: bool, group: Any) -> bool:
    """Return whether any process failed."""
    flag = torch.tensor(float(failed))
    try:
        distributed.all_reduce(flag, distributed.ReduceOp.MAX, group)
    except RuntimeError as fault:
        said = str(fault).split("\n")[0]
        raise OtherProcessError(f"another process of this training is gone: {said}") from fault
    return bool(flag)


def find_device(name: str) -> torch.device:
    """Return a device by name; *auto* is a GPU where there is one.

    Raises:
        ValueError: This machine has no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as fault:
        raise ValueError(f"{name} is not here: {str(fault).splitlines()[0]}") from None
    return device
