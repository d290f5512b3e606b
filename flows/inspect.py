"""Say what a file of frames holds."""

from __future__ import annotations

from pathlib import Path

from flows.recipe import Outcome
from pipeline.header import Header, read_header
from pipeline.quarantine import fan_out


def inspect(file: Path) -> Outcome:
    """Read a file of frames to its end, in a process of its own, and describe it."""
    outcome = Outcome()

    def done(path: Path, header: object) -> None:
        if isinstance(header, Header):
            outcome.facts = header.facts()
            outcome.lines = [f"{key}: {value}" for key, value in header.facts().items()]
        else:
            said = str(header)
            outcome.faults = [said if str(path) in said else f"{path}: {said}"]

    fan_out(read_header, [file], done, workers=1)
    return outcome
