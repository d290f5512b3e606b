"""The rows of the fault table that need a Prefect server: flows, workers and trainers that die.

A server on loopback with a database of its own, a pool of processes, a worker, and two deployments
(`ingest` and `train` of `flows.deployments`) of the tiny city; runs that fall silent are marked as
crashed by an automation, as a self-hosted server does not do it by itself. See `faults.py`.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from faults import Row, Stage

POOL = "faults"
PATIENCE = 400.0
HEARTBEAT, SILENT = 30, 90
EARLY = 10
"""Steps that a training has done when its fault comes."""
ENDED = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


@dataclass
class Served:
    """A server, a worker and their client; processes by what they are."""

    stage: Stage
    home: Path
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    deployments: dict[str, Any] = field(default_factory=dict)
    client: Any = None

    def settings(self) -> None:
        """Set this process, and all it starts, to a server of its own."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        os.environ |= {
            "PREFECT_HOME": str(self.home),
            "PREFECT_API_URL": f"http://127.0.0.1:{self.port}/api",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
            "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",
            "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT),
            "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
        }

    def spawn(self, name: str, *command: str) -> None:
        from faults import environment

        with (self.home / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", "prefect", *command],
                env=environment(), cwd=self.home, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def start_server(self) -> None:
        import httpx

        self.spawn("server", "server", "start", "--host", "127.0.0.1", "--port", str(self.port))
        health = f"http://127.0.0.1:{self.port}/api/health"
        wait("the server", lambda: httpx.get(health).is_success)

    def start_worker(self) -> None:
        self.spawn("worker", "worker", "start", "--pool", POOL, "--type", "process")

    def end(
        self, name: str, number: signal.Signals = signal.SIGKILL, *, group: bool = True
    ) -> None:
        process = self.processes.pop(name)
        with suppress(ProcessLookupError):
            (os.killpg if group else os.kill)(process.pid, number)
        process.wait()

    def deploy(self) -> None:
        from prefect.client.orchestration import get_client
        from prefect.client.schemas.actions import WorkPoolCreate
        from prefect.utilities.callables import parameter_schema
        from prefect.workers.process import ProcessWorker

        from flows import deployments

        self.client = get_client(sync_client=True).__enter__()
        template = ProcessWorker.get_default_base_job_template()
        self.client.create_work_pool(
            WorkPoolCreate(name=POOL, type="process", base_job_template=template)
        )
        self.client.create_automation(zombies())
        for name in ("ingest", "train"):
            flow = getattr(deployments, name)
            schema = parameter_schema(flow).model_dump(exclude_unset=True)
            self.deployments[name] = self.client.create_deployment(
                self.client.create_flow_from_name(flow.name),
                name,
                work_pool_name=POOL,
                entrypoint=f"flows.deployments.{name}",
                parameters={"config": self.config()},
                parameter_openapi_schema=schema,
                pull_steps=[],
            )

    def config(self) -> dict[str, Any]:
        from flows.config import read_config

        path = self.stage.world.root / "run.yaml"
        return read_config(path).model_dump(mode="json", exclude_unset=True)

    def run(self, name: str) -> Any:
        return self.client.create_flow_run_from_deployment(self.deployments[name]).id

    def state(self, run: Any) -> Any:
        return self.client.read_flow_run(run).state

    def ended(self, run: Any) -> Any:
        wait("the end of the run", lambda: self.state(run).type.value in ENDED)
        return self.state(run)

    def shown(self, run: Any) -> str:
        state = self.state(run)
        message = (state.message or "").replace(f"{self.stage.world.root}/", "")
        return f"{state.name}: {' / '.join(message.splitlines())[:300]}"


def zombies() -> Any:
    from prefect.client.schemas.objects import StateType
    from prefect.events import AutomationCore, ChangeFlowRunState, EventTrigger, Posture

    alive = "prefect.flow-run.heartbeat"
    ended = {f"prefect.flow-run.{how.capitalize()}" for how in ENDED}
    return AutomationCore(
        name="silent runs have crashed",
        trigger=EventTrigger(
            after={alive},
            expect={alive, *ended},
            match={"prefect.resource.id": "prefect.flow-run.*"},
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=SILENT),
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED, name="Crashed", message=f"silent for {SILENT} s"
            )
        ],
    )


def wait(what: str, found: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    import httpx

    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with suppress(httpx.HTTPError):  # of a server that is being restarted
            if value := found():
                return value
        time.sleep(0.05)
    raise SystemExit(f"{what} did not come within {seconds:g} s")


def trainer_of(stage: Stage) -> tuple[int, int]:
    """The process that trains in the stage's folder, and its parent: the flow's."""
    for folder in sorted(Path("/proc").glob("[0-9]*"), key=lambda folder: int(folder.name)):
        with suppress(OSError):
            command = (folder / "cmdline").read_text()
            if "flows.trainer_process" in command and str(stage.world.root) in command:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                return int(folder.name), int(fields[1])
    raise SystemExit("no trainer")


def alive(pid: int) -> bool:
    with suppress(OSError):
        return (Path(f"/proc/{pid}") / "stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def under_way(served: Served) -> tuple[Any, int, int]:
    """A training that has begun to learn: its run, its flow's process, its own."""
    from faults import steps_of, trained

    run, curve = served.run("train"), trained(served.stage)[1]
    wait("the training's steps", lambda: steps_of(curve) >= EARLY)
    trainer, flow = trainer_of(served.stage)
    return run, flow, trainer


def killed(served: Served, fault: str, act: Callable[[Any, int, int], str]) -> Row:
    """A training, what befalls it, and another run that goes on, if that one did not end well."""
    from faults import Row, lost_steps, saved_step, steps_of, trained

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


def overlap(served: Served) -> Row:
    """A second run of a schedule begins while the first still trains."""
    from faults import Row, lost_steps

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
    "overlap": overlap,
}


def served(stage: Stage, wanted: list[str]) -> list[Row]:
    """Play rows one after the other on one server."""
    import shutil

    from faults import calm_training

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
