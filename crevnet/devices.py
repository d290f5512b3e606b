"""Where a training runs, and how its processes agree."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from lightning_fabric import Fabric

from crevnet.settings import TrainingSettings


def start_fabric(settings: TrainingSettings) -> Fabric:
    """Return Fabric with its processes started: those torchrun or SLURM started, or its own.

    Fabric starts the processes of one machine by running the same command once more for each.

    Raises:
        RuntimeError: There is no such device.
        ValueError: The processes that were started are not as many as the settings say.
    """
    if settings.threads:
        torch.set_num_threads(settings.threads)
    many = settings.devices * settings.nodes > 1
    fabric = Fabric(
        accelerator=settings.accelerator,
        devices=settings.devices,
        num_nodes=settings.nodes,
        strategy="ddp" if many else "auto",
        precision="bf16-mixed" if settings.precision == "bf16" else "32-true",
    )
    fabric.launch()
    if fabric.world_size != settings.devices * settings.nodes:
        raise ValueError(
            f"{fabric.world_size} processes, but {settings.nodes} machines of {settings.devices}"
        )
    return fabric


def end_processes(fabric: Fabric) -> None:
    """Part from the other processes: one that just exits may abort in a thread of theirs."""
    if fabric.world_size > 1 and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def total(fabric: Fabric, values: Sequence[float]) -> list[float]:
    """Return each value's sum over all processes, the same for each of them."""
    if fabric.world_size == 1:
        return list(values)
    mine = torch.tensor(values, dtype=torch.float64, device=fabric.device)
    summed: list[float] = torch.as_tensor(fabric.all_reduce(mine, reduce_op="sum")).tolist()
    return summed
