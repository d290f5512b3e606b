"""A training in a process of its own, that a flow starts and listens to.

A scheduled run may be cancelled, or die, at any moment; the trainer then ends in good order by
itself. It shares the flow's process group, so whoever signals the one signals both; it is sent
SIGTERM when its flow dies, however that dies; and SIGTERM makes it save its state after the step it
is at. Run again, it goes on from there. While it still saves, its folder's lock keeps others out.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from contextvars import copy_context
from dataclasses import asdict, dataclass, field
from pathlib import Path
from threading import Thread

from flows.config import RunConfig
from flows.recipe import Outcome, StoppedError, publish_image, step
from pipeline.errors import PipelineError

COMMAND = (sys.executable, "-m", "flows.trainer_process")
RESULT = "\x1eoutcome "
"""Begins what a trainer tells last: what came of it, as JSON to the end of the line."""
STOPPED, LATER = 130, 75
"""Exit codes: a signal asked to stop, the state is saved; a fault of a disk, worth a retry."""
LAST_LINES = 20
STOP_SECONDS = 600.0
LINGER_SECONDS = 10.0
WATCH_SECONDS = 2.0
PR_SET_PDEATHSIG = 1


class TrainerStoppedError(StoppedError, OSError):
    """A trainer that was killed or asked to stop; run again, it goes on from its last state."""


class TrainerError(RuntimeError):
    """A trainer that failed in no way it has a name for; quotes its last lines."""


def train_apart(config: RunConfig, *, models: Sequence[str] = ()) -> Outcome:
    """Train in a process of its own; arguments and outcome are those of `flows.train.train`.

    Raises:
        TrainerStoppedError: It was killed, or asked to stop; worth another try.
        TrainerError: It ended in any other way without an outcome.
        OSError: A disk or the like failed; worth another try.
    """
    outcome = listen(config, models)
    for name, facts in outcome.facts.get("models", {}).items():
        publish_image(f"learning-curve-{name}", Path(facts["curve"]), f"Learning curve: {name}")
    return outcome


@step
def listen(config: RunConfig, models: Sequence[str]) -> Outcome:
    """Start a trainer, pass its lines on as they come, and return its outcome."""
    told = {
        "config": config.model_dump(mode="json", exclude_unset=True),
        "models": list(models),
        "parent": os.getpid(),
    }
    trainer = subprocess.Popen(
        [*COMMAND, json.dumps(told)],  # not by stdin: several devices run the same command again
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    heard = Heard()
    # Apart: a trainer that ends when its flow is cancelled may say more than a pipe holds.
    listener = Thread(
        target=copy_context().run, args=(_hear, trainer, _sayer(), heard), daemon=True
    )
    listener.start()
    try:
        code = trainer.wait()
    finally:
        _end(trainer)
    listener.join(LINGER_SECONDS)  # its reading processes have the same pipe, and may outlive it
    return _outcome(code, heard)


def _sayer() -> Callable[[str], None]:
    """Return what puts a line into the log of the flow run, or on stderr without one."""
    from flows.recipe import inside_a_flow

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


def _outcome(code: int, heard: Heard) -> Outcome:
    """Return what came of a trainer that ended with this exit code."""
    said = "\n".join(list(heard.last)) or "it said nothing"
    if code < 0 or code == STOPPED:
        how = f"by {signal.Signals(-code).name}" if code < 0 else "in good order"
        raise TrainerStoppedError(
            f"the trainer was stopped {how}; run again, it goes on from its last state:\n{said}"
        )
    if heard.told is None:
        raise TrainerError(f"the trainer failed (exit {code}):\n{said}")
    found = Outcome(**json.loads(heard.told))
    if code == LATER:
        raise OSError("\n".join(found.faults))
    return found


def _end(trainer: subprocess.Popen[str]) -> None:
    """Have a trainer save its state and end, if it still runs: the flow was cancelled."""
    if trainer.poll() is None:
        trainer.terminate()
        try:
            trainer.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            trainer.kill()
            trainer.wait()


def main() -> None:
    """Be the trainer."""
    told = json.loads(sys.argv[1])
    first = os.environ.get("LOCAL_RANK", "0") == "0"  # of the processes of several devices
    if first:
        _end_with(told["parent"])
    logging.basicConfig(stream=sys.stdout, format="%(message)s")
    logging.getLogger("crevnet").setLevel(logging.INFO)
    code = 0
    try:
        from flows.train import train

        outcome = train(RunConfig.model_validate(told["config"]), models=told["models"])
        code = 1 if outcome.faults else 0
    except StoppedError as stop:
        with suppress(OSError):  # nobody may be listening any more
            print(stop, flush=True)  # noqa: T201
        raise SystemExit(STOPPED) from None
    except (PipelineError, OSError) as fault:
        outcome = Outcome(faults=str(fault).splitlines() or [repr(fault)])
        code = LATER if isinstance(fault, OSError) else 1
    if first:
        with suppress(OSError):
            told = json.dumps(asdict(outcome), default=str)
            print(f"\n{RESULT}{told}", flush=True)  # noqa: T201 - whatever line was begun
    raise SystemExit(code)


def _end_with(parent: int) -> None:
    """Have SIGTERM sent to this process when its parent dies."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    else:

        def watch() -> None:
            while os.getppid() == parent:
                time.sleep(WATCH_SECONDS)
            os.kill(os.getpid(), signal.SIGTERM)

        Thread(target=watch, daemon=True).start()
    if os.getppid() != parent:  # it died before
        raise SystemExit(STOPPED)


if __name__ == "__main__":
    main()
