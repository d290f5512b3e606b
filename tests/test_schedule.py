"""The same recipes under Prefect: a scheduled run appears by itself and finishes."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest
import yaml  # Prefect brings it

from flows.config import read_config
from flows.serving_plan import DEFAULT_PLAN, READ
from flows.serving_pools import ZOMBIES
from flows.serving_settings import FOLDER, client_settings, server_settings
from flows.submit import check
from tests.conftest import ROOT
from tests.digits_world import build_digits
from tests.test_benchmark import CONFIG

T4C = [sys.executable, "-c", "from flows.cli import main; main()"]
MINUTELY = ('"30 3 * * *", timezone: America/Los_Angeles', '"* * * * *", timezone: Europe/Zurich')
SECRET = "anna:Corr3ct-h0rse"

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
    """Our own server, as `t4c server` starts it; yields what its clients are set to."""
    home, port = tmp_path_factory.mktemp("prefect"), free_port()
    environ = {name: value for name, value in os.environ.items() if "PREFECT" not in name}
    environ |= {"PREFECT_HOME": str(home), "PYTHONPATH": str(ROOT)}
    environ |= {"PREFECT_API_AUTH_STRING": SECRET}
    log = home / "server.log"
    with running([*T4C, "server", "--port", str(port)], log, environ) as process:
        url = server_settings(port, environ=environ)["PREFECT_API_URL"]
        wait_for("server", lambda: httpx.get(f"{url}/health").is_success, process, log, 240)
        environ |= {"PREFECT_API_URL": url}
        yield environ | client_settings(environ)


def ask(server, path, body=None, **more):
    """Post as Prefect's own clients do: with the token that the server gave them."""
    api, me = server["PREFECT_API_URL"], {"Prefect-Csrf-Client": "tests"}
    token = httpx.get(f"{api}/csrf-token", params={"client": "tests"}).json()["token"]
    return httpx.post(f"{api}{path}", json=body or {}, headers=me | {"Prefect-Csrf-Token": token})


