"""A training that is over in a second, also as a program of its own, to be killed or multiplied."""

from __future__ import annotations

import argparse
import atexit
import json
import os
import signal
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import nn

import crevnet.training_state
from crevnet.batch import Example, collate
from crevnet.correction import Correction
from crevnet.devices import end_processes, first_process_first, start_fabric
from crevnet.folder_lock import FolderLock
from crevnet.interruption import Interrupted
from crevnet.objectives import RollOut, Trainee
from crevnet.settings import TrainingSettings
from crevnet.task import Task
from crevnet.training import train

C, H, W = 2, 6, 5
TASK = Task(leads=(0, 2), history=4, base="climatology", scale=2.0, channels=("volume", "speed"))


class Toy(nn.Module):
    """Says the next frame from one, with dropout; one-step predictions, then a free roll-out."""

    def __init__(self, static=0, dropout=0.2):
        super().__init__()
        self.enter = nn.Conv2d(C + static, 6, 3, padding=1)
        self.norm = nn.GroupNorm(2, 6)
        self.drop = nn.Dropout(dropout)
        self.leave = nn.Conv2d(6, C, 1)

    def unroll(self, history, horizon, static=None, *, memory="plain"):
        said = []
        for t in range(history.shape[1] - 1 + horizon):
            now = history[:, t] if t < history.shape[1] else said[-1]
            seen = now if static is None else torch.cat((now, static), 1)
            said.append(now + self.leave(self.drop(torch.tanh(self.norm(self.enter(seen))))))
        return torch.stack(said, 1)


def example(index, task=TASK, static=0):
    rng = np.random.default_rng(index)
    frames = rng.integers(0, 256, (task.history + task.horizon, C, H, W), dtype=np.uint8)
    usual = rng.random(frames.shape).astype(np.float16) if task.needs_usual else None
    extra = rng.random((static, H, W)).astype(np.float16) if static else None
    future = frames[task.history :][list(task.leads)]
    return Example(frames[: task.history], future, usual, extra, f"window {index}")


class Movies:
    """Windows in an order that depends on the epoch; each process takes its part of a batch."""

    def __init__(self, count=10, size=2, rank=0, world=1, task=TASK, die_at=-1):
        self.count, self.size, self.rank, self.world, self.task = count, size, rank, world, task
        self.die_at, self.seen = die_at, 0

    def __len__(self):
        return self.count // self.size

    def batches(self, epoch, first=0):
        order = np.random.default_rng((7, epoch)).permutation(self.count)
        for place in range(first, len(self)):
            if self.seen == self.die_at:
                os.kill(os.getpid(), signal.SIGKILL)
            self.seen += 1
            torch.rand(3)  # a loader draws numbers too: they must not matter
            chosen = order[place * self.size : (place + 1) * self.size][self.rank :: self.world]
            yield collate([example(int(i), self.task) for i in chosen])


def trainee(seed=0, task=TASK, **kind):
    torch.manual_seed(seed)
    return Trainee(Correction(Toy(**kind), task), RollOut(teacher=0.5))


def held_out(task=TASK):
    return [collate([example(i, task) for i in (100, 101, 102)]), collate([example(103, task)])]


def settings(**given):
    plain = {"batch": 2, "steps": 12, "learning_rate": 0.01, "ema": 0.9, "evaluate_every": 5}
    known = {"accelerator": "cpu", "save_every_seconds": 0, "log_every": 2, "threads": 1}
    if {"epochs", "minutes", "cpu_seconds"} & set(given):
        del plain["steps"]
    return TrainingSettings(**(plain | known | given))


