"""Functions that a trainer calls in tests, in a process of its own."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from flows.apart import apart
from flows.config import RunConfig
from flows.recipe import StoppedError
from pipeline.errors import ModelError


@dataclass(frozen=True, slots=True)
class Told:
    """What crossed, and who answered."""

    edition: str
    path: Path
    losses: tuple[float, float]
    process: int


@apart
def answer(config: RunConfig, path: Path, fault: str = "") -> Told:
    """Answer from whatever process calls."""
    print(f"step 1 of {path}", flush=True)  # noqa: T201
    if path.is_absolute():
        with path.open("a") as tries:
            tries.write("asked\n")
    match fault:
        case "named":
            raise ModelError(f"{path}: no network")
        case "disk":
            raise OSError(f"{path}: no room")
        case "stopped":
            raise StoppedError(f"{path}: SIGTERM after step 3")
        case "bug":
            raise KeyError("a bug")
    return Told(config.edition, path, (1.5, 0.25), os.getpid())