def flow_of(server, folder, text, *words):
    """What a script that runs flows prints; the server hears of them."""
    script = folder / "script.py"
    script.write_text(text)
    run = subprocess.run(
        [sys.executable, script, *words],
        env=server,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=800,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    return run.stdout


def planned(world, *, only=(), changes=()):
    """A plan like the one built in, for a tiny world."""
    text = DEFAULT_PLAN.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    value = yaml.safe_load(text)
    value["build"][0] = {READ: {"id": "run", "config": str(world.config)}}
    value["deployments"] = [d for d in value["deployments"] if d["name"] in only]
    path = world.root / "prefect.yaml"
    path.write_text(yaml.safe_dump(value))
    return path


def held_by(server):
    """What the server was told: limits of queues, the automation, and one deployment whole."""
    queues = ask(server, "/work_pools/t4c/queues/filter").json()
    assert {q["name"]: q["concurrency_limit"] for q in queues} == {"default": None, "gpu": 1}
    automations = ask(server, "/automations/filter").json()
    (silent,) = [one for one in automations if one["name"] == ZOMBIES]
    assert silent["trigger"]["posture"] == "Proactive"
    assert silent["actions"][0]["state"] == "CRASHED"
    (kitti,) = [d for d in ask(server, "/deployments/filter").json() if d["name"] == "weekly-kitti"]
    assert kitti["work_queue_name"] == "gpu"
    assert kitti["concurrency_options"]["collision_strategy"] == "ENQUEUE"
    assert kitti["schedules"][0]["schedule"]["timezone"] == "America/Los_Angeles"
    assert kitti["path"] is None
    assert str(ROOT) not in json.dumps(kitti)
    return sorted(one["name"] for one in automations)


@pytest.mark.server
@pytest.mark.timeout(900)
def test_a_night_runs_by_itself_from_ingest_to_submission_and_maps(server, world):
    """Cron starts ingest, which says what is new, and the others follow."""
    chain = "nightly-ingest", "maps", "rescore", "regenerate-submission"
    plan = planned(world, only=[*chain, "weekly-kitti"], changes=[MINUTELY])
    env, log = server | {FOLDER: str(world.root)}, world.root / "worker.log"

    def deploy():
        command = [*T4C, "deploy", "--plan", plan, "--json"]
        said = subprocess.run(command, env=env, cwd=world.root, capture_output=True, text=True)
        assert said.returncode == 0, said.stderr
        return json.loads(said.stdout.splitlines()[-1])["deployments"]

    ids = deploy()
    assert {*ids} == {*chain, "weekly-kitti"}
    held = held_by(server)

    def finished():
        runs = ask(server, "/flow_runs/filter").json()
        ended = [r for r in runs if r["state_type"] in {"COMPLETED", "FAILED", "CRASHED"}]
        named = {ids[name]: name for name in chain}
        done = {named[r["deployment_id"]]: r for r in ended if r["deployment_id"] in named}
        return done if len(done) == len(chain) else None

    with running([*T4C, "worker"], log, env) as process:
        done = wait_for("night", finished, process, log, 500)
    assert {name: run["state_type"] for name, run in done.items()} == dict.fromkeys(
        chain, "COMPLETED"
    ), log.read_text()[-5000:]
    assert done["nightly-ingest"]["auto_scheduled"]
    config = read_config(world.config)
    assert check(config).facts["faults"] == []
    assert (world.out / "maps" / "Aal_mix.png").exists()
    artifacts = ask(server, "/artifacts/filter").json()
    kinds = {artifact["key"]: artifact["type"] for artifact in artifacts}
    assert (kinds["tiny-ladder"], kinds["error-map-bex-mix"]) == ("table", "markdown")
    assert (deploy(), held_by(server)) == (ids, held)
    home = Path(server["PREFECT_HOME"])
    written = [log, home / "server.log", *home.glob("prefect.db*")]  # with what SQLite wrote ahead
    assert len(written) > 2
    for file in written:
        assert SECRET.encode() not in file.read_bytes(), file


@pytest.mark.server
@pytest.mark.timeout(900)
def test_a_run_is_served_without_a_pool_and_a_bad_one_refused_before_it_exists(server, ingested):
    plan, log = planned(ingested, only=["rescore"]), ingested.root / "serve.log"

    def deployment():
        found = httpx.get(f"{server['PREFECT_API_URL']}/deployments/name/score/rescore")
        mine = found.is_success and str(ingested.root) in found.text
        return found.json() if mine else None

    with running([*T4C, "serve", "--plan", str(plan)], log, server) as process:
        served = wait_for("deployment", deployment, process, log, 120)
        run = f"/deployments/{served['id']}/create_flow_run"
        mine = {"deployments": {"id": {"any_": [served["id"]]}}}
        before = {r["id"] for r in ask(server, "/flow_runs/filter", mine).json()}
        for bad in ({"stride": 0}, {"hisotry": 3}, {"edition": None}, {"synth": {"training": "x"}}):
            config = {**served["parameters"]["config"], **bad}
            answer = ask(server, run, {"parameters": {"config": config}})
            assert answer.status_code == 409, (bad, answer.text)
        assert {r["id"] for r in ask(server, "/flow_runs/filter", mine).json()} == before
        ask(server, run, {"parameters": served["parameters"]}).raise_for_status()

        def ended():
            runs = [
                r for r in ask(server, "/flow_runs/filter", mine).json() if r["id"] not in before
            ]
            return [r for r in runs if r["state_type"] in {"COMPLETED", "FAILED", "CRASHED"}]

        (done,) = wait_for("run", ended, process, log, 300)
    assert done["state_type"] == "COMPLETED", log.read_text()[-3000:]
    assert (ingested.out / "ladder.csv").exists()
    tasks = ask(server, "/task_runs/filter", {"flow_runs": {"id": {"any_": [done["id"]]}}}).json()
    assert {task["name"].rpartition("-")[0] for task in tasks} == {"score.score_city"}


@pytest.mark.server
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/work_pools/", {"name": "mine", "type": "process"}),
        ("/flow_runs/filter", {}),
        ("/deployments/filter", {}),
        ("/admin/database/clear", {"confirm": True}),
    ],
)
def test_a_foreign_page_can_neither_write_nor_read(server, path, body):
    """What a page of another origin in a browser on this host may try, without a password."""
    url, foreign = f"{server['PREFECT_API_URL']}{path}", {"Origin": "http://evil.example"}
    said = httpx.post(url, json=body, headers=foreign)
    assert said.status_code == 403, said.text
    before = {"Access-Control-Request-Method": "POST"}
    asked = httpx.options(url, headers=foreign | before)
    got = httpx.get(f"{server['PREFECT_API_URL']}/version", headers=foreign)
    for answer in (said, asked, got):
        assert "access-control-allow-origin" not in answer.headers
    ours = {"Origin": f"http://127.0.0.1:{httpx.URL(url).port}"}
    allowed = httpx.get(f"{server['PREFECT_API_URL']}/version", headers=ours)
    assert allowed.headers["access-control-allow-origin"] == ours["Origin"]


