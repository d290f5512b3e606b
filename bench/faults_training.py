"""The rows of the fault table that train, without a server: what a training has lost."""

from __future__ import annotations

import csv
import json
import shutil
import signal
import time
from pathlib import Path

from faults_stage import Row, Stage
from nights_world import KNOWN_DAYS

from pipeline.rechunk import sha256

PROMOTION = "promotion={model: tiny, margin: 0.01, against: persistence}"
BEFORE_THE_LINK = """
import os, signal
from flows import promotion
point = promotion.point
def killed(link, target):
    if link.name == "best.safetensors":
        os.kill(os.getpid(), signal.SIGKILL)
    point(link, target)
promotion.point = killed
"""


def trained(stage: Stage) -> tuple[str, Path]:
    folder = stage.world.root / "out" / "models"
    path = folder / "tiny.safetensors"
    return sha256(path) if path.is_file() else "", folder / "tiny" / "curve.csv"


def steps_of(curve: Path) -> int:
    """The last whole row's step; 0 before there is one."""
    if not curve.exists():
        return 0
    text = curve.read_text()
    rows = list(csv.DictReader(text[: text.rfind("\n") + 1].splitlines()))
    return int(rows[-1]["step"]) if rows else 0


def saved_step(stage: Stage) -> int:
    import torch

    path = stage.world.root / "out" / "models" / "tiny" / "state.pt"
    return torch.load(path, weights_only=True)["progress"]["step"] if path.exists() else 0


def calm_training(stage: Stage) -> None:
    stage.must(stage.t4c("ingest"))
    if not stage.calm_model:
        stage.must(stage.t4c("train"))
        stage.calm_model = trained(stage)[0]
        shutil.rmtree(stage.world.root / "out")


def lost_steps(stage: Stage, reached: int, saved: int) -> str:
    same = trained(stage)[0] == stage.calm_model
    twice = max(0, reached - saved)
    steps = f"nothing ({twice} steps done twice)" if twice else "nothing"
    return steps if same else "the model differs from that of a calm run"


def training_stopped(stage: Stage, number: signal.Signals) -> Row:
    calm_training(stage)
    process, curve = stage.start("train"), trained(stage)[1]
    while steps_of(curve) < 25 and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(number)
    shown = stage.finish(process).shown(stage.world.root)
    reached, saved = steps_of(curve), saved_step(stage)
    again = stage.must(stage.t4c("train"))
    lost = lost_steps(stage, reached, saved)
    how = f"run again: goes on from step {saved}"
    return Row(f"{number.name} of `t4c train`", shown, lost, how, again.seconds)


def promotion_killed(stage: Stage) -> Row:
    """Killed after the record says that a network is promoted, before the link moves."""
    days = stage.world.arrive(KNOWN_DAYS, "validation")
    try:
        stage.must(stage.t4c("ingest"))
        models = stage.world.root / "out" / "models"
        link, record = models / "best.safetensors", models / "best_promotions.json"
        asked = ("promote", "--set", PROMOTION)
        shown = stage.t4c(*asked, spoil=BEFORE_THE_LINK).shown(stage.world.root)
        if link.is_symlink() or not record.is_file():
            raise SystemExit(f"promote-kill: killed at another moment: {shown}")
        again = stage.must(stage.t4c(*asked))
        kept = json.loads(record.read_text())
    finally:
        for path in days:
            path.unlink()
    whole = link.resolve().is_file() and [one["in_use"] for one in kept] == [True]
    same = whole and (models / kept[0]["candidate"]).resolve() == link.resolve()
    fault = "SIGKILL of `t4c promote` between its record and the link"
    lost = "nothing" if same else f"link {link.resolve()}, record {kept}"
    how = "run again: the training is found, the link moves"
    return Row(fault, shown, lost, how, again.seconds)
