"""Train one model of a benchmark, from where it was left."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from crevnet.checkpoint import save_model
from crevnet.correction import Correction
from crevnet.devices import refuse_batch_norm
from crevnet.model import CrevNet
from crevnet.objectives import Objective, RollOut, TeacherForcing, Trainee
from crevnet.settings import TrainingSettings
from crevnet.task import Task
from crevnet.training import TrainingReport
from crevnet.training import train as run_training
from crevnet.zoo import KINDS, Description, ZooError, configure, from_description
from flows.apart import apart
from flows.benchmarking.config import BenchmarkConfig, BenchmarkModel
from flows.benchmarking.data import DrawnBatches, KeptBatches, benchmark_data
from flows.fabric import training_fabric
from flows.networks import named_faults
from pipeline.atomic import write_json
from pipeline.errors import ConfigError, ModelError

REPORT = "report.json"
FITTED = {"channels", "history", "horizon", "static_channels"}
"""What follows from the sequences, and is not to be changed by hand."""
NEWER = ("sees", "structure")
"""Choices that trainings from before there were any have not made."""


@dataclass(frozen=True, slots=True)
class TrainedRun:
    """A training that is done.

    Attributes:
        path: The network's file.
        mine: Whether this process speaks for it: the first of those that trained it.
        processes: How many trained it.
    """

    path: Path
    mine: bool
    processes: int


def models_folder(config: BenchmarkConfig) -> Path:
    """Return where trained networks are."""
    return config.networks or config.out / "models"


def model_path(config: BenchmarkConfig, run: str) -> Path:
    """Return the file of a run's network."""
    return models_folder(config) / f"{run}.safetensors"


def training_folder(config: BenchmarkConfig, run: str) -> Path:
    """Return where a run's state, curve and report are."""
    return models_folder(config) / run


