"""Kill `t4c` at random moments, run it again, and compare with a run nobody disturbed.

    python bench/kill.py [--times 20] [--seed 0] [--verb ingest --verb rasterise --verb submit]

Each try starts from an empty folder, kills the command with SIGKILL at a random moment of its
undisturbed length (every second time the command alone, leaving its worker processes orphaned;
else the whole process group), runs it again to its end, and compares every file left behind byte by
byte. Prints one JSON object; exits 1 if any try differs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

T4C = [sys.executable, "-c", "from flows.cli import main; main()"]
CATALOG = """
drawn:
  title: Drawn for the kill
  height: 149
  width: 131
  channels: [volume, speed, heading]
  headings: {0: none, 1: NW, 85: NE, 170: SW, 255: SE}
  cities:
    Kill: {lat_min: 47.0, lat_max: 47.149, lon_min: 9.0, lon_max: 9.131,
           test_slots: [57, 114, 174, 222, 258]}
"""
CONFIG = """
edition: drawn
catalog: {folder}/catalog.yaml
release: {folder}/{release}
truth: {folder}/truth
store: {folder}/store
out: {folder}/out
synth: {{seed: 3, training: 6, validation: 1, test: 5}}
rasterise:
  points: ["{folder}/points/*.parquet"]
"""
OUTPUTS = {"ingest": ["store"], "rasterise": ["drawn"], "submit": ["out"]}
RELEASES = {"ingest": "release", "rasterise": "drawn", "submit": "release"}


def draw_points(folder: Path, days: int = 6, vehicles: int = 60) -> None:
    """Random walks over the city, a fix a minute, one Parquet file a day."""
    folder.mkdir()
    rng = np.random.default_rng(5)
    place = rng.uniform([47.02, 9.02], [47.13, 9.11], (vehicles, 2))
    for day in range(days):
        steps = rng.normal(0, 0.002, (1440, vehicles, 2)).cumsum(axis=0)
        track = np.clip(place + steps - steps.mean(axis=0), [47.0, 9.0], [47.149, 9.131])
        start = pd.Timestamp("2018-01-01", tz="UTC") + pd.Timedelta(days=day)
        times = start + pd.to_timedelta(np.arange(1440), unit="min")
        pd.DataFrame(
            {
                "vehicle": np.tile(np.arange(vehicles), 1440),
                "time": np.repeat(times.values, vehicles),
                "latitude": track[..., 0].ravel(),
                "longitude": track[..., 1].ravel(),
            }
        ).assign(time=lambda t: t["time"].dt.tz_localize("UTC")).to_parquet(
            folder / f"{day}.parquet"
        )


def contents(folder: Path, names: list[str]) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for name in names
        for path in sorted((folder / name).rglob("*"))
        if path.is_file()
    }


def start(verb: str, config: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*T4C, verb, str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        start_new_session=True,
    )  # fmt: skip


def finish(process: subprocess.Popen[bytes]) -> None:
    _, said = process.communicate()
    if process.returncode:
        raise SystemExit(f"exit {process.returncode}: {said.decode()}")


def try_verb(verb: str, folder: Path, times: int, rng: random.Random) -> dict[str, object]:
    config = folder / f"{verb}.yaml"
    config.write_text(CONFIG.format(folder=folder, release=RELEASES[verb]))
    if verb == "submit":
        finish(start("ingest", config))
    names = OUTPUTS[verb]

    def wipe() -> None:
        for name in names:
            shutil.rmtree(folder / name, ignore_errors=True)

    wipe()
    begun = time.monotonic()
    finish(start(verb, config))
    length = time.monotonic() - begun
    expected = contents(folder, names)
    same, landed, left = 0, 0, []
    for number in range(times):
        wipe()
        process = start(verb, config)
        moment = rng.uniform(0.0, length)
        try:
            process.wait(moment)
        except subprocess.TimeoutExpired:
            landed += 1
            if number % 2:
                process.kill()
            else:
                os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        left.append(len(contents(folder, names)))
        finish(start(verb, config))
        found = contents(folder, names)
        if found == expected:
            same += 1
        else:
            differing = {n for n in found | expected if found.get(n) != expected.get(n)}
            print(f"{verb}, killed after {moment:.2f} s: {sorted(differing)}", file=sys.stderr)
    return {
        "undisturbed_s": round(length, 2),
        "files": len(expected),
        "killed": landed,
        "files_left_by_the_killed": f"{min(left)} to {max(left)}",
        "identical_after_rerun": f"{same} of {times}",
        "ok": same == times,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--verb", action="append", choices=list(OUTPUTS))
    options = parser.parse_args()
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "catalog.yaml").write_text(CATALOG)
        draw_points(folder / "points")
        config = folder / "synth.yaml"
        config.write_text(CONFIG.format(folder=folder, release="release"))
        finish(start("synth", config))
        results = {
            verb: try_verb(verb, folder, options.times, rng) for verb in options.verb or OUTPUTS
        }
    print(json.dumps(results, indent=1))
    sys.exit(0 if all(result["ok"] for result in results.values()) else 1)


if __name__ == "__main__":
    main()
