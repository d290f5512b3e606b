"""What a step of a network keeps and takes: bytes for backward, growth of resident memory."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch
from network_variants import (
    MNIST,
    TRAFFIC,
    VARIANTS,
    clips,
    cpu,
    loss_of,
    make,
    megabytes,
    optimiser,
    step,
)
from torch import Tensor, nn

SCRIPT = Path(__file__).with_name("network.py")


def kept_bytes(batch: int) -> dict:
    """MB a sample kept for backward, by both counts."""
    found = {}
    for name in VARIANTS:
        net = make(name, MNIST)
        hooks, live = kept(net, clips(batch), name)
        found[name] = {"hooks": megabytes(hooks / batch), "live": megabytes(live / batch)}
    return {"kept_MB_a_sample": found}


def kept_at_depth(blocks: int) -> dict:
    """The same, with an autoencoder of some depth and a small predictor."""
    third = blocks // 3
    config = replace(MNIST, blocks=(third, third, third), modules=2)
    hooks, live = kept(make("frugal", config), clips(1, config), "frugal")
    return {"hooks": megabytes(hooks), "live": megabytes(live)}


def kept(net: nn.Module, frames: Tensor, variant: str) -> tuple[int, int]:
    """Bytes kept between forward and backward: seen by hooks, and live by the allocator."""
    loss_of(net, frames[:, :, :, :16, :16], variant).backward()  # caches fill
    storages = {}
    own = {p.untyped_storage().data_ptr() for p in net.parameters()}

    def seen(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(seen, lambda tensor: tensor):
        loss = loss_of(net, frames, variant)
    hooks = sum(storages.values())
    del loss
    activity = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activity, profile_memory=True) as profile:
        loss = loss_of(net, frames, variant)
    events = profile.profiler.kineto_results.events()
    live = sum(event.nbytes() for event in events if event.name() == "[memory]")
    loss.backward()
    return hooks, live


def peaks(options) -> dict:
    found = {name: alone(options, name, options.batch) for name in VARIANTS}
    growth = {name: value["peak_growth_MB_a_sample"] for name, value in found.items()}
    return {
        "peak_growth_MB_a_sample": growth,
        "peak_growth_frugal_over_reference": round(growth["frugal"] / growth["reference"], 3),
        "peak_growth_plain_over_reference": round(growth["plain"] / growth["reference"], 3),
    }


def alone(options, what: str, batch: int) -> dict:
    """Run `peak` in a process of its own."""
    command = [sys.executable, str(SCRIPT), "--peak", what, "--batch", str(batch)]
    command += ["--threads", str(options.threads)]
    said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if said.returncode:
        return {"failed": said.returncode}
    return json.loads(said.stdout)


def peak(what: str, batch: int) -> dict:
    """One step's peak of resident memory, in this process."""
    traffic, variant = what.startswith("traffic"), what.removeprefix("traffic-")
    config = TRAFFIC if traffic else MNIST
    net = make(variant, config)
    adam = optimiser(net)
    frames = clips(batch, config, 12, (495, 436)) if traffic else clips(batch)
    step(net, adam, frames[:1, :5, :, :16, :16], variant)
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    started, worked = time.perf_counter(), cpu()
    step(net, adam, frames, variant)
    top = resident("VmHWM")
    return {
        "peak_rss_MB": megabytes(top),
        "peak_growth_MB_a_sample": megabytes((top - before) / batch),
        "cpu_s": round(cpu() - worked, 1),
        "wall_s": round(time.perf_counter() - started, 1),
    }


def resident(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) * 1024