def is_trained(config: BenchmarkConfig, run: str) -> bool:
    """Return whether a run's training is over, and was the one that the configuration asks for."""
    try:
        report = json.loads((training_folder(config, run) / REPORT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    found = report.get("asked", {})
    found["model"] = _chosen(found.get("model", {}))
    return bool(found == asked(config, run)) and model_path(config, run).is_file()


def asked(config: BenchmarkConfig, run: str) -> dict[str, Any]:
    """Return what is asked of a training, in plain values."""
    name, seed = config.runs()[run]
    model = _chosen(config.models[name].model_dump(mode="json", exclude={"training", "paper"}))
    sequences = config.model_dump(mode="json", include={"history", "training", "validation"})
    for section in ("training", "validation"):
        for place in ("root", "store"):  # where frames lie is not what they are
            sequences[section].pop(place, None)
    settings = settings_of(config, name, seed).what_matters()
    return {"model": model, "sequences": sequences, "settings": settings}


def _chosen(model: dict[str, Any]) -> dict[str, Any]:
    """Return a model without choices that are not made: what was trained before there was one."""
    return {key: value for key, value in model.items() if value or key not in NEWER}


def check_models(config: BenchmarkConfig, runs: Sequence[str], horizon: int) -> None:
    """Refuse what cannot be built or trained before anything is; lists every fault.

    Raises:
        ConfigError: A model or a setting is impossible.
    """
    faults = []
    for run in runs:
        name, seed = config.runs()[run]
        try:
            describe_model(config, name, horizon)
            settings_of(config, name, seed)
        except ConfigError as fault:
            faults.append(str(fault))
    if faults:
        raise ConfigError("\n".join(dict.fromkeys(faults)))


def describe_model(config: BenchmarkConfig, name: str, horizon: int) -> Description:
    """Return the description of a model's network.

    Raises:
        ConfigError: There is no such network, it cannot be so, or cannot learn that way; or it
            changes what follows from the sequences.
    """
    model = config.models[name]
    if own := sorted(FITTED & {*model.change}):
        raise ConfigError(f"models.{name}.change: {own} follow from the sequences")
    try:
        description = configure(
            model.network,
            channels=len(config.channels),
            history=model.sees or config.history,
            horizon=horizon,
            **model.change,
        )
    except ZooError as fault:
        raise ConfigError(f"models.{name}: {fault}") from None
    kind = KINDS[description["kind"]].network
    if model.objective == "teacher_forcing" and kind is not CrevNet:
        raise ConfigError(f"models.{name}.objective: teacher_forcing is for a CrevNet")
    fixed, tested = description["config"].get("horizon"), getattr(config.test, "horizon", horizon)
    if fixed is not None and fixed < tested:
        raise ConfigError(
            f"models.{name}: {model.network} says {fixed} frames at once, but {tested} are tested"
        )
    return description


def task_of(config: BenchmarkConfig, model: BenchmarkModel, horizon: int) -> Task:
    """Return what a model is trained to do."""
    return Task(
        leads=tuple(range(horizon)),
        history=config.history,
        scale=model.scale,
        channels=config.channels,
        edition=config.edition,
        sees=model.sees,
    )


def objective_of(model: BenchmarkModel) -> Objective:
    """Return what a model minimises."""
    if model.objective == "teacher_forcing":
        return TeacherForcing(new_frame=model.new_frame)
    return RollOut(teacher=model.teacher, structure=model.structure)


def settings_of(config: BenchmarkConfig, name: str, seed: int) -> TrainingSettings:
    """Return how a model is trained.

    Raises:
        ConfigError: A setting is impossible.
    """
    try:
        return TrainingSettings(**config.training_of(name, seed))
    except ValueError as fault:
        raise ConfigError(f"models.{name}.training: {fault}") from None


@apart
def train_run(config: BenchmarkConfig, run: str) -> TrainedRun:
    """Train one run into `out/models`; its file is whole whenever it is there.

    Raises:
        ConfigError: A setting is impossible.
        DigitsError, VideoError: What is learned from is not there, as `benchmark_data` says.
        ModelError: There is no such network, or its loss is not a number.
        StoppedError: A signal asked to stop; the state is saved.
    """
    name, seed = config.runs()[run]
    settings, data = settings_of(config, name, seed), benchmark_data(config)
    description = describe_model(config, name, data.trained_horizon)
    folder, path = training_folder(config, run), model_path(config, run)
    model = config.models[name]
    task = task_of(config, model, data.trained_horizon)
    extra = {
        "learned": json.loads(data.learned),
        "model": model.model_dump(mode="json", include={"network", "change", "objective"}),
        "seed": seed,
    }

    def save_best(weights: dict[str, Tensor]) -> None:
        best = from_description(description)
        best.load_state_dict(weights)
        save_model(path, best, task, extra)

    with training_fabric(settings, folder, f"models.{name}.training") as fabric:
        share: dict[str, Any] = {"world": fabric.world_size, "rank": fabric.global_rank}
        torch.manual_seed(settings.seed)
        network = from_description(description)
        try:
            if fabric.world_size > 1:
                refuse_batch_norm(network)
            with named_faults():
                report = run_training(
                    Trainee(Correction(network, task), objective_of(model)),
                    DrawnBatches(data.training, settings.batch, config.training.epoch, **share),
                    KeptBatches(data.validation, settings.batch, **share),
                    settings,
                    folder,
                    fabric=fabric,
                    save_best=save_best,
                    data=data.learned,
                )
        except ValueError as fault:
            raise ConfigError(f"models.{name}: {fault}") from None
    mine = fabric.global_rank == 0
    if mine:
        if not path.is_file():
            raise ModelError(f"{path}: the training ended without a model")
        write_json(folder / REPORT, {**facts_of(report), "asked": asked(config, run)})
    return TrainedRun(path, mine, fabric.world_size)


def facts_of(report: TrainingReport) -> dict[str, Any]:
    """Return what came of a training, in plain values."""
    now = asdict(report.progress)
    kept = ("step", "examples", "seconds", "cpu_seconds", "finished", "best_step")
    best = None if report.best is None else report.best.mse
    return {**{name: now[name] for name in kept}, "validation_mse": best}
