"""Train the networks of a configuration, from where each was left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.apart import apart
from flows.config import RunConfig
from flows.fabric import training_fabric
from flows.model_config import Model
from flows.recipe import Outcome, publish_image
from pipeline.errors import ConfigError, ModelError
from pipeline.learning_curve import draw_curves, read_curve

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from crevnet.settings import TrainingSettings


@dataclass(frozen=True, slots=True)
class Trained:
    """A model that is there, in plain values.

    Attributes:
        path: Its file.
        folder: Where its state and curve are.
        steps: Steps done.
        examples: Windows seen by all processes.
        seconds: Wall time.
        cpu_seconds: CPU time of all processes.
        ended_by: What ended the training.
        held_out_mse: Of the best weights, on held-out days; none without such days.
        held_out_base_mse: Of the base alone, if there is a base.
        mine: Whether this process speaks for it: the first of those that trained it.
    """

    path: Path
    folder: Path
    steps: int
    examples: int
    seconds: float
    cpu_seconds: float
    ended_by: str
    held_out_mse: float | None
    held_out_base_mse: float | None
    mine: bool


def train(config: RunConfig, *, models: Sequence[str] = ()) -> Outcome:
    """Train networks one after the other; a run that was stopped goes on where it was.

    In a flow each is a process of its own.

    Args:
        config: The run.
        models: Which of its models; all, if none is named.

    Raises:
        ConfigError: The configuration has no models, or not those.
        ModelError: One cannot be built or trained.
    """
    unknown = [name for name in models if name not in config.models]
    if unknown or not config.models:
        raise ConfigError(f"models: no {unknown or 'models'}; there are {[*config.models]}")
    outcome = Outcome(facts={"models": {}})
    for name in models or config.models:
        trained = train_model(config, name)
        if trained.mine:
            _tell(outcome, name, trained)
    return outcome


@apart
def train_model(config: RunConfig, name: str) -> Trained:
    """Train one model into `out/models`."""
    from flows.networks import models_folder

    folder = models_folder(config)
    return train_into(config, config.models[name], folder / name, folder / f"{name}.safetensors")


def train_into(config: RunConfig, model: Model, folder: Path, path: Path) -> Trained:
    """Train a network, or go on with it; the best so far is always at `path`, whole.

    Everything that can be refused is refused before the first step: settings, network, inputs,
    days, and a state that belongs to another training.

    Raises:
        ConfigError: A setting is impossible, or the edition cannot give what is asked.
        ModelError: There is no such network, or its loss is not a number.
        StoreError: A store is missing, or has too few days.
        StoppedError: A signal asked to stop; the state is saved.
    """
    from flows.networks import named_faults

    settings = _settings(model)
    with training_fabric(settings, folder, "training") as fabric, named_faults():
        return _train(config, model, settings, fabric, folder, path)


def _settings(model: Model) -> TrainingSettings:
    from crevnet.settings import TrainingSettings

    try:
        return TrainingSettings(**model.training.model_dump())
    except ValueError as fault:
        raise ConfigError(f"training: {fault}") from None


def _train(
    config: RunConfig,
    model: Model,
    settings: TrainingSettings,
    fabric: Fabric,
    folder: Path,
    path: Path,
) -> Trained:
    import torch
    from torch import Tensor

    from crevnet.checkpoint import save_model
    from crevnet.correction import Correction
    from crevnet.devices import first_process_first, refuse_batch_norm
    from crevnet.objectives import RollOut, Trainee
    from crevnet.training import train as run_training
    from crevnet.training_state import sweep
    from crevnet.zoo import config_of, from_description
    from flows.blueprint import loss_weights, record_of, task_of
    from flows.starts import Start
    from flows.training_data import training_data

    start = Start.of(config, model)
    model, description = start.model, start.description
    reading: dict[str, Any] = {
        "base": model.base,
        "inputs": model.inputs,
        "interpolated": model.interpolated,
        "batch": settings.batch,
        "known": start.known,
        "seed": settings.seed,
        "multiple": getattr(config_of(description), "factor", 1),
        "world": fabric.world_size,
        "rank": fabric.global_rank,
        "pin": fabric.device.type == "cuda",
    }
    with first_process_first(fabric):  # it fits, the others find it fitted
        data = training_data(config, model.reading, **reading)
    start.check_days(data)
    if not len(data.train):
        raise ConfigError(f"batch: {settings.batch} windows, more than there are to train on")
    task, record = task_of(config, model, data), record_of(model, data)
    identity = f"{data.identity} {list(model.levels)}" if model.levels else data.identity
    if start.record is not None:
        record |= {"started_from": start.record, "inherited": start.inherited}
        identity += f" from {start.record['sha256']}"
    weights = loss_weights(model, data.edition)
    torch.manual_seed(settings.seed)
    network = from_description(description)
    if start.network is not None:
        network.load_state_dict(start.network.state_dict())
    if fabric.world_size > 1:
        try:
            refuse_batch_norm(network)
        except ValueError as fault:
            raise ConfigError(f"training: {fault}") from None

    def save_best(weights: dict[str, Tensor]) -> None:
        sweep(path)  # of killed runs: who saves has the training's folder to itself
        best = from_description(description)
        best.load_state_dict(weights)
        save_model(path, best, task, record)

    report = run_training(
        Trainee(
            Correction(network, task),
            RollOut(teacher=model.teacher, channel_weights=weights),
        ),
        data.train,
        data.held_out,
        settings,
        folder,
        fabric=fabric,
        save_best=save_best,
        data=identity,
    )
    now = report.progress
    return Trained(
        path,
        folder,
        now.step,
        now.examples,
        round(now.seconds, 1),
        round(now.cpu_seconds, 1),
        now.finished,
        None if report.best is None else report.best.mse,
        None if report.naive is None else report.naive.mse,
        fabric.global_rank == 0,
    )


def _tell(outcome: Outcome, name: str, trained: Trained) -> None:
    """Say what came of a training, and draw its curve."""
    picture = trained.folder / "curve.png"
    if not trained.path.is_file():
        raise ModelError(f"{trained.path}: the training ended without a model")
    draw_curves(picture, {name: read_curve(trained.folder)}, trained.held_out_base_mse)
    publish_image(f"learning-curve-{name}", picture, f"Learning curve: {name}")
    facts = asdict(trained) | {"file": str(trained.path), "curve": str(picture)}
    del facts["path"], facts["folder"], facts["mine"]
    outcome.facts["models"][name] = facts
    outcome.lines.append(
        f"{name}: {trained.steps} steps, {trained.examples} windows, "
        f"{trained.cpu_seconds:.0f} CPU-seconds"
    )
    if trained.held_out_mse is not None:
        naive = trained.held_out_base_mse
        base = "" if naive is None else f", its base alone {naive * 1e3:.3f}"
        outcome.lines.append(f"  held-out days: MSE {trained.held_out_mse * 1e3:.3f} 10^-3{base}")
    outcome.lines += [f"  model: {trained.path}", f"  curve: {picture}"]
