"""Runs of the nights: each a fork, which may meet a fault, and what became of them."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import tempfile
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from nights_faults import Clock, befall, count_operations, nothing
from nights_world import World

import flows.ensembles  # noqa: F401 - with torch, once, and not in every fork
import pipeline.atomic
from flows.ingest import ingest
from flows.submit import submit
from pipeline.errors import PipelineError


@dataclass(slots=True)
class Ending:
    """How an attempt ended: by a signal, by a named fault, or well."""

    killed: bool
    faults: list[str]
    refused: bool = False
    operations: int = 0
    seconds: float = 0.0


def night_run(world: World) -> list[str]:
    """What a schedule runs; returns the named faults."""
    config = world.config
    found = ingest(config).faults
    return found + submit(config).faults


def attempt(world: World, spoil: Callable[[], None]) -> tuple[int, int, float]:
    """Fork a run that spoils itself; return its process, what it tells by, and when it began."""
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        return child, reading, time.monotonic()
    told: dict[str, object] = {"operations": 0}
    try:
        os.close(reading)
        tempfile.tempdir = str(world.root / "tmp")
        pipeline.atomic.time = Clock(world.clock)
        count_operations(told, str(world.root))
        spoil()
        try:
            told["faults"] = night_run(world)
        except (PipelineError, OSError) as fault:
            told["faults"] = [str(fault)]
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    except BaseException:
        told["bug"] = traceback.format_exc()
    with suppress(BaseException):
        os.write(writing, json.dumps(told).encode()[:60000])
    os._exit(0)


def ended(world: World, run: tuple[int, int, float]) -> Ending:
    child, reading, began = run
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        if os.WTERMSIG(status) != signal.SIGKILL:
            raise AssertionError(f"the run died of signal {os.WTERMSIG(status)}")
        return Ending(True, [])
    told = json.loads(said)
    if "bug" in told:
        raise AssertionError(f"no named error:\n{told['bug']}")
    refused = any("another run is at work" in fault for fault in told["faults"])
    seconds = time.monotonic() - began
    return Ending(False, told["faults"], refused, told["operations"], seconds)


@dataclass(slots=True)
class Tally:
    """What became of attempts, by the fault they met."""

    attempts: Counter[str] = field(default_factory=Counter)
    killed: Counter[str] = field(default_factory=Counter)
    named: Counter[str] = field(default_factory=Counter)
    well: Counter[str] = field(default_factory=Counter)
    said: dict[str, str] = field(default_factory=dict)
    last: deque[tuple[str, Ending]] = field(default_factory=lambda: deque(maxlen=5))

    def add(self, fault: str, ending: Ending) -> None:
        self.last.append((fault, ending))
        self.attempts[fault] += 1
        kind = self.killed if ending.killed else self.named if ending.faults else self.well
        kind[fault] += 1
        if ending.faults:
            self.said.setdefault(fault, ending.faults[0])


def one_attempt(
    world: World,
    fault: str,
    arrived: list[Path],
    rng: random.Random,
    usual: Ending,
    tally: Tally,
    tries: int,
) -> Ending:
    """A run and the fault that it meets; returns how it ended."""
    victim = rng.choice(arrived)
    seed = int(victim.name[:8]) * 10 + tries + 1
    with befall(world, fault, victim, rng, seed=seed, operations=usual.operations) as spoil:
        run = attempt(world, spoil)
        if fault == "two at once":
            ending = beside_another(world, run, tally)
        else:
            if fault == "killed at a moment":
                time.sleep(rng.uniform(0, usual.seconds))
                with suppress(ProcessLookupError):
                    os.kill(run[0], signal.SIGKILL)
            ending = ended(world, run)
    tally.add(fault, ending)
    assert fault not in {"none", "clock jump"} or not ending.faults, f"{fault}: {ending.faults}"
    return ending


def beside_another(world: World, run: tuple[int, int, float], tally: Tally) -> Ending:
    """Start a second run beside one; returns the better ending, and tallies the other."""
    other = attempt(world, nothing)
    endings = sorted((ended(world, run), ended(world, other)), key=lambda one: bool(one.faults))
    tally.add("two at once", endings[1])
    for one in endings:
        waits = any("lacks test files" in said for said in one.faults)  # of the other one
        assert not one.faults or one.refused or waits, one.faults
    return endings[0]