@pytest.mark.server
def test_the_server_listens_on_loopback_and_tells_nobody(server):
    port = httpx.URL(server["PREFECT_API_URL"]).port
    listening = [
        row.split()[1].partition(":")[0]
        for name in ("tcp", "tcp6")
        for row in Path(f"/proc/net/{name}").read_text().splitlines()[1:]
        if row.split()[3] == "0A" and row.split()[1].endswith(f":{port:04X}")
    ]
    assert listening == ["0100007F"]
    said = httpx.get(f"{server['PREFECT_API_URL']}/admin/settings").json()["server"]
    assert said["analytics_enabled"] is False
    assert said["api"]["csrf_protection_enabled"] is True


@pytest.mark.server
@pytest.mark.timeout(900)
@pytest.mark.parametrize("spoiled", [False, True])
def test_failed_input_is_tried_again_and_a_faulty_file_is_not(server, world, tmp_path, spoiled):
    bad = world.release / "Bex" / "Bex_training" / "20180102_100m_bins.h5"
    if spoiled:
        bad.write_bytes(b"not HDF5")
    said = flow_of(server, tmp_path, FLAKY, world.config)
    assert "calls: Aal Aal Bex" in said
    assert (world.store / "Aal" / "manifest.json").exists()
    assert (f"faults: {bad}" in said) == spoiled


APART = """
import os, sys
from pathlib import Path

import prefect

import flows.recipe
from flows.config import read_config
from tests.toy_apart import answer

flows.recipe.RETRY_SECONDS = 0


@prefect.flow
def ask(fault):
    told = answer(read_config(Path(sys.argv[1])), Path(sys.argv[2], fault or "none"), fault)
    return told.process != os.getpid()


if __name__ == "__main__":
    for fault in ("", "named", "disk", "stopped", "bug"):
        state = ask(fault, return_state=True)
        told = state.result(raise_on_failure=False)
        said = told if state.is_completed() else type(told)
        tries = Path(sys.argv[2], fault or "none").read_text().count("asked")
        print(fault, getattr(said, "__name__", said), tries)
"""


@pytest.mark.server
@pytest.mark.timeout(900)
def test_a_training_in_a_flow_is_another_process_and_tried_again_where_that_may_help(
    server, world, tmp_path
):
    said = flow_of(server, tmp_path, APART, world.config, tmp_path)
    assert said.splitlines() == [
        " True 1",
        "named TrainingError 1",
        "disk OSError 3",
        "stopped TrainerStoppedError 3",
        "bug TrainerError 1",
    ]


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
    said = flow_of(server, tmp_path, BENCHMARK, config)
    assert "Tiny digits: 5 sequences" in said
    tasks = ask(server, "/task_runs/filter").json()
    names = {task["name"].rpartition("-")[0] for task in tasks}
    assert names >= {"data.draw", "train.train_run", "scores.score_run", "costs.cost_of"}
    artifacts = ask(server, "/artifacts/filter").json()
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
    said = flow_of(server, tmp_path, REPORT, ingested.config)
    assert "['Aal_mix', 'Bex_mix']" in said
    artifacts = ask(server, "/artifacts/filter").json()
    kinds = {artifact["key"]: artifact["type"] for artifact in artifacts}
    assert kinds["error-map-bex-mix"] == kinds["tiny-report"] == "markdown"
    assert kinds["tiny-report-ladder"] == "table"
    assert kinds["tiny-report-aal-mix-mse"] == "markdown"
    tasks = ask(server, "/task_runs/filter").json()
    assert {"maps.map_city", "score.score_city"} <= {
        task["name"].rpartition("-")[0] for task in tasks
    }
