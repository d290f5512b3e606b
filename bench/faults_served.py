"""The rows of the fault table that need a Prefect server: flows, workers and trainers that die.

Each is played on the server, pool and worker of `faults_server.py`. See `faults.py`.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from faults_server import SILENT, Served, wait
from faults_stage import Row, Stage
from faults_training import calm_training, lost_steps, saved_step, steps_of, trained

EARLY = 10
"""Steps that a training has done when its fault comes."""
AWAY = 40
"""Seconds that a server is away beyond what a run may be silent, and that it is given when back."""


def trainer_of(stage: Stage) -> tuple[int, int]:
    """The process that trains in the stage's folder, and its parent: the flow's."""
    for folder in sorted(Path("/proc").glob("[0-9]*"), key=lambda folder: int(folder.name)):
        with suppress(OSError):
            command = (folder / "cmdline").read_text()
            mine = str(stage.world.root) in (folder / "environ").read_text()
            if "flows.trainer_process" in command and mine:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                return int(folder.name), int(fields[1])
    raise SystemExit("no trainer")


def alive(pid: int) -> bool:
    with suppress(OSError):
        return (Path(f"/proc/{pid}") / "stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def under_way(served: Served) -> tuple[Any, int, int]:
    """A training that has begun to learn: its run, its flow's process, its own."""
    run, curve = served.run("train"), trained(served.stage)[1]
    wait("the training's steps", lambda: steps_of(curve) >= EARLY)
    trainer, flow = trainer_of(served.stage)
    return run, flow, trainer


def killed(served: Served, fault: str, act: Callable[[Any, int, int], str]) -> Row:
    """A training, what befalls it, and another run that goes on, if that one did not end well."""
    stage = served.stage
    run, flow, trainer = under_way(served)
    how = act(run, flow, trainer)
    state = served.ended(run)
    shown, began = served.shown(run), time.monotonic()
    wait("the trainer's end", lambda: not alive(trainer))
    reached, saved = steps_of(trained(stage)[1]), saved_step(stage)
    if state.type.value == "COMPLETED":
        took = served.client.read_flow_run(run).total_run_time.total_seconds()
        return Row(fault, shown, lost_steps(stage, reached, reached), how, took)
    again = served.run("train")
    if served.ended(again).type.value != "COMPLETED":
        raise SystemExit(f"{fault}: the next run: {served.shown(again)}")
    lost = lost_steps(stage, reached, saved)
    return Row(
        fault, shown, lost, f"{how}next run goes on from step {saved}", time.monotonic() - began
    )


def kill(pid: int) -> str:
    os.kill(pid, signal.SIGKILL)
    return ""


def flow_killed(served: Served) -> Row:
    fault = "SIGKILL of the flow's process, in mid-training"
    return killed(served, fault, lambda run, flow, trainer: kill(flow))


def worker_killed(served: Served) -> Row:
    def act(run: Any, flow: int, trainer: int) -> str:
        served.end("worker", group=False)
        return "nothing to do: the flow carries on alone"

    row = killed(served, "SIGKILL of the worker, in mid-training", act)
    served.start_worker()
    return row


def both_killed(served: Served) -> Row:
    def act(run: Any, flow: int, trainer: int) -> str:
        served.end("worker", group=False)
        kill(flow)
        served.start_worker()
        return f"shown as Running for {SILENT} s and more, then Crashed; worker started; "

    return killed(served, "SIGKILL of worker and flow", act)


def trainer_killed(served: Served) -> Row:
    def act(run: Any, flow: int, trainer: int) -> str:
        kill(trainer)
        return "by itself: the task is tried again, and goes on"

    return killed(served, "SIGKILL of the trainer, in mid-training", act)


def cancelled(served: Served) -> Row:
    from prefect.states import Cancelling

    def act(run: Any, flow: int, trainer: int) -> str:
        served.client.set_flow_run_state(run, Cancelling())
        return ""

    return killed(served, "cancelled: SIGTERM to flow and trainer", act)


def server_restarted(served: Served) -> Row:
    def act(run: Any, flow: int, trainer: int) -> str:
        served.end("server", signal.SIGTERM)
        served.start_server()
        return "by itself: the flow waits for the server"

    return killed(served, "server restarted in mid-run", act)


def server_away(served: Served) -> Row:
    """The server is away for longer than a run may be silent, and the run goes on all the time."""
    run, flow, trainer = under_way(served)
    os.kill(trainer, signal.SIGSTOP)  # it takes long
    served.end("server", signal.SIGTERM)
    time.sleep(SILENT + AWAY)
    served.start_server()
    time.sleep(AWAY)
    back, began = served.shown(run), time.monotonic()
    os.kill(trainer, signal.SIGCONT)
    wait("the flow's end", lambda: not alive(flow))
    now, took = served.shown(run), time.monotonic() - began
    shown = back if now == back else f"{back}, and in the end {now}"
    fault = f"server away for {SILENT + AWAY} s, longer than a run may be silent"
    return Row(fault, shown, lost_steps(served.stage, 0, 0), "nothing to do: the run goes on", took)


def overlap(served: Served) -> Row:
    """A second run of a schedule begins while the first still trains."""
    run, _, trainer = under_way(served)
    os.kill(trainer, signal.SIGSTOP)  # it takes long
    began = time.monotonic()
    second = served.run("train")
    served.ended(second)
    shown, took = served.shown(second), time.monotonic() - began
    os.kill(trainer, signal.SIGCONT)
    served.ended(run)
    lost = lost_steps(served.stage, 0, 0)
    fault = "schedule overlap: a second training of the same model"
    return Row(fault, shown, lost, "nothing to do: the first run goes on and completes", took)


SERVED: dict[str, Callable[[Served], Row]] = {
    "flow-kill": flow_killed,
    "worker-kill": worker_killed,
    "both-kill": both_killed,
    "trainer-kill": trainer_killed,
    "cancel": cancelled,
    "server-restart": server_restarted,
    "server-away": server_away,
    "overlap": overlap,
}


def served(stage: Stage, wanted: list[str]) -> list[Row]:
    """Play rows one after the other on one server."""
    home = stage.world.root / "prefect"
    home.mkdir()
    calm_training(stage)
    found, one = [], Served(stage, home)
    one.settings()
    try:
        one.start_server()
        one.deploy()
        one.start_worker()
        for key in wanted:
            shutil.rmtree(stage.world.root / "out", ignore_errors=True)
            found.append(SERVED[key](one))
            print(found[-1], file=sys.stderr, flush=True)
    except BaseException:
        for log in home.glob("*.log"):
            print(f"--- {log.name}\n{log.read_text()[-4000:]}", file=sys.stderr)
        raise
    finally:
        for name in list(one.processes):
            one.end(name)
    return found
