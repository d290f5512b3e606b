"""Train one head on a frozen CrevNet, from where it was left."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from crevnet.curves import CSV, read_curve
from crevnet.detection.checkpoint import save_head
from crevnet.detection.detector import HeadLearner
from crevnet.detection.features import ChangedWeightsError, FrozenCrevNet
from crevnet.detection.head import DetectionHead, HeadConfig
from crevnet.detection.loss import MultiBox
from crevnet.settings import TrainingSettings
from crevnet.training import train as run_training
from flows.apart import apart
from flows.detection.config import DetectionConfig
from flows.detection.data import PictureBatches, learned_from
from flows.detection.frozen import frozen_network
from flows.fabric import training_fabric
from flows.networks import named_faults
from pipeline.atomic import write_json
from pipeline.errors import ConfigError, ModelError

REPORT = "report.json"


@dataclass(frozen=True, slots=True)
class TrainedHead:
    """A training that is done.

    Attributes:
        path: The head's file.
        steps: How many it took.
        cpu_seconds: CPU time of all processes.
        losses: First and last row of the curve.
        weights: Fingerprint of the CrevNet, the same before and after.
        mine: Whether this process speaks for it: the first of those that trained it.
    """

    path: Path
    steps: int
    cpu_seconds: float
    losses: tuple[float, float]
    weights: str
    mine: bool = True


def head_path(config: DetectionConfig, name: str) -> Path:
    """Return the file of a head."""
    return config.heads_folder / f"{name}.safetensors"


def settings_of(config: DetectionConfig, name: str) -> TrainingSettings:
    """Return how a head is trained.

    Raises:
        ConfigError: A setting is impossible.
    """
    try:
        return TrainingSettings(**config.heads[name].training.model_dump())
    except ValueError as fault:
        raise ConfigError(f"heads.{name}.training: {fault}") from None


def shape_of(config: DetectionConfig, name: str, frozen: FrozenCrevNet) -> HeadConfig:
    """Return the shape of a head on a network's features.

    Raises:
        ConfigError: There is no such head.
    """
    head = config.heads[name]
    try:
        return HeadConfig(
            frozen.channels,
            frozen.network.config.factor,
            config.classes,
            head.width,
            head.finer,
            head.depth,
            head.sizes,
            head.ratios,
        )
    except ValueError as fault:
        raise ConfigError(f"heads.{name}: {fault}") from None


@apart
def train_head(config: DetectionConfig, name: str) -> TrainedHead:
    """Train a head into `out/heads`; its file is whole whenever it is there.

    Raises:
        ConfigError: A setting is impossible.
        LabelError: Labels are missing or faulty.
        ModelError: There is no network, its weights changed, or the loss is not a number.
        StoppedError: A signal asked to stop; the state is saved.
        VideoError: Pictures are missing or faulty.
    """
    settings, head = settings_of(config, name), config.heads[name]
    numbers = config.training.numbers()
    folder = config.training.folder
    folder.check(numbers, labelled=True)
    frozen = frozen_network(config, head.inputs)
    shape, learned = shape_of(config, name, frozen), learned_from(config, numbers)
    path, place = head_path(config, name), config.heads_folder / name

    def save_best(weights: dict[str, Tensor]) -> None:
        best = DetectionHead(shape)
        best.load_state_dict(weights)
        extra = {"learned": json.loads(learned), "seed": settings.seed}
        save_head(path, best, frozen, str(config.network), extra)

    with training_fabric(settings, place, f"heads.{name}.training") as fabric:

        def see(frames: Tensor) -> Tensor:
            features: Tensor = frozen(frames.to(fabric.device))
            return features

        torch.manual_seed(settings.seed)
        batches = PictureBatches(
            folder,
            numbers,
            config.size,
            settings.batch,
            settings.seed,
            config.mirror,
            config.keep,
            see,
            fabric.world_size,
            fabric.global_rank,
        )
        loss = MultiBox(head.overlap, head.negatives)
        learner = HeadLearner(frozen, DetectionHead(shape), loss)
        go = partial(run_training, learner, batches, None, settings, place, fabric=fabric)
        try:
            with named_faults():
                report = go(save_best=save_best, data=learned)
            weights = frozen.check()
        except ChangedWeightsError as fault:
            raise ModelError(f"{config.network}: {fault}") from None
        except ValueError as fault:
            raise ConfigError(f"heads.{name}: {fault}") from None
    rows = read_curve(place / CSV)
    done = TrainedHead(
        path,
        report.progress.step,
        report.progress.cpu_seconds,
        (rows[0]["loss"], rows[-1]["loss"]) if rows else (float("nan"),) * 2,
        weights,
        fabric.global_rank == 0,
    )
    if done.mine:
        facts = {"steps": done.steps, "cpu_seconds": done.cpu_seconds, "losses": done.losses}
        write_json(place / REPORT, {**facts, "crevnet_before_and_after": weights})
    return done
