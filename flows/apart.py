"""Trainings apart: plain calls alone; inside a Prefect flow, processes that it starts and hears.

A scheduled run may be cancelled, or die, at any moment; the trainer (`flows.trainer_process`) then
ends in good order by itself. It shares the flow's process group, so whoever signals the one signals
both. Run again, it goes on from where it was; while it still saves, its folder's lock keeps others
out.
"""

from __future__ import annotations

import inspect
import json
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from contextvars import copy_context
from dataclasses import dataclass, field
from functools import partial, wraps
from threading import Thread
from typing import Any, ParamSpec, TypeVar, get_type_hints

from pydantic import TypeAdapter

from flows.recipe import StoppedError, inside_a_flow, step
from pipeline.atomic import temporary_folder
from pipeline.errors import ConfigError, PipelineError

P = ParamSpec("P")
R = TypeVar("R")
COMMAND = (sys.executable, "-m", "flows.trainer_process")
RESULT = "\x1eoutcome "
"""Begins what a trainer tells last: what came of it, as JSON to the end of the line."""
STOPPED, LATER = 130, 75
"""Exit codes: a signal asked to stop, the state is saved; a fault of a disk, worth a retry."""
LAST_LINES = 20
STOP_SECONDS = 600.0
LINGER_SECONDS = 10.0


class TrainerStoppedError(StoppedError, OSError):
    """A trainer that was killed or asked to stop; run again, it goes on from its last state."""


class TrainingError(PipelineError):
    """What a trainer said is wrong, by name."""


class TrainerError(RuntimeError):
    """A trainer that failed in no way it has a name for; quotes its last lines."""


def apart(function: Callable[P, R]) -> Callable[P, R]:
    """Make a training a plain call alone, and a process of its own inside a Prefect flow.

    There it is a task, tried again when it was stopped or a disk failed. Arguments and result cross
    as JSON by their annotations: configurations, dataclasses of plain values, paths, words.

    Raises (inside a flow):
        TrainerStoppedError: It was killed, or asked to stop; worth another try.
        TrainingError: It is faulty in a way that has a name.
        TrainerError: It ended in any other way without a result.
        OSError: A disk or the like failed; worth another try.
    """

    @wraps(function)
    def listened(*args: P.args, **kwargs: P.kwargs) -> R:
        return listen(function, inspect.signature(function).bind(*args, **kwargs).arguments)

    task = step(listened)

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        return task(*args, **kwargs) if inside_a_flow() else function(*args, **kwargs)

    return run


def listen(function: Callable[..., R], arguments: Mapping[str, Any]) -> R:
    """Have a trainer call a function; pass its lines on as they come, return what came of it.

    Args:
        function: Of the top of a module, made by `apart` where it is looked up by name.
        arguments: By name.

    Raises:
        TrainerStoppedError, TrainingError, TrainerError, OSError: See `apart`.
    """
    name = f"{function.__module__}:{function.__qualname__}"
    told, say, heard = to_json(function, arguments), _sayer(), Heard()
    # By a file: several devices run the same command again, and an argument may be too long for it.
    with temporary_folder() as folder:
        path = folder / "arguments.json"
        path.write_text(json.dumps(told))
        trainer = subprocess.Popen(
            [*COMMAND, name, str(path), str(os.getpid())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        # Apart: a trainer that ends when its flow is cancelled may say more than a pipe holds.
        hear = partial(copy_context().run, _hear, trainer, say, heard)
        try:
            listener = Thread(target=hear, daemon=True)
            listener.start()
            code = trainer.wait()
        finally:
            _end(trainer)
    listener.join(LINGER_SECONDS)  # its reading processes have the same pipe, and may outlive it
    value: R = TypeAdapter(get_type_hints(function)["return"]).validate_python(_value(code, heard))
    return value


def to_json(function: Callable[..., Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return a call's arguments as plain values, by what the function says they are.

    Raises:
        ConfigError: One holds what JSON has not, such as a date or a NaN where anything may be.
    """
    hints = get_type_hints(function)
    told = {
        name: TypeAdapter(hints[name]).dump_python(value, mode="json", exclude_unset=True)
        for name, value in arguments.items()
    }
    back = from_json(function, json.loads(json.dumps(told)))
    if lost := [name for name, value in arguments.items() if back[name] != value]:
        raise ConfigError(f"{lost}: expected text, numbers, lists and mappings by text alone")
    return told


def from_json(function: Callable[..., Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments as the function says they are: the way back."""
    hints = get_type_hints(function)
    return {
        name: TypeAdapter(hints[name]).validate_python(value) for name, value in arguments.items()
    }


def _sayer() -> Callable[[str], None]:
    """Return what puts a line into the log of the flow run, or on stderr without one."""
    if inside_a_flow():
        from prefect import get_run_logger

        return get_run_logger().info
    return lambda line: print(line, file=sys.stderr)  # noqa: T201


@dataclass(slots=True)
class Heard:
    """What a trainer said: its last lines, and what it told of its end, as JSON."""

    last: deque[str] = field(default_factory=lambda: deque(maxlen=LAST_LINES))
    told: str | None = None


def _hear(trainer: subprocess.Popen[str], say: Callable[[str], None], heard: Heard) -> None:
    """Pass lines on until nobody has the trainer's end of the pipe any more."""
    assert trainer.stdout is not None
    with trainer.stdout:
        for line in trainer.stdout:
            said, mark, told = line.rstrip("\n").partition(RESULT)
            if mark:
                heard.told = told
            if said:
                heard.last.append(said)
                with suppress(OSError, ValueError):  # nobody may be listening any more
                    say(said)


def _value(code: int, heard: Heard) -> Any:
    """Return what came of a trainer that ended with this exit code."""
    said = "\n".join(list(heard.last)) or "it said nothing"
    if code < 0 or code == STOPPED:
        how = f"by {signal.Signals(-code).name}" if code < 0 else "in good order"
        raise TrainerStoppedError(
            f"the trainer was stopped {how}; run again, it goes on from its last state:\n{said}"
        )
    if heard.told is None:
        raise TrainerError(f"the trainer failed (exit {code}):\n{said}")
    told = json.loads(heard.told)
    if faults := told["faults"]:
        raise (OSError if code == LATER else TrainingError)("\n".join(faults))
    return told["value"]


def _end(trainer: subprocess.Popen[str]) -> None:
    """Have a trainer save its state and end, if it still runs: the flow was cancelled."""
    if trainer.poll() is None:
        trainer.terminate()
        try:
            trainer.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            trainer.kill()
            trainer.wait()
