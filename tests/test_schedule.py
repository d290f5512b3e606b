"""The same recipes under Prefect: a scheduled run appears by itself and finishes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress

import httpx
import pytest

from tests.conftest import ROOT
from tests.digits_world import build_digits
from tests.test_benchmark import CONFIG

SERVE = """
import sys
from datetime import timedelta
from pathlib import Path

from flows.config import read_config
from flows.deployments import score

if __name__ == "__main__":  # runs are spawned, and import this file again
    config = read_config(Path(sys.argv[1])).model_dump(mode="json")
    score.serve(
        name="often", interval=timedelta(seconds=10), parameters={"config": config}, limit=1
    )
"""

FLAKY = """
import sys
from pathlib import Path

import flows.ingest
import flows.recipe
from flows.config import read_config
from flows.deployments import RecipeError, ingest

calls, real = [], flows.ingest.ingest_city
flows.recipe.RETRY_SECONDS = 0


def flaky(release, edition, city, *rest, **more):
    calls.append(city.name)
    if city.name == "Aal" and calls.count("Aal") == 1:
        raise OSError(5, "Input/output error")
    return real(release, edition, city, *rest, **more)


if __name__ == "__main__":
    flows.ingest.ingest_city = flaky
    try:
        ingest(read_config(Path(sys.argv[1])))
    except RecipeError as fault:
        print("faults:", fault)
    print("calls:", " ".join(calls))
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(command, log, env):
    """A process group that is gone afterwards, its output in a file."""
    with log.open("w") as out:
        process = subprocess.Popen(
            command, env=env, cwd=ROOT, stdout=out, stderr=out, start_new_session=True
        )
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def wait_for(what, found, process, log, seconds):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert process.poll() is None, f"{what}: the process ended\n{log.read_text()[-3000:]}"
        with suppress(httpx.HTTPError):
            if value := found():
                return value
        time.sleep(1)
    pytest.fail(f"no {what} within {seconds} s\n{log.read_text()[-3000:]}")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A Prefect server of our own on loopback, quiet and without telemetry."""
    home = tmp_path_factory.mktemp("prefect")
    port = free_port()
    env = {
        **os.environ,
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",
    }
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1"]
    log = home / "server.log"
    with running([*command, "--port", str(port)], log, env) as process:
        health = f"{env['PREFECT_API_URL']}/health"
        wait_for("healthy server", lambda: httpx.get(health).is_success, process, log, 240)
        yield env


@pytest.mark.server
@pytest.mark.timeout(900)
def test_a_scheduled_run_appears_and_finishes(server, ingested, tmp_path):
    api, log = server["PREFECT_API_URL"], tmp_path / "serve.log"
    script = tmp_path / "serve.py"
    script.write_text(SERVE)

    def finished():
        runs = httpx.post(f"{api}/flow_runs/filter", json={}).json()
        ended = [r for r in runs if r["state_type"] in {"COMPLETED", "FAILED", "CRASHED"}]
        return [r for r in ended if r["auto_scheduled"]]

    with running([sys.executable, str(script), str(ingested.config)], log, server) as process:
        runs = wait_for("finished scheduled run", finished, process, log, 300)
    assert runs[0]["state_type"] == "COMPLETED", log.read_text()[-3000:]
    assert (ingested.out / "ladder.csv").exists()
    tasks = httpx.post(f"{api}/task_runs/filter", json={}).json()
    assert {task["name"].rpartition("-")[0] for task in tasks} >= {"score.score_city"}
    artifacts = httpx.post(f"{api}/artifacts/filter", json={}).json()
    assert "tiny-ladder" in {artifact["key"] for artifact in artifacts}


@pytest.mark.server
@pytest.mark.timeout(900)
def test_the_server_refuses_a_bad_configuration_before_a_run_exists(server, ingested, tmp_path):
    api, log = server["PREFECT_API_URL"], tmp_path / "serve.log"
    script = tmp_path / "serve.py"
    never = SERVE.replace('"often"', '"bad"').replace("interval=timedelta(seconds=10), ", "")
    script.write_text(never)
    with running([sys.executable, str(script), str(ingested.config)], log, server) as process:

        def deployment():
            found = httpx.get(f"{api}/deployments/name/score/bad")
            return found.json() if found.is_success else None

        bad = wait_for("deployment", deployment, process, log, 120)
        config = {**bad["parameters"]["config"], "stride": 0, "hisotry": 3}
        answer = httpx.post(
            f"{api}/deployments/{bad['id']}/create_flow_run",
            json={"parameters": {"config": config}},
        )
    assert answer.status_code == 409, answer.text
    assert "stride" in answer.text or "minimum" in answer.text or "hisotry" in answer.text


@pytest.mark.server
@pytest.mark.timeout(900)
@pytest.mark.parametrize("spoiled", [False, True])
def test_failed_input_is_tried_again_and_a_faulty_file_is_not(server, world, tmp_path, spoiled):
    bad = world.release / "Bex" / "Bex_training" / "20180102_100m_bins.h5"
    if spoiled:
        bad.write_bytes(b"not HDF5")
    script = tmp_path / "flaky.py"
    script.write_text(FLAKY)
    said = subprocess.run(
        [sys.executable, str(script), str(world.config)],
        env=server,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    ).stdout
    assert "calls: Aal Aal Bex" in said
    assert (world.store / "Aal" / "manifest.json").exists()
    assert (f"faults: {bad}" in said) == spoiled


BENCHMARK = """
import sys
from pathlib import Path

