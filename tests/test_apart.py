"""Trainings in processes of their own: what crosses, how they end, and who outlives whom."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from datetime import date
from pathlib import Path

import pytest

import flows.apart
from flows.apart import (
    COMMAND,
    LAST_LINES,
    TrainerError,
    TrainerStoppedError,
    TrainingError,
    from_json,
    listen,
    to_json,
)
from flows.benchmarking.config import BenchmarkConfig
from flows.benchmarking.train import train_run
from flows.compare import train_seed
from flows.config import read_as, read_config
from flows.detection.config import DetectionConfig
from flows.detection.train import train_head
from flows.model_config import Compare
from flows.train import train_model
from pipeline.errors import ConfigError, ModelError
from tests.conftest import ROOT
from tests.test_stopping import gone, under_way
from tests.test_train import STEPS, TINY_NET, add
from tests.test_training import state
from tests.toy_apart import Told, answer


def heard(world, **more):
    arguments = {"config": read_config(world.config), "path": Path("x"), **more}
    return listen(answer, arguments)


def test_a_call_crosses_to_another_process_and_back_unless_there_is_no_flow(world):
    told = heard(world)
    assert told == Told("tiny", Path("x"), (1.5, 0.25), told.process)
    assert told.process != os.getpid()
    config = read_config(world.config)
    assert answer(config, Path("x")) == Told("tiny", Path("x"), (1.5, 0.25), os.getpid())


@pytest.mark.parametrize(
    ("fault", "kind", "said"),
    [
        ("named", TrainingError, "^x: no network$"),
        ("disk", OSError, "^x: no room$"),
        (
            "stopped",
            TrainerStoppedError,
            r"in good order; run again.*\n(.*\n)*x: SIGTERM after step 3",
        ),
        ("bug", TrainerError, r"exit 1\):\n(.*\n)*KeyError: 'a bug'"),
    ],
)
def test_what_is_wrong_there_is_told_here(world, fault, kind, said):
    with pytest.raises(kind, match=said) as told:
        heard(world, fault=fault)
    assert isinstance(told.value, OSError) == (fault in ("disk", "stopped"))  # worth another try
    with pytest.raises(ModelError, match="x: no network"):
        answer(read_config(world.config), Path("x"), "named")


def shipped(name):
    kind = {"kitti_detection_cpu": DetectionConfig, "sf_taxi": None}.get(name, BenchmarkConfig)
    path = ROOT / "configs" / f"{name}.yaml"
    return read_config(path) if kind is None else read_as(kind, path)


@pytest.mark.parametrize(
    ("training", "config", "more"),
    [
        (train_model, "sf_taxi", {"name": "crevnet"}),
        (
            train_seed,
            "sf_taxi",
            {"plan": Compare(models=("unet",), minutes=3), "name": "unet", "seed": 4},
        ),
        (train_run, "moving_mnist_cpu", {"run": "simvp"}),
        (train_run, "kitti_cpu", {"run": "crevnet_2d"}),
        (train_head, "kitti_detection_cpu", {"name": "masks"}),
    ],
)
def test_configurations_of_every_training_cross_unchanged(training, config, more):
    arguments = {"config": shipped(config), **more}
    crossed = json.loads(json.dumps(to_json(training, arguments)))
    assert from_json(training, crossed) == arguments


def test_what_json_has_not_is_refused_and_not_changed():
    config = shipped("sf_taxi")
    model = config.models["crevnet"]
    for strange in (math.nan, {1: 2}, date(2020, 2, 29)):
        change = model.model_copy(update={"change": {"blocks": strange}})
        odd = config.model_copy(update={"models": config.models | {"crevnet": change}})
        with pytest.raises(ConfigError, match=r"\['config'\]: expected text, numbers"):
            to_json(train_model, {"config": odd, "name": "crevnet"})


def test_a_long_configuration_crosses_too(world):
    """Of more than an argument of a command may hold."""
    assert heard(world, fault="x" * 200_000).edition == "tiny"


def test_another_process_of_a_training_says_its_faults_too(world, tmp_path):
    path = tmp_path / "arguments.json"
    arguments = {"config": read_config(world.config), "path": Path("x"), "fault": "named"}
    path.write_text(json.dumps(to_json(answer, arguments)))
    run = subprocess.run(
        [*COMMAND, "tests.toy_apart:answer", str(path), str(os.getpid())],
        cwd=ROOT, env=os.environ | {"LOCAL_RANK": "1"}, capture_output=True, text=True,
    )  # fmt: skip
    assert (run.returncode, run.stdout) == (1, "step 1 of x\nx: no network\n")


@pytest.mark.parametrize(
    ("training", "arguments"),
    [
        (train_model, (1, 2)),
        (train_seed, (1, 2, 3, 4)),
        (train_run, (1, 2)),
        (train_head, (1, 2)),
    ],
)
def test_in_a_flow_every_training_is_a_process_of_its_own(monkeypatch, training, arguments):
    heard = []
    monkeypatch.setattr(flows.apart, "inside_a_flow", lambda: True)
    monkeypatch.setattr(
        flows.apart, "listen", lambda function, given: heard.append((function, given))
    )
    training(*arguments)
    [(function, given)] = heard
    assert (function.__module__, function.__name__) == (training.__module__, training.__name__)
    assert tuple(given.values()) == arguments


def test_nothing_else_trains():
    """Whoever runs the loop is reached by a training that is apart in a flow."""
    loop = re.compile(r"from crevnet\.training import .*\btrain\b")
    found = {path for path in (ROOT / "flows").rglob("*.py") if loop.search(path.read_text())}
    apart = {path for path in (ROOT / "flows").rglob("*.py") if "@apart\n" in path.read_text()}
    assert found == apart - {ROOT / "flows" / "compare.py"}  # which calls what train.py calls
    assert len(found) == 3


STUB = """
import os, signal, sys
from flows.apart import RESULT
print("step 1", flush=True)
"""


def stub(monkeypatch, code):
    command = (sys.executable, "-c", STUB + textwrap.dedent(code))
    monkeypatch.setattr(flows.apart, "COMMAND", command)


def test_a_trainer_that_is_killed_is_worth_another_try(monkeypatch, world):
    stub(monkeypatch, "os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(TrainerStoppedError, match=r"by SIGKILL; run again.*\nstep 1") as stopped:
        heard(world)
    assert isinstance(stopped.value, OSError)  # what steps are tried again for
    stub(monkeypatch, "sys.exit(130)")
    with pytest.raises(TrainerStoppedError, match="stopped in good order"):
        heard(world)


def test_a_trainer_that_fails_is_quoted_by_its_last_lines(monkeypatch, world):
    stub(monkeypatch, "[print(n) for n in range(99)]\nraise RuntimeError('CUDA is on fire')")
    with pytest.raises(TrainerError, match=r"exit 1\):\n(.*\n)+RuntimeError: CUDA is on fire") as e:
        heard(world)
    assert not isinstance(e.value, OSError)
    assert len(str(e.value).splitlines()) == 1 + LAST_LINES


def test_what_a_trainer_says_arrives_while_it_trains(monkeypatch, world, capsys):
    """And its faults, and that a disk's are worth another try."""
    said = '{"value": null, "faults": ["x: no", "y: neither"]}'
    stub(monkeypatch, f"print(RESULT + '{said}')\nsys.exit(1)")
    with pytest.raises(TrainingError, match="^x: no\ny: neither$"):
        heard(world)
    assert capsys.readouterr().err == "step 1\n"
    stub(monkeypatch, f"print(RESULT + '{said}')\nsys.exit(75)")
    with pytest.raises(OSError, match="^x: no\ny: neither$"):
        heard(world)


