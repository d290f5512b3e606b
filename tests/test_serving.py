"""The plan of prefect.yaml, without a server; with one in tests/test_schedule.py."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from types import SimpleNamespace

import pytest
import yaml  # Prefect brings it

from flows import deployments, serving
from flows.benchmarking.config import BenchmarkConfig
from flows.config import RunConfig, read_as, read_config
from flows.serving_plan import DEFAULT_PLAN, READ, read, read_plan
from flows.serving_pools import ONE_AT_A_TIME, stop_others
from pipeline.errors import ConfigError
from tests.conftest import ROOT
from tests.test_cli import t4c

SHIPPED = sorted(
    path.stem for path in (ROOT / "configs").glob("*.yaml") if "detection" not in path.stem
)
"""Detection is not part of the plan."""


def spoiled(tmp_path, change):
    value = yaml.safe_load(DEFAULT_PLAN.read_text())
    change(value)
    path = tmp_path / "prefect.yaml"
    path.write_text(yaml.safe_dump(value))
    return path


@pytest.mark.parametrize("name", SHIPPED)
def test_a_configuration_as_parameters_is_the_configuration(name):
    found = read(name)
    if "edition" in found["config"]:
        assert RunConfig.model_validate(found["config"]) == read_config(
            ROOT / f"configs/{name}.yaml"
        )
    else:
        own = read_as(BenchmarkConfig, ROOT / f"configs/{name}.yaml")
        assert BenchmarkConfig.model_validate(found["config"]) == own


def test_all_that_is_planned_is_timed_tagged_limited_and_there():
    plan = read_plan()
    names = [planned.name for planned in plan.deployments]
    assert len({*names}) == len(names) == 9
    assert not plan.left_out
    for planned in plan.deployments:
        assert planned.schedules or planned.triggers
        assert "t4c" in planned.tags
        assert planned.concurrency_limit.limit == 1
        assert ("gpu" in planned.tags) == (planned.work_pool.work_queue_name == ONE_AT_A_TIME)
        flow = getattr(deployments, planned.entrypoint.rpartition(".")[2])
        flow.validate_parameters(planned.parameters)
        assert "{{" not in str(planned)
    trained = {p.name for p in plan.deployments if p.work_pool.work_queue_name == "gpu"}
    assert trained == {"weekly-train", "weekly-moving-mnist", "weekly-kitti"}


def test_the_plan_names_no_place_of_a_machine():
    text = DEFAULT_PLAN.read_text()
    assert not re.search(r"(?<![\w.])/(work|home|root|tmp|usr|opt|Users|mnt)\b", text)
    for planned in read_plan().deployments:
        assert planned.entrypoint.startswith("flows.deployments.")


def test_configurations_are_chosen_by_name_and_the_rest_left_out():
    chosen = read_plan(configs=["demo"])
    assert {p.parameters["config"]["edition"] for p in chosen.deployments} == {"synthetic"}
    assert chosen.deployments[1].triggers[0].match == {"prefect.resource.id": "t4c.run.synthetic"}
    several = read_plan(configs=["run=austin_bus", "kitti=kitti"])
    assert [p.name for p in several.deployments][-1] == "weekly-kitti"
    assert several.left_out == ["weekly-train left out: its configuration has no `promotion`"]
    with pytest.raises(ConfigError, match=r"no configuration is called 'mnist': \['run', 'moving_"):
        read_plan(configs=["mnist=moving_mnist"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda v: v["deployments"][0].update(entrypoint="os.system"), "0.entrypoint"),
        (lambda v: v["deployments"][0].update(shedules=[]), "0.shedules"),
        (lambda v: v["deployments"][0]["schedules"][0].pop("timezone"), "timezone: Field required"),
        (lambda v: v["deployments"][0]["schedules"][0].update(timezone="Mars/Base"), "IANA"),
        (lambda v: v["deployments"][0].update(parameters={}), "nightly-ingest: takes none of"),
        (lambda v: v["build"].append({"os.system": {"id": "x", "config": "rm"}}), "build.3"),
        (lambda v: v["build"][0].update({READ: {"id": "run", "config": "nowhere"}}), "nowhere"),
        (lambda v: v.update(deployments=[]), "deployments"),
    ],
)
def test_a_spoiled_plan_is_refused_by_name(tmp_path, change, said):
    with pytest.raises(ConfigError, match=re.escape(said)):
        read_plan(spoiled(tmp_path, change))


def test_a_faulty_cron_and_a_flow_that_is_not_there_are_refused(tmp_path):
    path = spoiled(tmp_path, lambda v: v["deployments"][0]["schedules"][0].update(cron="a b"))
    with pytest.raises(ConfigError, match="nightly-ingest: schedules: "):
        serving._schedules(read_plan(path).deployments[0])
    path = spoiled(tmp_path, lambda v: v["deployments"][0].update(entrypoint="flows.deployments.x"))
    with pytest.raises(ConfigError, match="flows.deployments has no flow 'x'"):
        serving._flow(read_plan(path).deployments[0])


def test_without_a_server_it_is_said_which_one(monkeypatch):
    from prefect.settings import PREFECT_API_URL, temporary_settings

    nowhere = "http://127.0.0.1:9/api"
    monkeypatch.setattr(serving, "client_settings", dict)  # leave this process as it is
    monkeypatch.setenv("PREFECT_API_URL", nowhere)
    with temporary_settings({PREFECT_API_URL: nowhere}):  # Prefect was imported long before
        result = t4c("deploy", "demo")
    assert result.exit_code == 1
    assert "127.0.0.1:9" in result.stderr
    assert "`t4c server` starts one" in result.stderr


@pytest.mark.parametrize("verb", ["deploy", "serve"])
def test_in_a_process_of_its_own_no_server_means_no_server(tmp_path, verb):
    """Nothing of Prefect is set, as for a person: no throw-away server may stand in."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: whoever calls is refused
        environ = {name: value for name, value in os.environ.items() if "PREFECT" not in name}
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/api"
        said = subprocess.run(
            [sys.executable, "-c", OF_HERE, url, verb, str(ROOT / "configs" / "demo.yaml")],
            env=environ | {"PYTHONPATH": str(ROOT)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
        )
    assert said.returncode == 1, said.stderr
    assert f"{url}: no server answers" in said.stderr


OF_HERE = """
import sys

from flows import serving_settings
from flows.cli import main

url = sys.argv.pop(1)
serving_settings.PORT = int(url.split(":")[2].partition("/")[0])
main()
"""


class OneServer:
    """What `stop_others` asks of a server."""

    def __init__(self, deployments):
        self.deployments, self.ended = deployments, []

    def read_deployments(self, *, deployment_filter, limit):
        (tag,) = deployment_filter.tags.all_
        return [one for one in self.deployments if tag in one.tags][:limit]

    def delete_resource_owned_automations(self, resource):
        self.ended.append(resource)

    def pause_deployment(self, number):
        (one,) = [one for one in self.deployments if one.id == number]
        one.paused = True


def test_what_is_not_planned_any_more_is_paused_and_nothing_triggers_it():
    rows = [(1, "kept", "t4c", False), (2, "old", "t4c", False), (3, "idle", "t4c", True)]
    rows += [(4, "another's", "theirs", False)]
    server = OneServer([SimpleNamespace(id=i, name=n, tags=[t], paused=p) for i, n, t, p in rows])
    assert stop_others(server, {"1"}) == ["old"]
    assert server.ended == ["prefect.deployment.2"]
    assert [one.paused for one in server.deployments] == [False, True, True, False]
    assert stop_others(server, {"1"}) == []
