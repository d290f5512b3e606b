"""What `t4c submit` costs with a CrevNet at full size: time inside the network, and memory.

    python bench/submit.py [--network traffic4cast_2d] [--threads 1] [--keep FOLDER]

Draws a synthetic city on the 495 x 436 grid of 2019 (two training days, a test day of five slots),
ingests it, and writes a model file whose weights are as drawn from a seed: what they are does not
change what they cost. A process of its own then imports and runs the flow behind `t4c submit`, with
clocks around the network. Its whole time counts, imports, the zip and its check included.

Prints one JSON object: seconds by wall clock and by CPU, the network's share of both, the peak of
resident memory; and, measured apart, what it costs to decode the one-step predictions of the
history, which a forecast does not need. Exits 1 if a target is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

BEGUN = time.perf_counter()
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads would count as work
MODEL, CITY, LIMIT_MB, SHARE = "paper.safetensors", "Berlin", 3000, 0.9
CONFIG = """
edition: traffic4cast2019
cities: [{city}]
release: {folder}/release
truth: {folder}/truth
store: {folder}/store
out: {folder}/out
synth: {{seed: 6, training: 2, validation: 0, test: 1}}
submit: {{model: {folder}/{model}}}
forecasting: {{device: cpu, threads: {threads}}}
"""


class Watch:
    """Sums wall and CPU time of this process over the calls of some functions."""

    def __init__(self) -> None:
        self.spent: dict[str, list[float]] = {}

    def wrap(self, owner: Any, name: str) -> None:
        """Clock a class's method from now on; what it calls counts."""
        call: Callable[..., Any] = getattr(owner, name)
        spent = self.spent.setdefault(f"{owner.__name__}.{name}", [0.0, 0.0, 0])

        @wraps(call)
        def timed(*args: Any, **kwargs: Any) -> Any:
            wall, worked = time.perf_counter(), time.process_time()
            try:
                return call(*args, **kwargs)
            finally:
                spent[0] += time.perf_counter() - wall
                spent[1] += time.process_time() - worked
                spent[2] += 1

        setattr(owner, name, timed)

    def table(self) -> dict[str, dict[str, float]]:
        """Return seconds and calls by name."""
        return {
            name: {"wall_s": round(wall, 2), "cpu_s": round(worked, 2), "calls": int(calls)}
            for name, (wall, worked, calls) in self.spent.items()
        }


