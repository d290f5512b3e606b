"""What a training looked like: a CSV that a resumed run goes on with, and TensorBoard events."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from crevnet.whole_file import naming_faults, whole_file

CSV = "curve.csv"
EVENTS = "tensorboard"


@dataclass(frozen=True, slots=True)
class Row:
    """A moment of a training.

    Attributes:
        step: Steps so far.
        epoch: Passes over the training windows that are complete.
        examples: Seen so far, of all processes.
        seconds: Wall time so far, over all resumes.
        cpu_seconds: CPU time so far, of all processes.
        learning_rate: Of the last step.
        loss: Mean over the steps since the last row.
        grad_norm: Of the last step, before clipping.
        held_out_mse: Where it was measured.
        memory_mb: Largest so far: of the GPU where there is one, else resident.
        examples_per_second: Since the last row, without evaluations.
    """

    step: int
    epoch: int
    examples: int
    seconds: float
    cpu_seconds: float
    learning_rate: float
    loss: float
    grad_norm: float
    held_out_mse: float | None
    memory_mb: float
    examples_per_second: float


COLUMNS = tuple(field.name for field in fields(Row))


class Curves:
    """The writer of both; what lies beyond the step it goes on from is forgotten."""

    def __init__(self, folder: Path, step: int = 0) -> None:
        from torch.utils.tensorboard import SummaryWriter  # slow to load

        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / CSV
        _cut(self.path, step)
        self._file = self.path.open("a", newline="", encoding="utf-8")
        self._rows = csv.DictWriter(self._file, COLUMNS, lineterminator="\n")
        self._events = SummaryWriter(folder / EVENTS, purge_step=step + 1)

    def write(self, row: Row, more: Mapping[str, float] | None = None) -> None:
        """Add a moment, to the events also what else was measured."""
        values = asdict(row)
        with naming_faults(self.path):
            self._rows.writerow({name: "" if v is None else v for name, v in values.items()})
            self._file.flush()
        for name, value in (values | dict(more or {})).items():
            if value is not None and name != "step":
                self._events.add_scalar(name, value, row.step)

    def flush(self) -> None:
        """Have everything on disk: a state that is saved next shall not know more."""
        with naming_faults(self.path):
            self._file.flush()
            os.fsync(self._file.fileno())
            self._events.flush()

    def close(self) -> None:
        """End."""
        try:
            self.flush()
        finally:  # what is left to write is lost with the fault that was raised
            with suppress(OSError):
                self._file.close()
            self._events.close()


def read_curve(path: Path) -> list[dict[str, float]]:
    """Return the rows of a curve; a cell that is empty is left out."""
    with path.open(newline="", encoding="utf-8") as file:
        return [{name: float(v) for name, v in row.items() if v} for row in csv.DictReader(file)]


def _cut(path: Path, step: int) -> None:
    """Leave the header and the whole rows up to a step."""
    kept: list[list[str]] = []
    if step and path.is_file():
        with path.open(newline="", encoding="utf-8") as file:
            kept = [row for row in list(csv.reader(file))[1:] if _is_before(row, step)]
    _rewrite(path, [list(COLUMNS), *kept])


def _is_before(row: list[str], step: int) -> bool:
    return len(row) == len(COLUMNS) and row[0].isdecimal() and int(row[0]) <= step


def _rewrite(path: Path, rows: Iterable[list[str]]) -> None:
    with whole_file(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
