"""What a training step and a forecast take where they run: seconds and memory, measured.

`crevnet.cost` counts the same on shapes, without a clock.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from crevnet.autoencoder import MemoryMode
from crevnet.batch import Batch
from crevnet.objectives import Trainee
from crevnet.optimisation import adamw

STATUS = Path("/proc/self/status")
FORGET = Path("/proc/self/clear_refs")


@dataclass(frozen=True, slots=True)
class Footprint:
    """What was measured.

    Attributes:
        peak_growth: Bytes by which the first step's peak rose over what was there before it:
            resident memory, or a GPU's allocated memory; none where the system does not tell.
        step_cpu_seconds: CPU-seconds of a training step, the median of the later ones.
        forecast_cpu_seconds: CPU-seconds of a forecast, the median.
        step_seconds: Wall time of a step.
        forecast_seconds: Wall time of a forecast.
    """

    peak_growth: int | None
    step_cpu_seconds: float
    forecast_cpu_seconds: float
    step_seconds: float
    forecast_seconds: float


def measure(
    trainee: Trainee, batch: Batch, *, rounds: int = 3, memory: MemoryMode = "plain"
) -> Footprint:
    """Measure on the device of the weights; for the peak, in a process that did nothing before.

    Args:
        trainee: Network, task and objective.
        batch: What a step sees.
        rounds: Steps and forecasts timed, after a first one of each.
        memory: As for training.
    """
    device = next(trainee.parameters()).device
    there = batch.to(device)
    optimiser = adamw(trainee, 1e-4, 0.0)

    def step() -> None:
        optimiser.zero_grad()
        trainee(there, memory).backward()
        optimiser.step()

    before = _forget_peak(device)
    step()
    top = _peak(device)
    growth = None if before is None or top is None else max(0, top - before)
    steps = [_timed(step, device) for _ in range(rounds)]
    trainee.eval()
    with torch.inference_mode():

        def forecast() -> None:
            trainee.correction.forecast(there)

        forecast()
        forecasts = [_timed(forecast, device) for _ in range(rounds)]
    trainee.train()
    wall, cpu = (statistics.median(column) for column in zip(*steps, strict=True))
    wall_ahead, cpu_ahead = (statistics.median(column) for column in zip(*forecasts, strict=True))
    return Footprint(growth, cpu, cpu_ahead, wall, wall_ahead)


def _timed(work: Callable[[], None], device: torch.device) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - wall, time.process_time() - cpu


def _forget_peak(device: torch.device) -> int | None:
    """Start measuring a peak; return what is in use."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return int(torch.cuda.memory_allocated(device))
    try:
        FORGET.write_text("5")
    except OSError:
        return None
    return _resident("VmRSS")


def _peak(device: torch.device) -> int | None:
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return _resident("VmHWM")


def _resident(field: str) -> int | None:
    try:
        lines = STATUS.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(field)), None)
