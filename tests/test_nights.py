"""A few nights of `bench/nights.py`, and that its ledger sees what it is there to see."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT

ENVIRONMENT = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'bench'}"}

BLIND = """
import shutil, sys
from pathlib import Path
from nights_ledger import Ledger
from nights_runs import attempt, ended
from nights_world import World

root = Path(sys.argv[1])
world = World(root)
world.build()
ledger = Ledger(world)
assert not ended(world, attempt(world, lambda: None)).faults
ledger.after_attempt()
ledger.after_night()
day = root / "store/Aal/training/20180101.nc"
zipped = root / "out/submission.zip"


def sees(what, spoil, path):
    kept = path.read_bytes() if path.exists() else None
    before = dict(ledger.files), ledger.submission
    spoil()
    try:
        ledger.after_attempt()
        ledger.after_night()
        print("blind to", what)
    except Exception as fault:
        print("sees", what)
    if kept is None:
        path.unlink(missing_ok=True)
    else:
        path.write_bytes(kept)
    ledger.files, ledger.submission = before


sees("a damaged day", lambda: day.write_bytes(day.read_bytes()[:-1] + b"?"), day)
sees("a lost day", day.unlink, day)
ledger.files[day] = (0, 0, ledger.files[day][2])
sees("a day ingested twice", lambda: None, root / "nothing")
stray = root / "store/Aal/training/20200101.nc"
ledger.files = {}
sees("a stray day", lambda: stray.write_bytes(b"x"), stray)
for name in ("store/.Aal.lock", "out/x.csv.far-1.partial", "tmp/t4c-1/member.h5"):
    path = root / name
    path.parent.mkdir(exist_ok=True)
    sees(name, lambda: path.write_bytes(b"x"), path)
sees("a damaged zip", lambda: zipped.write_bytes(zipped.read_bytes()[:-30]), zipped)
sees("a day that was not ingested", lambda: world.arrive(40, "training"), root / "nothing")
"""


@pytest.mark.timeout(900)
def test_five_nights_lose_nothing(tmp_path):
    folder = tmp_path / "nights"  # given one, it mounts nothing
    run = subprocess.run(
        [sys.executable, "bench/nights.py", "--nights=5", "--seed=5", f"--folder={folder}"],
        cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=800,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-3000:]
    found = json.loads(run.stdout)
    assert found["lost"] == 0
    assert found["days"] == 2 * (6 + 5)  # two cities, each day once
    assert found["attempts"] > found["faults"]["none"]["attempts"]  # the first night has a fault


@pytest.mark.timeout(300)
def test_the_ledger_is_not_blind(tmp_path):
    run = subprocess.run(
        [sys.executable, "-c", BLIND, str(tmp_path)],
        cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-3000:]
    said = run.stdout.splitlines()
    assert len(said) == 9
    assert [line for line in said if line.startswith("blind")] == []