def test_a_trainer_ends_though_its_readers_still_have_its_pipe(monkeypatch, world, capsys):
    """And what it tells last is found behind a line that another process began."""
    monkeypatch.setattr(flows.apart, "LINGER_SECONDS", 3.0)
    stub(
        monkeypatch,
        """
        import json, subprocess
        reader = subprocess.Popen(["sleep", "500"])
        print("half a line", end="", flush=True)
        told = {"edition": "tiny", "path": "x", "losses": [1, 2], "process": reader.pid}
        print(RESULT + json.dumps({"value": told, "faults": []}))
        """,
    )
    began = time.monotonic()
    told = heard(world)
    os.kill(told.process, signal.SIGKILL)
    assert time.monotonic() - began < 300
    assert capsys.readouterr().err == "step 1\nhalf a line\n"


def test_a_flow_that_is_interrupted_has_its_trainer_end_first(monkeypatch, world, tmp_path):
    class Cancelled(BaseException):
        pass

    def cancelled(number, frame):
        raise Cancelled

    stub(
        monkeypatch,
        f"""
        import time
        def stop(number, frame):
            print("x" * 300_000, flush=True)  # more than a pipe holds
            open({str(tmp_path / "saved")!r}, "w").write("state")
            sys.exit(130)
        signal.signal(signal.SIGTERM, stop)
        os.kill(os.getppid(), signal.SIGUSR1)
        time.sleep(600)
        """,
    )
    before = signal.signal(signal.SIGUSR1, cancelled)
    try:
        with pytest.raises(Cancelled):
            heard(world)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert (tmp_path / "saved").read_text() == "state"


