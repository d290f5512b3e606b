"""Our server, pool and worker, for the rows of the fault table that need them.

A server on loopback with the settings of `t4c serve` and a database of its own, a pool of
processes, a worker, and two deployments (`ingest` and `train` of `flows.deployments`) of the tiny
city; runs that fall silent are marked as crashed by the automation of `t4c deploy`.
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
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.serving_settings import FOLDER, HEARTBEAT_SECONDS, server_settings

if TYPE_CHECKING:
    from faults_stage import Stage

POOL = "faults"
PATIENCE = 400.0
SILENT = 3 * HEARTBEAT_SECONDS
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
        """Set this process, and all it starts, to a server of its own, as `t4c serve` would."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        here = {"PREFECT_HOME": str(self.home), FOLDER: str(self.stage.world.root)}
        os.environ |= server_settings(self.port, environ=here)
        os.environ |= {"PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore"}

    def spawn(self, name: str, *command: str) -> None:
        from faults_stage import environment

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
        from prefect.utilities.callables import parameter_schema

        from flows import deployments
        from flows.serving_pools import crash_the_silent, make_pool

        self.client = get_client(sync_client=True).__enter__()
        make_pool(self.client, POOL)
        crash_the_silent(self.client, SILENT)
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


def wait(what: str, found: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    import httpx

    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with suppress(httpx.HTTPError):  # of a server that is being restarted
            if value := found():
                return value
        time.sleep(0.05)
    raise SystemExit(f"{what} did not come within {seconds:g} s")
