from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml  # Prefect brings it
from torch import nn

from crevnet.curves import read_curve
from crevnet.interruption import Interrupted
from crevnet.objectives import RollOut, Trainee
from crevnet.training import train
from flows.config import read_config
from flows.model_config import Reading
from flows.training_data import training_data
from tests.test_train import STEPS, TINY_NET, add
from tests.test_training import learned, same, state
from tests.toy_training import Movies, held_out, settings, trainee

STOPPED = {
    "reading": {"held_out": 1, "workers": 1},
    "training": STEPS | {"steps": 150, "evaluate_every": 50, "log_every": 1, "epochs": None},
}


def started(config):
    """`t4c train` in a process group of its own."""
    command = [Path(sys.executable).with_name("t4c"), "train", config]
    quiet = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    return subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env=quiet, start_new_session=True
    )


def under_way(process, curve, rows):
    """Wait until a training has written rows to its curve."""
    while process.poll() is None and (not curve.exists() or curve.read_text().count("\n") <= rows):
        time.sleep(0.02)
    assert process.poll() is None, process.communicate()[1]


def group_of(process):
    """The commands of a process's group that still run."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(fields[2]) == process.pid and fields[0] not in "ZX":
                found.append((folder / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return found


def gone(process, seconds):
    deadline = time.monotonic() + seconds
    while group_of(process) and time.monotonic() < deadline:
        time.sleep(0.1)
    return not group_of(process)


def configured(world):
    add(world, models={"tiny": TINY_NET | STOPPED})
    return world.out / "models" / "tiny"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_readers_too_loses_nothing(ingested, number):
    folder = configured(ingested)
    process = started(ingested.config)
    under_way(process, folder / "curve.csv", 3)
    os.killpg(process.pid, number)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130, said
    assert f"{number.name} after step" in said
    assert 3 <= state(folder)["progress"]["step"] < 150
    assert gone(process, 10)
    if number == signal.SIGINT:
        return
    process = started(ingested.config)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    stopped = folder.rename(folder.with_name("stopped"))
    value = yaml.safe_load(ingested.config.read_text())
    value["models"]["tiny"]["reading"]["workers"] = 0
    ingested.config.write_text(yaml.safe_dump(value))
    process = started(ingested.config)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert same(state(stopped), state(folder))
    assert learned(stopped) == learned(folder)


def test_readers_end_with_the_training_that_is_killed(ingested):
    folder = configured(ingested)
    process = started(ingested.config)
    under_way(process, folder / "curve.csv", 1)
    assert len(group_of(process)) > 1
    process.kill()
    process.wait()
    assert gone(process, 30), group_of(process)


def test_readers_that_die_of_it_cost_the_step_alone(tmp_path):
    """Whatever the readers do: half of a step's batches are read when they are gone."""

    class Dying(Movies):
        def batches(self, epoch, first=0):
            for count, batch in enumerate(super().batches(epoch, first)):
                if (epoch, count) == (1, 2):
                    os.kill(os.getpid(), signal.SIGTERM)
                    raise RuntimeError("DataLoader worker is killed by signal: Terminated")
                yield batch

    def pupil():
        torch.manual_seed(0)
        made = trainee()
        made.correction.network.norm = nn.BatchNorm2d(6)
        return Trainee(made.correction, RollOut(teacher=0.5))

    here, there = tmp_path / "undisturbed", tmp_path / "stopped"
    chosen = settings(accumulate=3, steps=5)
    train(pupil(), Movies(12), held_out(), chosen, here)
    with pytest.raises(Interrupted, match="SIGTERM after step 2; run again"):
        train(pupil(), Dying(12), held_out(), chosen, there)
    progress = state(there)["progress"]
    assert (progress["step"], progress["batches"], progress["examples"]) == (2, 6, 12)
    assert (progress["epoch"], progress["position"]) == (1, 0)
    train(pupil(), Movies(12), held_out(), chosen, there)
    assert same(state(there), state(here))
    assert learned(there) == learned(here)


def test_readers_of_held_out_windows_that_die_of_it_cost_the_score_alone(tmp_path):
    class Dying(list):
        def __iter__(self):
            yield self[0]
            os.kill(os.getpid(), signal.SIGTERM)
            raise OSError("DataLoader worker exited unexpectedly")

    here, there = tmp_path / "undisturbed", tmp_path / "stopped"
    train(trainee(), Movies(), held_out(), settings(), here)
    with pytest.raises(Interrupted, match="SIGTERM after step 5"):
        train(trainee(), Movies(), Dying(held_out()), settings(), there)
    train(trainee(), Movies(), held_out(), settings(), there)
    assert same(state(there), state(here))
    assert learned(there) == learned(here)


def test_readers_that_die_without_a_signal_to_stop_are_a_failure(tmp_path):
    class Dying(Movies):
        def batches(self, epoch, first=0):
            yield next(super().batches(epoch, first))
            raise RuntimeError("DataLoader worker is killed")

    with pytest.raises(RuntimeError, match="worker is killed"):
        train(trainee(), Dying(), held_out(), settings(), tmp_path)
    assert state(tmp_path)["progress"]["step"] == 1
    assert len(read_curve(tmp_path / "curve.csv")) == 0


def test_a_reader_that_dies_fails_the_next_read_and_nothing_else(ingested):
    config, reading = read_config(ingested.config), Reading(held_out=1, workers=1, start="fork")
    batches = training_data(config, reading, base="none", inputs=(), batch=1).train
    walk = batches.batches()
    next(walk)
    [reader] = multiprocessing.active_children()
    reader.terminate()  # it is not to hear
    reader.join(1)
    assert reader.is_alive()
    reader.kill()
    reader.join()
    time.sleep(0.05)  # here its death would be heard of
    with pytest.raises(RuntimeError, match="worker .*exited"):
        for _ in walk:
            pass
