"""Everything a training needs to go on as if nothing had happened, in one file."""

from __future__ import annotations

import glob
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import torch
from torch import Tensor

from crevnet.checkpoint import CheckpointError
from crevnet.whole_file import whole_file

FORMAT = "crevnet-training-1"
KINDS: dict[type, tuple[type, ...]] = {  # of a value, by its default's
    int: (int,),
    float: (float, int),
    bool: (bool,),
    str: (str,),
    type(None): (list, type(None)),
}
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
    """Write a state whole: beside, flushed, then renamed; the folder is flushed too.

    Raises:
        UnwritableError: It cannot be written; the state before it is there as it was.
    """
    value = {item.name: getattr(state, item.name) for item in fields(TrainingState)}
    value |= {
        "format": FORMAT,
        "identity": dict(state.identity),
        "progress": asdict(state.progress),
    }
    with whole_file(path) as partial, partial.open("wb") as file:
        torch.save(value, file)
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
            raise ValueError(f"{spoiled} is damaged")
        value = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as fault:  # damage makes them raise whatever they come across
        reason = str(fault).split("\n")[0] or type(fault).__name__
        raise TrainingStateError(f"{path}: not a whole state of a training: {reason}") from None
    found = value.get("format") if isinstance(value, dict) else type(value).__name__
    if found != FORMAT:
        raise TrainingStateError(f"{path}: format {found!r}, expected {FORMAT!r}")
    try:
        state = _read(value)
        _same(path, state.identity, identity)
    except (KeyError, TypeError) as fault:
        raise TrainingStateError(f"{path}: not a state of this version: {fault}") from None
    return state


def sweep(path: Path) -> None:
    """Remove what killed processes left of a state half-written; nobody else may be writing it."""
    for partial in path.parent.glob(f"{glob.escape(path.name)}.*partial"):
        partial.unlink(missing_ok=True)


def _read(value: dict[str, Any]) -> TrainingState:
    """Return a state from its plain values.

    Raises:
        KeyError: One is missing.
        TypeError: One is too many, or of another type.
    """
    for name in ("identity", "progress", "optimiser"):
        _must(name, value[name], isinstance(value[name], dict))
    for name in ("weights", "average", "best"):
        held = value[name].values() if isinstance(value[name], dict) else [None]
        _must(name, value[name], all(isinstance(item, Tensor) for item in held))
    _must("average_updates", value["average_updates"], type(value["average_updates"]) is int)
    progress = Progress(**value["progress"])
    for item in fields(Progress):
        found = getattr(progress, item.name)
        _must(item.name, found, isinstance(found, KINDS[type(item.default)]))
    plain = {name: part for name, part in value.items() if name != "format"}
    return TrainingState(**(plain | {"progress": progress}))


def _must(name: str, value: object, holds: bool) -> None:
    if not holds:
        raise TypeError(f"{name} is a {type(value).__name__}")


def _same(path: Path, found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    missing = "nothing"
    faults = [
        f"{name} {found.get(name, missing)}, expected {expected.get(name, missing)}"
        for name in sorted(found.keys() | expected.keys())
        if found.get(name, missing) != expected.get(name, missing)
    ]
    if faults:
        raise TrainingStateError(f"{path}: the state of another training: {'; '.join(faults[:5])}")