from flows.benchmarking.config import BenchmarkConfig
from flows.config import read_as
from flows.deployments import benchmark

if __name__ == "__main__":
    print(benchmark(read_as(BenchmarkConfig, Path(sys.argv[1])), models=["unet"])["title"])
"""


@pytest.mark.server
@pytest.mark.timeout(900)
def test_a_benchmark_is_a_flow_with_tasks_and_artifacts(server, tmp_path):
    digits = build_digits(tmp_path)
    config = tmp_path / "run.yaml"
    config.write_text(CONFIG.format(root=digits.root, out="out", steps=2))
    script = tmp_path / "benchmark.py"
    script.write_text(BENCHMARK)
    run = subprocess.run(
        [sys.executable, str(script), str(config)],
        env=server | {"PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=800,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    assert "Tiny digits: 5 sequences" in run.stdout
    api = server["PREFECT_API_URL"]
    tasks = httpx.post(f"{api}/task_runs/filter", json={}).json()
    names = {task["name"].rpartition("-")[0] for task in tasks}
    assert names >= {"data.draw", "train.train_run", "scores.score_run", "costs.cost_of"}
    artifacts = httpx.post(f"{api}/artifacts/filter", json={}).json()
    keys = {artifact["key"] for artifact in artifacts}
    assert keys >= {"moving-mnist", "moving-mnist-leads", "moving-mnist-learning"}


REPORT = """
import sys
from pathlib import Path

from flows.config import read_config
from flows.deployments import maps, report

if __name__ == "__main__":
    config = read_config(Path(sys.argv[1]), ["ladder=[zeros, window_mean]", "maps.parts=[]"])
    print(sorted(maps(config)["maps"]))
    print(report(config)["bytes"])
"""


@pytest.mark.server
@pytest.mark.timeout(900)
def test_maps_and_report_leave_their_pictures_and_tables(server, ingested, tmp_path):
    script = tmp_path / "report.py"
    script.write_text(REPORT)
    run = subprocess.run(
        [sys.executable, str(script), str(ingested.config)],
        env=server | {"PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=800,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    assert "['Aal_mix', 'Bex_mix']" in run.stdout
    api = server["PREFECT_API_URL"]
    artifacts = httpx.post(f"{api}/artifacts/filter", json={}).json()
    kinds = {artifact["key"]: artifact["type"] for artifact in artifacts}
    assert kinds["error-map-bex-mix"] == kinds["tiny-report"] == "markdown"
    assert kinds["tiny-report-ladder"] == "table"
    assert kinds["tiny-report-aal-mix-mse"] == "markdown"
    tasks = httpx.post(f"{api}/task_runs/filter", json={}).json()
    assert {"maps.map_city", "score.score_city"} <= {
        task["name"].rpartition("-")[0] for task in tasks
    }
