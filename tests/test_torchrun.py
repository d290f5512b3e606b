"""`torchrun ... t4c train`: two CPU processes of one training, as the README says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch

from crevnet.checkpoint import load_model
from tests.conftest import ROOT
from tests.test_cli import facts, t4c
from tests.test_train import STEPS, TINY_NET, add


def test_two_processes_of_torchrun_make_the_network_of_one(ingested):
    training = STEPS | {"batch": 4, "accelerator": "cpu"}
    models = {name: TINY_NET | {"training": training} for name in ("one", "two")}
    add(ingested, models=models)
    assert t4c("train", ingested.config, "--model", "one").exit_code == 0
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += [Path(sys.executable).with_name("t4c"), "train", ingested.config, "--model", "two"]
    said = subprocess.run(
        [*command, "--set", "models.two.training.devices=2"],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert said.returncode == 0, said.stderr
    assert said.stdout.count("two: 4 steps, 16 windows") == 1  # one of them speaks
    folder = ingested.out / "models"
    one, two = (load_model(folder / f"{name}.safetensors")[0] for name in ("one", "two"))
    torch.testing.assert_close(one.state_dict(), two.state_dict(), rtol=0, atol=1e-5)
    scored = facts(t4c("score", ingested.config, "--set", "ladder=[one, two]", "--json"))["scores"]
    assert abs(scored["two"]["mse"] / scored["one"]["mse"] - 1) < 1e-3
