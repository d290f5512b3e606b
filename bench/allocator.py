"""What a training step costs in CPU time and memory by what glibc's allocator is asked for.

    python bench/allocator.py [--config configs/kitti_cpu.yaml] [--model crevnet_2d] [--steps 8]
        [--rounds 3] [--batch 4] [--size 128 160]

Steps of a benchmark's training (its network and objective, on noise, with AdamW), each way in a
fresh process on one thread: as glibc does by itself, as a plain training asks
(`keep_freed_blocks`), as a frugal one does (`return_large_blocks`; here with plain memory, so that
the allocator is all that differs). Prints JSON: medians over rounds, and ratios to the first.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
from pathlib import Path

WAYS = ("by itself", "keep_freed_blocks", "return_large_blocks")


def measure(way: str, options: argparse.Namespace) -> dict[str, float]:
    """CPU-seconds of a step, the median without the first, and the process's peak."""
    import torch

    from crevnet import allocator, footprint
    from crevnet.batch import Batch
    from crevnet.correction import Correction
    from crevnet.objectives import Trainee
    from crevnet.zoo import from_description
    from flows.benchmarking.config import BenchmarkConfig
    from flows.benchmarking.train import describe_model, objective_of, task_of
    from flows.config import read_as

    if way != WAYS[0]:
        getattr(allocator, way)()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config, name = read_as(BenchmarkConfig, options.config), options.model
    model, horizon = config.models[name], config.training_horizon
    assert horizon is not None, "a benchmark of videos"
    network = from_description(describe_model(config, name, horizon))
    trainee = Trainee(Correction(network, task_of(config, model, horizon)), objective_of(model))
    size = (options.batch, config.history + horizon, len(config.channels), *options.size)
    frames = torch.randint(0, 256, size, dtype=torch.uint8)
    batch = Batch(frames[:, : config.history], frames[:, config.history :])
    found = footprint.measure(trainee, batch, rounds=options.steps - 1)
    return {
        "cpu_s": found.step_cpu_seconds,
        "peak_MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, default=Path("configs/kitti_cpu.yaml"))
    parser.add_argument("--model", default="crevnet_2d")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--size", type=int, nargs=2, default=[128, 160])
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--way", choices=WAYS, help="One of them, in this process.")
    options = parser.parse_args()
    if options.way:
        print(json.dumps(measure(options.way, options)))
        return
    found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for _ in range(options.rounds):
        for way in WAYS:
            run = [sys.executable, *sys.argv, "--way", way]
            found[way].append(json.loads(subprocess.check_output(run)))
    medians = {
        way: {name: statistics.median(one[name] for one in several) for name in several[0]}
        for way, several in found.items()
    }
    first = medians[WAYS[0]]
    for way in WAYS[1:]:
        medians[way] |= {f"{name}_ratio": medians[way][name] / first[name] for name in first}
    print(json.dumps(medians, indent=1))


if __name__ == "__main__":
    main()
