"""Say what a file of frames holds."""

from __future__ import annotations

from pathlib import Path

from flows.recipe import Outcome
from pipeline.catalog import read_catalog
from pipeline.file_names import NamedFile, parse_name
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
    names = parse_name(file.resolve(), read_catalog().values())
    if names and not outcome.faults:
        told = [_say(name) for name in names]
        outcome.facts["named"] = told
        outcome.lines += [f"named like: {name}" for name in told]
    return outcome


def _say(name: NamedFile) -> str:
    day = f", {name.day}" if name.day else ""
    return f"{name.edition}, {name.city}, {name.kind}{day}"
