"""Kill `t4c train` inside its steps, run it again, and compare with a run nobody disturbed.

    python bench/resume.py [--kills 10] [--seed 0]

A small CrevNet learns 60 steps of a synthetic city on the CPU, in two trainings: one saves its
state after every step, one only with its evaluations, every 12 steps, so that a kill costs steps
too. Each is killed with SIGKILL, the whole process group, at random moments between its first step
and its last, and run again each time. A moment is a step seen in the curve, and then a random share
of the time that the next step took undisturbed, with its evaluation and saving.

In the end the model file must have the bytes of the undisturbed run's; the last weights, their
average and the optimiser the same bits; the curve the same text but for clocks and memory. Prints
one JSON object; exits 1 if anything differs or a kill came too late.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import random
import signal
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import torch
from kill import finish, start

STEPS = 60
SAVING = {"every step": 0, "with evaluations": 3600}  # seconds between two states
PATIENCE = 600.0  # seconds that a step may take to come
CONFIG = """
edition: synthetic
cities: [Arbon]
release: {folder}/release
truth: {folder}/truth
store: {folder}/store
out: {folder}/{out}
synth: {{seed: 4, training: 4, validation: 0, test: 0}}
models:
  small:
    network: small_traffic_2d
    change: {{blocks: [1, 1], modules: 2, gate_cap: 1.0, attention: single}}
    inputs: [usual, hour, weekend]
    sees: 3
    teacher: 0.5
    reading: {{crop: [24, 24], held_out: 1, held_out_stride: 96}}
    training: {{steps: {steps}, batch: 2, learning_rate: 0.004, ema: 0.9, evaluate_every: 12,
                threads: 1, accelerator: cpu, log_every: 1, save_every_seconds: {every}}}
"""
SAME = ("step", "epoch", "examples", "learning_rate", "loss", "grad_norm", "held_out_mse")


def configure(folder: Path, out: str, every: int) -> Path:
    config = folder / f"{out}.yaml"
    config.write_text(CONFIG.format(folder=folder, out=out, every=every, steps=STEPS))
    return config


def rows(training: Path) -> list[dict[str, str]]:
    """The curve's whole rows, as text: one may be half written."""
    try:
        with (training / "curve.csv").open(newline="") as file:
            text = file.read()
    except FileNotFoundError:
        return []
    return list(csv.DictReader(text[: text.rfind("\n") + 1].splitlines()))


def inode(training: Path) -> int:
    path = training / "curve.csv"
    return path.stat().st_ino if path.exists() else 0


def saved(training: Path) -> dict:
    path = training / "state.pt"
    return torch.load(path, weights_only=True) if path.exists() else {"progress": {"step": 0}}


def digest(value: object) -> str:
    """Of every bit of tensors in plain containers, and of their names."""
    found = hashlib.sha256()
    if isinstance(value, torch.Tensor):
        found.update(f"{value.dtype} {tuple(value.shape)}".encode())
        found.update(value.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    elif isinstance(value, dict):
        for name, item in value.items():
            found.update(f"{name} {digest(item)}".encode())
    elif isinstance(value, list | tuple):
        found.update(" ".join(map(digest, value)).encode())
    else:
        found.update(repr(value).encode())
    return found.hexdigest()


def outcome(out: Path) -> dict[str, str]:
    training, state = out / "models" / "small", saved(out / "models" / "small")
    curve = [tuple(row[name] for name in SAME) for row in rows(training)]
    return {
        "model": hashlib.sha256((out / "models" / "small.safetensors").read_bytes()).hexdigest(),
        **{name: digest(state[name]) for name in ("weights", "average", "optimiser", "best")},
        "curve": digest(curve),
    }


def kill_after(config: Path, training: Path, step: int, delay: float) -> dict[str, int] | None:
    """Train, and kill so many seconds after a step; say where that was, or nothing if too late."""
    before = inode(training)  # a run that goes on writes its curve anew
    process = start("train", config)
    given_up = time.monotonic() + PATIENCE
    while process.poll() is None:
        now = rows(training) if inode(training) != before else []
        if now and int(now[-1]["step"]) >= step:
            time.sleep(delay)
            break
        if time.monotonic() > given_up:
            os.killpg(process.pid, signal.SIGKILL)
            raise SystemExit(f"step {step} did not come within {PATIENCE:.0f} s")
        time.sleep(0.002)
    late = process.poll() is not None
    if late and process.returncode:
        finish(process)
    if not late:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    if late:
        return None
    return {
        "after_step": int(rows(training)[-1]["step"]),
        "state_of_step": saved(training)["progress"]["step"],
    }


def try_training(folder: Path, saving: str, kills: int, rng: random.Random) -> dict[str, object]:
    every = SAVING[saving]
    calm, torn = folder / f"calm_{every}", folder / f"torn_{every}"
    begun = time.monotonic()
    finish(start("train", configure(folder, calm.name, every)))
    length = time.monotonic() - begun
    clock = [float(row["seconds"]) for row in rows(calm / "models" / "small")]
    took = [later - earlier for earlier, later in pairwise(clock)]  # the step after the first: [0]
    config, training = configure(folder, torn.name, every), torn / "models" / "small"
    fell = []
    for step in sorted(rng.sample(range(1, STEPS - 1), kills)):
        fell.append(kill_after(config, training, step, rng.random() * took[step - 1]))
        print(f"saved {saving}, killed: {fell[-1]}", file=sys.stderr)
    finish(start("train", config))
    expected, found = outcome(calm), outcome(torn)
    landed = [place for place in fell if place is not None]
    return {
        "undisturbed_s": round(length, 1),
        "kills": len(landed),
        "fell": landed,
        "steps_done_twice": sum(p["after_step"] - p["state_of_step"] for p in landed),
        "identical": found == expected,
        "differing": [name for name, value in expected.items() if found[name] != value],
        "sha256": found["model"],
        "ok": found == expected and len(landed) == kills,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if not 1 <= options.kills <= STEPS - 2:
        parser.error(f"--kills {options.kills}: expected 1 to {STEPS - 2}")
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for verb in ("synth", "ingest"):
            finish(start(verb, configure(folder, "drawn", 0)))
        results = {
            f"saved {saving}": try_training(folder, saving, options.kills, rng) for saving in SAVING
        }
    print(json.dumps(results, indent=1))
    sys.exit(0 if all(result["ok"] for result in results.values()) else 1)


if __name__ == "__main__":
    main()
