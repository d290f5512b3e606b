"""Score models on the test sequences, each once: what was scored is kept and found again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crevnet.batch import Batch, frames
from crevnet.checkpoint import load_model
from crevnet.correction import Correction
from crevnet.devices import find_device
from crevnet.model import CrevNet
from crevnet.perceptual import NoLpipsError, lpips_measure
from crevnet.protocols import Protocol, forecast_by
from flows.benchmarking.config import BenchmarkConfig
from flows.benchmarking.data import gather
from flows.benchmarking.kept import digest, read_kept
from flows.benchmarking.sequences import BenchmarkData
from flows.benchmarking.sights import looked_at
from flows.benchmarking.train import model_path
from flows.networks import named_faults
from flows.recipe import progress, step
from pipeline.atomic import whole_file, write_json
from pipeline.errors import ConfigError, ModelError
from pipeline.movie_metrics import METRICS

VERSION = 1
Say = Callable[[Batch], Tensor]
Measure = Callable[[NDArray[Any], NDArray[Any]], NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class Scores:
    """What a model scored.

    Attributes:
        name: Whose.
        by_lead: Means over sequences, by metric.
        by_sequence: Squared error of a frame, the mean over leads, sequence by sequence.
        protocol: How overlapping clips were rolled out.
        other: By metric, the mean over leads under the other protocol; none where both are one.
    """

    name: str
    by_lead: dict[str, list[float]]
    by_sequence: list[float]
    protocol: str
    other: dict[str, float] | None = None

    def means(self) -> dict[str, float]:
        """Return every metric's mean over leads and sequences."""
        return {name: float(np.mean(values)) for name, values in self.by_lead.items()}

    def error(self) -> float:
        """Return the standard error of the squared error's mean over sequences."""
        count = len(self.by_sequence)
        return float(np.std(self.by_sequence, ddof=1) / np.sqrt(count)) if count > 1 else 0.0


@step
def score_naive(config: BenchmarkConfig, data: BenchmarkData, name: str) -> Scores:
    """Score a forecast that learned nothing."""

    def say(batch: Batch) -> Tensor:
        last = frames(batch.history[:, -1:]).expand(-1, data.horizon, -1, -1, -1)
        return last if name == "copy_last" else torch.zeros_like(last)

    return _kept(config, data, name, "naive", lambda: (say, None))


@step
def score_run(config: BenchmarkConfig, data: BenchmarkData, run: str) -> Scores:
    """Score a trained network.

    Raises:
        ConfigError: The device is not here, or a metric's package.
        ModelError: The network's file is missing or damaged.
    """
    path = model_path(config, run)
    try:
        with path.open("rb") as file:
            checksum = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as fault:
        raise ModelError(f"{path}: {fault.strerror}; train it first") from None

    def load() -> tuple[Say, Say | None]:
        device = device_of(config)
        if config.score.threads:
            torch.set_num_threads(config.score.threads)
        with named_faults():
            network, task, _ = load_model(path, device)
        asked = replace(task, leads=tuple(range(data.horizon)))
        correction = Correction(network, asked).eval().to(device)

        def say(batch: Batch, protocol: Protocol) -> Tensor:
            there = frames(batch.history).to(device)
            said = forecast_by(correction, there, protocol)
            return said.clamp(0, 1) if config.score.clip else said

        mine: Protocol = config.score.protocol
        other: Protocol = "clean" if mine == "authors" else "authors"
        overlaps = isinstance(network, CrevNet) and network.config.clip > 1
        return partial(say, protocol=mine), partial(say, protocol=other) if overlaps else None

    return _kept(config, data, run, checksum, load)


def read_pictures(config: BenchmarkConfig, name: str) -> NDArray[np.float32]:
    """Return what a model said of the sequences to look at, `(P, L, C, H, W)`."""
    said: NDArray[np.float32] = np.load(_folder(config) / f"{name}.npy", allow_pickle=False)
    return said


def _kept(
    config: BenchmarkConfig,
    data: BenchmarkData,
    name: str,
    what: str,
    load: Callable[[], tuple[Say, Say | None]],
) -> Scores:
    """Return scores from their file where they are of the same things, else make them."""
    numbers = looked_at(config, data)
    how = config.score.model_dump(mode="json", exclude={"device", "threads"})
    key = digest(VERSION, what, data.scored, numbers, how)
    path, pictures = _folder(config) / f"{name}.json", _folder(config) / f"{name}.npy"
    kept = read_kept(path, key)
    if kept is not None and pictures.is_file():
        return Scores(**kept["scores"])
    say, other = load()
    measures = _measures(config)
    table, shown = _score(config, data, name, say, measures, numbers)
    beside = None
    if other is not None:
        values, _ = _score(config, data, f"{name}, other protocol", other, measures, [])
        beside = {metric: float(value.mean()) for metric, value in values.items()}
    scores = {
        "name": name,
        "by_lead": {metric: values.mean(0).tolist() for metric, values in table.items()},
        "by_sequence": table["frame_sse"].mean(1).tolist(),
        "protocol": config.score.protocol,
        "other": beside,
    }
    with whole_file(pictures) as partial_file, partial_file.open("wb") as file:
        np.save(file, shown)
    write_json(path, {"key": key, "scores": scores})
    return Scores(**scores)


@torch.inference_mode()
def _score(
    config: BenchmarkConfig,
    data: BenchmarkData,
    name: str,
    say: Say,
    measures: dict[str, Measure],
    numbers: Sequence[int],
) -> tuple[dict[str, NDArray[np.float64]], NDArray[np.float32]]:
    """Return each metric `(N, L)`, and what was said of some sequences `(P, L, C, H, W)`."""
    parts: dict[str, list[NDArray[np.float64]]] = {metric: [] for metric in measures}
    shown: dict[int, NDArray[np.float32]] = {}
    total = len(data.test)
    with progress(f"score {name}", total) as tick:
        for start in range(0, total, config.score.batch):
            batch = gather(data.test, range(start, min(start + config.score.batch, total)))
            said = np.ascontiguousarray(say(batch).float().cpu().numpy())
            truth = frames(batch.future).numpy()
            B, L = said.shape[:2]
            for metric, measure in measures.items():
                flat = (values.reshape(B * L, *values.shape[2:]) for values in (said, truth))
                parts[metric].append(measure(*flat).reshape(B, L))
            shown |= {n: said[n - start] for n in numbers if start <= n < start + B}
            for _ in range(B):
                tick(name)
    pictures = np.stack([shown[number] for number in numbers]) if numbers else np.empty(0)
    table = {metric: np.concatenate(values) for metric, values in parts.items()}
    return table, pictures.astype(np.float32)


def _measures(config: BenchmarkConfig) -> dict[str, Measure]:
    found: dict[str, Measure] = {}
    for name in config.score.metrics:
        if name == "lpips":
            try:
                found[name] = lpips_measure(str(device_of(config)))
            except NoLpipsError as fault:
                raise ConfigError(f"score.metrics: {fault}, or leave it out") from None
        else:
            found[name] = METRICS[name].measure
    return found


def device_of(config: BenchmarkConfig) -> torch.device:
    """Return where networks forecast.

    Raises:
        ConfigError: This machine has no such device.
    """
    try:
        return find_device(config.score.device)
    except ValueError as fault:
        raise ConfigError(f"score.device: {fault}") from None


def _folder(config: BenchmarkConfig) -> Path:
    return config.out / "scores"