def resident(field: str) -> float:
    """MB of this process; its own, unlike `ru_maxrss`, which a child takes over."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) * 1024 / 1e6


def measure(config: Path) -> dict[str, Any]:
    """Submit in this process, with clocks around the network and what else takes time."""
    import flows.config
    import flows.networks
    import flows.submit
    import pipeline.submission
    from crevnet.autoencoder import TwoWayAutoencoder
    from crevnet.budget import cpu_seconds
    from crevnet.correction import Correction
    from crevnet.model import CrevNet
    from crevnet.predictor import Predictor

    watch, loaded = Watch(), time.perf_counter() - BEGUN
    for owner, name in (
        (flows.networks, "load_network"),
        (Correction, "ahead"),
        (CrevNet, "unroll"),
        (TwoWayAutoencoder, "encode"),
        (Predictor, "forward"),
        (TwoWayAutoencoder, "decode"),
        (pipeline.submission, "write_frames"),
        (pipeline.submission, "write_zip"),
        (flows.submit, "find_faults"),
    ):
        watch.wrap(owner, name)
    before = resident("VmRSS")
    said = flows.submit.submit(flows.config.read_config(config))
    wall, worked = time.perf_counter() - BEGUN, cpu_seconds()
    peak = resident("VmHWM")
    inside, spent = watch.spent["CrevNet.unroll"], watch.table()
    return {
        "faults": said.faults,
        "wall_s": round(wall, 1),
        "cpu_s": round(worked, 1),
        "imports_s": round(loaded, 1),
        "network_share_of_wall": round(inside[0] / wall, 4),
        "network_share_of_cpu": round(inside[1] / worked, 4),
        "rss_before_MB": round(before),
        "peak_rss_MB": round(peak),
        "spent": spent,
    }


def one_slot(config: Path) -> dict[str, Any]:
    """Compare `unroll`, which says every step, with `forecast`, which says what is asked."""
    import torch

    from crevnet.allocator import return_large_blocks
    from crevnet.checkpoint import load_model
    from crevnet.rollout import forecast
    from flows.config import read_config

    return_large_blocks()  # else the second finds the first's memory still there
    run = read_config(config)
    torch.set_num_threads(run.forecasting.threads)
    network, task, _ = load_model(Path(run.submit.model))
    height, width, channels = run.read_edition().frame_shape
    torch.manual_seed(0)
    history = torch.rand(1, task.history, channels, height, width)
    said, taken, grown = {}, {}, {}
    ways = {
        "unroll": lambda: network.unroll(history, task.horizon)[:, -task.horizon :],
        "forecast": lambda: forecast(network, history, task.leads),
    }
    with torch.inference_mode():
        for name, way in ways.items():
            Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
            before, worked = resident("VmRSS"), time.process_time()
            said[name] = way()
            taken[name] = round(time.process_time() - worked, 2)
            grown[name] = round(resident("VmHWM") - before)
    torch.testing.assert_close(said["unroll"], said["forecast"], rtol=1e-3, atol=1e-4)
    return {"a_slot": {"cpu_s": taken, "peak_growth_MB": grown}}


def make_model(config: Path, path: Path, name: str) -> int:
    """Write a network's file as `t4c train` does; return its parameters."""
    import torch

    from crevnet.checkpoint import save_model
    from crevnet.task import Task
    from crevnet.zoo import build
    from flows.config import read_config
    from pipeline.kept_fits import digest
    from pipeline.store import Store

    run = read_config(config)
    edition, (city,) = run.read_edition(), run.chosen_cities()
    store = Store.open(run.store, edition, city)
    days = store.days("training")
    torch.manual_seed(0)
    network = build(
        name,
        channels=edition.frame_shape[2],
        history=run.history,
        horizon=edition.leads[-1] + 1,
        static_channels=0,
    )
    task = Task(
        leads=edition.leads,
        history=run.history,
        base="window_mean",
        channels=edition.channels,
        edition=edition.name,
        cities=(city.name,),
    )
    extra = {"days": {city.name: days}, "fitted": {city.name: digest(store, days)}}
    save_model(path, network, task, extra)
    return sum(weight.numel() for weight in network.parameters())


def alone(what: str, config: Path) -> dict[str, Any]:
    """Measure in a process of its own."""
    command = [sys.executable, __file__, what, str(config)]
    said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(said.stdout)
    return found


def bench(folder: Path, name: str, threads: int) -> dict[str, Any]:
    from kill import finish, start

    config = folder / "run.yaml"
    config.write_text(CONFIG.format(folder=folder, city=CITY, model=MODEL, threads=threads))
    for verb in ("synth", "ingest"):
        finish(start(verb, config))
    parameters = make_model(config, folder / MODEL, name)
    found = alone("--measure", config)
    met = {
        f"network's share of the time at least {SHARE}": found["network_share_of_wall"] >= SHARE,
        f"peak of memory under {LIMIT_MB} MB": found["peak_rss_MB"] < LIMIT_MB,
        "no faults": not found["faults"],
    }
    facts = {"network": name, "parameters": parameters, "threads": threads}
    return {**facts, **found, **alone("--slot", config), "met": met, "ok": all(met.values())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", default="traffic4cast_2d")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="Work here, and leave what was drawn.")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--slot", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure or options.slot:
        print(json.dumps(measure(options.measure) if options.measure else one_slot(options.slot)))
        return
    if options.keep:
        options.keep.mkdir(parents=True, exist_ok=True)
        result = bench(options.keep.resolve(), options.network, options.threads)
    else:
        with tempfile.TemporaryDirectory() as name:
            result = bench(Path(name), options.network, options.threads)
    print(json.dumps(result, indent=1))
    sys.exit(0 if result["ok"] else 1)


if __name__ == "__main__":
    main()
