"""Turn a file of frames from the headings of 2019 to those since, or back."""

from __future__ import annotations

from pathlib import Path

from flows.recipe import Outcome
from pipeline.convert import Conversion, convert_file
from pipeline.errors import ConfigError
from pipeline.quarantine import fan_out


def convert(file: Path, out: Path, *, gzip: int = 4) -> Outcome:
    """Convert one file, in a process of its own.

    Raises:
        ConfigError: It would be written over itself.
    """
    if file.resolve() == out.resolve():
        raise ConfigError(f"--out {out}: the file itself, expected another")
    outcome = Outcome()

    def done(job: Conversion, shape: object) -> None:
        if isinstance(shape, tuple):
            outcome.lines.append(f"{job.source} -> {job.target} {shape}")
            outcome.facts = {"path": str(job.target), "shape": list(shape)}
        else:
            said = str(shape)
            outcome.faults.append(said if str(job.source) in said else f"{job.source}: {said}")

    fan_out(convert_file, [Conversion(file, out, gzip)], done, workers=1)
    return outcome
