"""Everything a training needs to go on as if nothing had happened, in one file."""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import torch
from torch import Tensor

from crevnet.checkpoint import CheckpointError

FORMAT = "crevnet-training-1"
Table = list[list[float]]
Weights = dict[str, Tensor]


class TrainingStateError(CheckpointError):
    """A file that is not a training's state, not a whole one, or another training's."""


@dataclass(slots=True)
class Progress:
    """How far a training is.

    Dropout's numbers are drawn anew for every batch from the seed and the number of batches before
    it, so these are the state of the generator too, of every process.

    Attributes:
        step: Steps done.
        epoch: Epoch of the next batch.
        position: Place of the next batch in its epoch.
        batches: Batches seen by each process.
        examples: Examples seen by all processes.
        seconds: Wall time used.
        cpu_seconds: CPU time used, by all processes.
        loss_sum: Of the steps since the curve's last row.
        loss_steps: How many these are.
        learning_rate: Of the last step.
        grad_norm: Of the last step.
        evaluations: Evaluations that were due so far.
        evaluated_step: Step of the last one.
        last: Its errors, a row a lead, a column a channel.
        naive: Errors of the base alone.
        best: Errors of the best one.
        best_step: Its step.
        stale: Evaluations since then.
        closed: Whether what follows the step (evaluation, row of the curve) is done too.
        finished: Why it ended: `"budget"` or `"patience"`; empty while it goes on.
    """

    step: int = 0
    epoch: int = 0
    position: int = 0
    batches: int = 0
    examples: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    loss_sum: float = 0.0
    loss_steps: int = 0
    learning_rate: float = 0.0
    grad_norm: float = 0.0
    evaluations: int = 0
    evaluated_step: int = 0
    last: Table | None = None
    naive: Table | None = None
    best: Table | None = None
    best_step: int = 0
    stale: int = 0
    closed: bool = True
    finished: str = ""


@dataclass(frozen=True, slots=True)
class TrainingState:
    """A training at rest between two steps.

    Attributes:
        identity: What it is a training of, as plain values: settings, task, network, data. Another
            one's state is refused.
        progress: How far it is.
        weights: Of the network.
        optimiser: Its `state_dict`.
        average: Averaged weights; empty where there is no average.
        average_updates: Steps in the average.
        best: Weights of the best evaluation; empty before the first.
    """

    identity: Mapping[str, Any]
    progress: Progress
    weights: Weights
    optimiser: dict[str, Any]
    average: Weights = field(default_factory=dict)
    average_updates: int = 0
    best: Weights = field(default_factory=dict)


def save_state(path: Path, state: TrainingState) -> Path:
    """Write a state whole: beside, flushed, then renamed; the folder is flushed too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    value = {item.name: getattr(state, item.name) for item in fields(TrainingState)}
    value |= {
        "format": FORMAT,
        "identity": dict(state.identity),
        "progress": asdict(state.progress),
    }
    partial = path.with_name(f"{path.name}.partial")  # one writer, so a dead one's is written over
    with partial.open("wb") as file:
        torch.save(value, file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return path


def load_state(path: Path, identity: Mapping[str, Any]) -> TrainingState:
    """Return a state from its file; nothing in it is run.

    Raises:
        TrainingStateError: The file is missing, damaged or of another kind, or the state of another
            training: says what differs.
    """
    if not path.is_file():
        raise TrainingStateError(f"{path}: no such file")
    try:
        with ZipFile(path) as archive:
            spoiled = archive.testzip()  # torch checks no checksums
        if spoiled:
            raise TrainingStateError(f"{path}: {spoiled} is damaged")
        value = torch.load(path, map_location="cpu", weights_only=True)
    except (BadZipFile, OSError, EOFError, RuntimeError, KeyError, pickle.UnpicklingError) as fault:
        reason = str(fault).split("\n")[0]
        raise TrainingStateError(f"{path}: not a whole state of a training: {reason}") from None
    found = value.get("format") if isinstance(value, dict) else type(value).__name__
    if found != FORMAT:
        raise TrainingStateError(f"{path}: format {found!r}, expected {FORMAT!r}")
    _same(path, value["identity"], identity)
    try:
        value["progress"] = Progress(**value["progress"])
        del value["format"]
        return TrainingState(**value)
    except TypeError as fault:
        raise TrainingStateError(f"{path}: not a state of this version: {fault}") from None


def _same(path: Path, found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    missing = "nothing"
    faults = [
        f"{name} {found.get(name, missing)}, expected {expected.get(name, missing)}"
        for name in sorted(found.keys() | expected.keys())
        if found.get(name, missing) != expected.get(name, missing)
    ]
    if faults:
        raise TrainingStateError(f"{path}: the state of another training: {'; '.join(faults[:5])}")
