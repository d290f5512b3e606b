"""What a training step costs, as ratios against the literal network in one run.

    python bench/network.py [--batch 8] [--rounds 5] [--threads 2] [--depth] [--traffic]

The reference is `tests/literal.py`: one clip at a time, one gate at a time, plain autograd. All are
measured at the released 3D Moving MNIST size (64 x 64, 20 frames, norm per sample):

* CPU-seconds of a training step (forward, backward, Adam), variants taking turns in one process;
* CPU-seconds of the convolutions of a step's cells alone, a floor for the whole;
* bytes kept for backward: by `saved_tensors_hooks` (which do not see what a checkpoint's closure or
  an autograd function's context holds) and by what the allocator has handed out and not got back
  after forward (which sees all);
* CPU-seconds of a forecast of ten frames from ten, the reference decoding and encoding every clip
  anew, as released;
* growth of the peak of resident memory over the process before the step, a fresh process each, once
  a step on a tiny clip has loaded what loads late and made gradients and Adam's moments;
* the error of frugal gradients against plain ones, relative to their norm.

`--depth` adds bytes kept by autoencoders of 12, 24 and 48 blocks. `--traffic` adds one step of the
paper's 3D layout at full Traffic4cast size (495 x 436, 9 frames and 3 more, batch 1); it takes many
minutes. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys

from network_variants import MNIST, VARIANTS, clips, cpu, loss_of, make, optimiser, step

# isort: split
import torch
from network_memory import alone, kept_at_depth, kept_bytes, peak, peaks

from crevnet.allocator import return_large_blocks
from crevnet.model import CrevNet
from crevnet.rollout import forecast
from tests.literal import literal

TARGETS = {
    "cpu_plain_over_reference": 0.5,
    "cpu_frugal_over_reference": 0.62,
    "cpu_forecast_over_reference": 0.5,
    "frugal_kept_MB_a_sample": 10,
    "peak_growth_frugal_over_reference": 0.25,
    "float32_gradient_error": 1e-3,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--depth", action="store_true")
    parser.add_argument("--traffic", action="store_true")
    parser.add_argument("--peak", choices=[*VARIANTS, "traffic-plain", "traffic-frugal"])
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.peak:
        return_large_blocks()  # as a frugal training does; it costs CPU time
        print(json.dumps(peak(options.peak, options.batch)))
        return
    result = {
        "machine": f"{os.cpu_count()} cores, {options.threads} threads, torch {torch.__version__}, "
        f"Python {platform.python_version()}",
        "batch": options.batch,
        "targets": TARGETS,
        **times(options.batch, options.rounds),
        **convolution_floor(options.batch, options.rounds),
        **forecast_times(options.batch, options.rounds),
        **kept_bytes(min(options.batch, 2)),
        **peaks(options),
        **gradient_errors(),
    }
    if options.depth:
        result["frugal_kept_MB_by_blocks"] = {n: kept_at_depth(n) for n in (12, 24, 48)}
    if options.traffic:
        for variant in ("frugal", "plain"):
            result[f"traffic_{variant}"] = alone(options, f"traffic-{variant}", 1)
    print(json.dumps(result, indent=1))


def times(batch: int, rounds: int) -> dict:
    torch.manual_seed(0)
    frames = clips(batch)
    net = CrevNet(MNIST)
    nets = {name: CrevNet(MNIST) for name in VARIANTS[1:]}
    for other in nets.values():
        other.load_state_dict(net.state_dict())
    nets["reference"] = literal(net)
    adams = {name: optimiser(other) for name, other in nets.items()}
    seconds: dict[str, list[float]] = {name: [] for name in VARIANTS}
    for number in range(rounds + 1):  # the first round warms up
        for name in VARIANTS:
            before = cpu()
            step(nets[name], adams[name], frames, name)
            if number:
                seconds[name].append(cpu() - before)
        print(f"round {number} of {rounds}: {seconds}", file=sys.stderr)
    against = seconds["reference"]
    return {
        "cpu_s_a_step": {name: spread(taken) for name, taken in seconds.items()},
        **{
            f"cpu_{name}_over_reference": spread(
                [a / b for a, b in zip(seconds[name], against, strict=True)]
            )
            for name in VARIANTS[1:]
        },
    }


def convolution_floor(batch: int, rounds: int) -> dict:
    """CPU-seconds of a step's convolutions in the cells alone, forward and backward, no more."""
    cell = make("plain", MNIST).predictor.rpms[0].cell
    layers = (cell.gates, cell.memory_gates, cell.output_gate)
    inputs = [
        torch.randn(batch, layer.in_channels, 3, 8, 8)
        .contiguous(memory_format=torch.channels_last_3d)
        .requires_grad_()
        for layer in layers
    ]
    wanted = [*inputs, *(p for layer in layers for p in layer.parameters())]
    steps = (20 - MNIST.clip) * MNIST.modules
    seconds = []
    for number in range(rounds + 1):
        before = cpu()
        for _ in range(steps):
            said = sum(layer(x).sum() for layer, x in zip(layers, inputs, strict=True))
            torch.autograd.grad(said, wanted)
        if number:
            seconds.append(cpu() - before)
    return {"cpu_s_of_the_cells_convolutions": spread(seconds)}


def forecast_times(batch: int, rounds: int) -> dict:
    history = clips(batch, frames=10)
    net = make("plain", MNIST).eval()
    reference = literal(net)
    ways = {
        "reference": lambda: reference.roll_out(history, 10, overwrite=True),
        "ours": lambda: forecast(net, history, range(10)),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    said = {}
    for number in range(rounds + 1):
        for name, way in ways.items():
            before = cpu()
            said[name] = way()
            if number:
                seconds[name].append(cpu() - before)
    torch.testing.assert_close(said["ours"], said["reference"], rtol=1e-3, atol=1e-3)
    pairs = zip(seconds["ours"], seconds["reference"], strict=True)
    return {
        "cpu_s_a_forecast": {name: spread(taken) for name, taken in seconds.items()},
        "cpu_forecast_over_reference": spread([a / b for a, b in pairs]),
    }


def gradient_errors() -> dict:
    """Distance of frugal gradients from plain ones over the length of these, batch 1."""
    found = {}
    for dtype in (torch.float32, torch.float64):
        net, frames = make("plain", MNIST).to(dtype), clips(1).to(dtype)
        grads = []
        for variant in ("plain", "frugal"):
            grad = torch.autograd.grad(loss_of(net, frames, variant), list(net.parameters()))
            grads.append(torch.cat([g.flatten() for g in grad]).double())
        error = (grads[1] - grads[0]).norm() / grads[0].norm()
        found[f"{str(dtype).removeprefix('torch.')}_gradient_error"] = float(f"{error:.2e}")
    return found


def spread(values: list[float]) -> dict[str, float]:
    return {
        "min": round(min(values), 3),
        "median": round(statistics.median(values), 3),
        "max": round(max(values), 3),
    }


if __name__ == "__main__":
    main()
