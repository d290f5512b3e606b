"""What each model costs, the same way for all: counted on shapes, measured in fresh processes."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from typing import Any

import torch

from crevnet.allocator import allocating
from crevnet.autoencoder import MemoryMode
from crevnet.batch import Batch
from crevnet.correction import Correction
from crevnet.cost import multiply_accumulates, parameters
from crevnet.footprint import measure
from crevnet.objectives import Objective, Trainee
from crevnet.step_memory import kept_by_step
from crevnet.task import Task
from crevnet.zoo import Description, from_description
from flows.benchmarking.config import BenchmarkConfig
from flows.benchmarking.kept import digest, read_kept
from flows.benchmarking.sequences import BenchmarkData
from flows.benchmarking.train import describe_model, objective_of, task_of
from flows.recipe import step
from pipeline.atomic import write_json

VERSION = 2
MB = 1e6


@step
def cost_of(config: BenchmarkConfig, data: BenchmarkData, name: str) -> dict[str, Any]:
    """Return what a model costs, kept in `out/costs`; measured once.

    Returns:
        Counted: `parameters`, `gmac` (a forecast with the one-step predictions that come with it),
        `saved_mb` and `frugal_mb` (what a training step on one sequence keeps for backward).
        Measured, where asked for: `peak_mb` (by how much a step's peak grows with a sample),
        `step_cpu_seconds` and `forecast_cpu_seconds` of one sequence.
    """
    model = config.models[name]
    description = describe_model(config, name, data.trained_horizon)
    rows, columns = data.canvas
    threads = model.training.threads
    how = [
        config.costs.model_dump(mode="json"),
        model.objective,
        model.training.memory,
        threads,
        config.history,
        data.trained_horizon,
        rows,
        columns,
    ]
    if model.sees:
        how.append(model.sees)
    key = digest(VERSION, description, how)
    path = config.out / "costs" / f"{name}.json"
    kept = read_kept(path, key)
    if kept is not None:
        found: dict[str, Any] = kept["cost"]
        return found
    task, objective = task_of(config, model, data.trained_horizon), objective_of(model)
    found = counted(config, name, data.trained_horizon, (rows, columns))
    if config.costs.measure:
        first, second = config.costs.batches
        few, many = (
            _alone(
                description,
                task,
                objective,
                (batch, config.history, data.trained_horizon, rows, columns),
                config.costs.rounds,
                threads,
                model.training.memory,
            )
            for batch in (first, second)
        )
        slope = None
        if few["peak_growth"] is not None and many["peak_growth"] is not None:
            slope = (many["peak_growth"] - few["peak_growth"]) / (second - first) / MB
        found |= {
            "peak_mb": slope,
            "step_cpu_seconds": many["step_cpu_seconds"] / second,
            "forecast_cpu_seconds": many["forecast_cpu_seconds"] / second,
        }
    write_json(path, {"key": key, "cost": found})
    return found


def counted(
    config: BenchmarkConfig, name: str, horizon: int, canvas: tuple[int, int]
) -> dict[str, Any]:
    """Return what is counted of a model: on shapes alone, nothing is computed.

    Args:
        config: The benchmark.
        name: One of its models.
        horizon: Frames to say.
        canvas: Rows and columns of a frame.

    Returns:
        `parameters`, `gmac`, `saved_mb`, `frugal_mb`, as in `cost_of`.
    """
    model, (rows, columns) = config.models[name], canvas
    description = describe_model(config, name, horizon)
    task, objective = task_of(config, model, horizon), objective_of(model)
    with torch.device("meta"):
        network = from_description(description)
        look = torch.empty(1, model.sees or config.history, len(config.channels), rows, columns)
        operations = multiply_accumulates(network, (look, horizon, None))
    modes: list[MemoryMode] = ["plain"]
    if getattr(network.config, "norm", None) != "batch":
        modes.append("frugal")
    saved = {
        mode: kept_by_step(description, task, objective, height=rows, width=columns, memory=mode)
        for mode in modes
    }
    return {
        "parameters": parameters(network),
        "gmac": operations / 1e9,
        "saved_mb": saved["plain"] / MB,
        "frugal_mb": saved["frugal"] / MB if "frugal" in saved else None,
    }


def _alone(*facts: Any) -> dict[str, Any]:
    """Measure in a process of its own: what an earlier step left behind would hide the next."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(measure_model, *facts).result()


def measure_model(
    description: Description,
    task: Task,
    objective: Objective,
    size: tuple[int, int, int, int, int],
    rounds: int,
    threads: int,
    memory: Any,
) -> dict[str, Any]:
    """Return the footprint of a model on sequences of noise, `size` being B, T, L, H and W."""
    if threads:
        torch.set_num_threads(threads)
    torch.manual_seed(0)
    B, T, L, H, W = size
    device = "cuda" if torch.cuda.is_available() else "cpu"
    frames = torch.randint(0, 256, (B, T + L, len(task.channels), H, W), dtype=torch.uint8)
    trainee = Trainee(Correction(from_description(description), task), objective).to(device)
    batch = Batch(frames[:, :T], frames[:, T:])
    with allocating(memory):
        return asdict(measure(trainee, batch, rounds=rounds, memory=memory))