WAITING = """
import os, time
from crevnet.curves import Curves
from flows.trainer_process import main
parent, write = os.getppid(), Curves.write
def wait(self, row, more=None):
    write(self, row, more)
    self.flush()
    while row.step >= 4 and os.getppid() == parent:
        time.sleep(0.02)
Curves.write = wait
main()
"""
PARENT = """
import sys
from pathlib import Path
import flows.apart
from flows.config import read_config
from flows.train import train_model
flows.apart.COMMAND = (sys.executable, "-c", sys.argv[2])
config = read_config(Path(sys.argv[1]))
flows.apart.listen(train_model, {"config": config, "name": "tiny"})
"""


def test_an_orphan_saves_its_state_and_ends_and_the_next_run_goes_on(ingested):
    training = STEPS | {"steps": 40, "evaluate_every": 20, "log_every": 1}
    training |= {"save_every_seconds": 3600}  # only the signal makes it save so early
    add(ingested, models={"tiny": TINY_NET | {"training": training}})
    folder = ingested.out / "models" / "tiny"
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(ingested.config), WAITING],
        cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    under_way(parent, folder / "curve.csv", 3)
    parent.kill()
    parent.wait()
    assert gone(parent, 300)
    left = state(folder)["progress"]["step"]
    assert left in (4, 5)  # the step that it was at when it heard
    assert sorted(path.name for path in folder.glob("*.partial")) == []
    trained = listen(train_model, {"config": read_config(ingested.config), "name": "tiny"})
    assert (trained.steps, trained.mine) == (40, True)


LOGGING = """
import logging, os, sys
from flows.unheard import outlive_the_worker
from prefect.logging.handlers import PrefectConsoleHandler
reading, writing = os.pipe()
os.dup2(writing, 2)
os.close(writing)
os.close(reading)  # the worker is dead
if sys.argv[1] == "outlive":
    outlive_the_worker()
log = logging.getLogger("run")
log.addHandler(PrefectConsoleHandler())
for number in range(3):
    log.warning("line %s", number)
    print("another", file=sys.stderr, flush=True)
    print("heard", number, flush=True)
"""


def test_a_flow_whose_worker_died_does_not_die_of_its_next_line():
    """And what prints elsewhere is heard as ever."""

    def run(how):
        command = [sys.executable, "-c", LOGGING, how]
        return subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)

    assert run("die").returncode == 1
    carried_on = run("outlive")
    assert (carried_on.returncode, carried_on.stdout) == (0, "heard 0\nheard 1\nheard 2\n")
