"""What a training step on one sequence keeps for backward, every model of a benchmark.

    python bench/memory.py [configs/moving_mnist.yaml] [--horizon 10] [--canvas 64 64]

Counted on shapes, float32, parameters not counted: nothing is trained, no data is needed. Prints a
Markdown table with the paper's memory beside, where it says one.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT)

from flows.benchmarking.config import BenchmarkConfig  # noqa: E402
from flows.benchmarking.costs import counted  # noqa: E402
from flows.config import read_as  # noqa: E402
from pipeline.benchmark_table import as_markdown  # noqa: E402


def main() -> None:
    """Count, and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("config", nargs="?", type=Path, default=ROOT / "configs/moving_mnist.yaml")
    parser.add_argument("--horizon", type=int, default=10, help="frames to say")
    parser.add_argument("--canvas", type=int, nargs=2, default=(64, 64), help="rows, columns")
    chosen = parser.parse_args()
    config = read_as(BenchmarkConfig, chosen.config)
    rows = {}
    for name, model in config.models.items():
        found = counted(config, name, chosen.horizon, tuple(chosen.canvas))
        rows[name] = {
            "M parameters": found["parameters"] / 1e6,
            "GMAC": found["gmac"],
            "MB kept": found["saved_mb"],
            "MB kept, frugal": found["frugal_mb"],
            "paper MB": model.paper.memory_mb,
        }
    print(as_markdown(pd.DataFrame.from_dict(rows, orient="index").rename_axis("model")))


if __name__ == "__main__":
    main()