def main():
    options = argparse.ArgumentParser()
    options.add_argument("folder", type=Path)
    for name in ("die-at", "die-writing", "stop-at"):
        options.add_argument(f"--{name}", type=int, default=-1)
    for name, default in (("steps", 12), ("devices", 1), ("accumulate", 1), ("batch", 2)):
        options.add_argument(f"--{name}", type=int, default=default)
    options.add_argument("--precision", default="32")
    options.add_argument("--dropout", type=float, default=0.2)
    options.add_argument("--crevnet", default="")
    options.add_argument("--disagree", action="store_true")
    asked = options.parse_args()
    chosen = settings(
        steps=asked.steps,
        devices=asked.devices,
        accumulate=asked.accumulate,
        batch=asked.batch,
        precision=asked.precision,
        memory=asked.crevnet or "plain",
    )
    fabric = start_fabric(chosen)
    if asked.disagree:
        return disagree(fabric, asked.folder)
    movies = Movies(12, asked.batch, fabric.global_rank, fabric.world_size, die_at=asked.die_at)
    pupil = trainee(dropout=asked.dropout)
    if asked.crevnet:
        pupil.correction.network = tiny_crevnet()
    if asked.die_writing >= 0:
        die_writing(asked.die_writing)
    last = fabric.global_rank == fabric.world_size - 1
    if asked.stop_at >= 0 and last:
        stop_at(pupil, asked.stop_at)
    atexit.register(end_processes, fabric)
    shared = held_out()[: 1 if asked.crevnet else 2][fabric.global_rank :: fabric.world_size]
    try:
        train(pupil, movies, shared, chosen, asked.folder, fabric=fabric)
    except Interrupted as asked_to:
        sys.stdout.write(f"{asked_to}\n")
        return 75
    if fabric.global_rank == 0:
        torch.save(pupil.correction.network.state_dict(), asked.folder / "final.pt")
    return 0


def disagree(fabric, folder):
    """Fail in one process of two, or in both, in every way; write down what each hears of it."""
    rank, said = fabric.global_rank, {}

    @contextmanager
    def heard(name):
        try:
            yield
            said[name] = "nothing"
        except Exception as fault:
            said[name] = f"{type(fault).__name__}: {fault}"
        (folder / f"said-{rank}").write_text(json.dumps(said))

    def learn(where, pupil=None):
        movies = Movies(12, 4, rank, 2)
        chosen = settings(devices=2, batch=4, steps=4)
        train(pupil or trainee(), movies, held_out()[rank:], chosen, where, fabric=fabric)

    with heard("order"), first_process_first(fabric):
        if rank == 0:
            time.sleep(0.5)
            (folder / "fitted").touch()
        assert (folder / "fitted").exists()
    with heard("first fails"), first_process_first(fabric):
        raise KeyError("mine" if rank == 0 else "never")
    with heard("second fails"), first_process_first(fabric):
        if rank == 1:
            raise KeyError("mine")
    learn(folder / "shared")
    with heard("two folders"):
        learn(folder / ("shared" if rank == 0 else "apart"))
    with heard("batch norm"):
        pupil = trainee()
        pupil.correction.network.norm = nn.BatchNorm2d(6)
        learn(folder / "batch", pupil)
    lock = FolderLock(folder / "shared") if rank == 0 else None
    with heard("locked"):
        learn(folder / "shared")
    if lock:
        lock.let_go()
    learn(folder / "shared")
    with heard("first is gone"), first_process_first(fabric):
        if rank == 0:
            os._exit(0)
    return 0


def tiny_crevnet():
    from crevnet.config import CrevNetConfig
    from crevnet.model import CrevNet

    torch.manual_seed(0)
    return CrevNet(
        CrevNetConfig(channels=C, dims=2, clip=2, blocks=(1, 1), strides=(1, 2), modules=2)
    )


def die_writing(state):
    """Die in the middle of writing the state for the n-th time."""
    written = [0]

    def write(value, file):
        if written[0] == state:
            file.write(b"half a state")
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        written[0] += 1
        save(value, file)

    save = torch.save
    crevnet.training_state.torch.save = write


def stop_at(pupil, passes):
    """Be asked to stop in the middle of the n-th forward pass of training."""
    seen = [0]

    def ask(*_):
        seen[0] += 1
        if seen[0] == passes:
            os.kill(os.getpid(), signal.SIGTERM)

    pupil.register_forward_pre_hook(ask)


if __name__ == "__main__":
    sys.exit(main())
