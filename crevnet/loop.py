"""The loop: a step, what follows it, and when to stop; every process does the same."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Protocol

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import nn

from crevnet.batch import Batch
from crevnet.budget import Clock
from crevnet.devices import refuse_batch_norm, total
from crevnet.evaluation import Evaluation, evaluate
from crevnet.interruption import Interrupted, Signals
from crevnet.learner import Learner, LearnerBatch
from crevnet.objectives import correction_of
from crevnet.optimisation import rate
from crevnet.settings import TrainingSettings
from crevnet.training_folder import TrainingFolder


class DivergedError(Exception):
    """A loss or gradient that is not a number; names the step and the windows."""


class Batches(Protocol):
    """One process's training batches, in an order that depends on the epoch alone."""

    def __len__(self) -> int:
        """Batches of an epoch, the same number for every process."""
        ...

    def batches(self, epoch: int, first: int = 0) -> Iterator[LearnerBatch]:
        """Yield an epoch's batches from one on: the same, whether those before were read or not."""
        ...


class Loop:
    """A training in flight.

    A step is closed when it was scored, if that was due, noted and saved. A state between the two
    knows of it: a training that goes on first closes the step.
    """

    def __init__(
        self,
        trainee: Learner,
        batches: Batches,
        held_out: Iterable[Batch] | None,
        settings: TrainingSettings,
        fabric: Fabric,
        kept: TrainingFolder,
        signals: Signals,
    ) -> None:
        self.trainee, self.batches, self.held_out = trainee, batches, held_out
        self.settings, self.fabric, self.kept, self.signals = settings, fabric, kept, signals
        if fabric.world_size > 1:
            refuse_batch_norm(trainee)
        self.budget = settings.budget().in_steps(len(batches), settings.accumulate)
        self.module, self.stepper = fabric.setup(trainee, kept.optimiser)
        kept.open()
        now = kept.now
        mine = fabric.global_rank == 0  # what earlier runs used is counted once
        self.clock = Clock(now.seconds, now.cpu_seconds) if mine else Clock()
        self.noted = (now.examples, now.seconds)  # at the curve's last row
        self.paused = 0.0  # for evaluations since then
        self.torn = False  # apart from the other processes, which may be anywhere

    def run(self) -> None:
        """Do steps until the end.

        Raises:
            DivergedError: A loss or a gradient is not finite.
            Interrupted: A signal asked to stop; the state is saved.
        """
        stream = _stream(self.batches, self.kept.now.epoch, self.kept.now.position)
        self.trainee.train()
        try:
            while not self.kept.now.finished:
                if not self.kept.now.closed:
                    with self._undone():
                        self._close_step()
                else:
                    self._step(stream)
        except Interrupted:
            self.kept.save()
            if not self.torn:
                self.fabric.barrier()  # who leaves first takes the others along
            raise

    @property
    def progress(self) -> float:
        """Share of the budget that is used up."""
        now = self.kept.now
        return self.budget.progress(now.step, now.seconds, now.cpu_seconds)

    def _step(self, stream: Iterator[LearnerBatch]) -> None:
        with self._undone():
            loss, asked = self._gradient(stream)
        now = self.kept.now
        for group in self.kept.optimiser.param_groups:
            group["lr"] = now.learning_rate
        self.stepper.step()
        self.stepper.zero_grad()
        if self.kept.average:
            self.kept.average.update(self.kept.network)
        now.step += 1
        now.loss_sum, now.loss_steps = now.loss_sum + loss, now.loss_steps + 1
        now.closed = False
        if asked:
            raise self._interrupted()

    def _gradient(self, stream: Iterator[LearnerBatch]) -> tuple[float, bool]:
        """Gather a step's gradient; return its loss, and whether to stop after the step."""
        now, settings = self.kept.now, self.settings
        now.learning_rate = settings.learning_rate * rate(
            settings.schedule, settings.warmup, self.progress
        )
        loss, windows = 0.0, list[str]()
        for part in range(settings.accumulate):
            batch = next(stream)
            value = self._learn(batch, last=part == settings.accumulate - 1)
            loss += value / settings.accumulate
            windows += batch.where if not math.isfinite(value) else ()
        loss, asked = self._agree(loss)
        if not math.isfinite(loss):
            said = ", ".join(windows) or "of another process"
            raise DivergedError(f"step {now.step + 1}: loss {loss}; windows {said}")
        limit = settings.clip_norm or math.inf
        norm = nn.utils.clip_grad_norm_(self.trainee.parameters(), limit)
        now.grad_norm = float(norm)
        if not math.isfinite(now.grad_norm):
            said = ", ".join(batch.where)
            raise DivergedError(f"step {now.step + 1}: gradient {now.grad_norm}; windows {said}")
        return loss, asked

    def _learn(self, batch: LearnerBatch, *, last: bool) -> float:
        """Add a batch's gradients to the step's; return its loss."""
        now, fabric = self.kept.now, self.fabric
        _seed(self.settings.seed, now.batches, fabric.global_rank)
        with nullcontext() if last else fabric.no_backward_sync(self.module):
            loss = self.module(batch.to(fabric.device), memory=self.settings.memory)
            fabric.backward(loss / self.settings.accumulate)
        now.batches += 1
        now.examples += batch.size * fabric.world_size
        now.position += 1
        if now.position == len(self.batches):
            now.epoch, now.position = now.epoch + 1, 0
        return float(loss.item())

    def _close_step(self) -> None:
        """Score if it is time, note, save; see whether that was all."""
        now, every = self.kept.now, self.settings.evaluate_every
        used = self.progress
        units = int(min(used, 1) / every + 1e-9 if every < 1 else now.step / every)
        due = self.held_out is not None and (units > now.evaluations or used >= 1)
        more = self._evaluate() if due else {}
        now.evaluations = units
        if self.settings.patience and now.stale >= self.settings.patience:
            now.finished = "patience"
        if self.progress >= 1:  # the evaluation may have used up the rest
            now.finished = "budget"
        if now.finished and self.held_out is None:
            self.kept.keep_best()
        if due or now.finished or now.step % self.settings.log_every == 0:
            held_out = Evaluation.of(now.last).mse if due and now.last else None
            self.kept.note(held_out, self._speed(), more)
            self.noted, self.paused = (now.examples, now.seconds), 0.0
        now.closed = True
        self.kept.save(at_once=due or bool(now.finished))

    def _evaluate(self) -> dict[str, float]:
        """Score the network; return the parts of the score by name."""
        now, correction, held_out = self.kept.now, correction_of(self.trainee), self.held_out
        assert held_out is not None
        began = now.seconds
        if now.naive is None and correction.task.base != "none":
            now.naive = evaluate(correction, held_out, self.fabric, naive=True).to_list()
        with self.kept.scored():
            said = evaluate(correction, held_out, self.fabric, between=self._heed)
        now.last, now.evaluated_step = said.to_list(), now.step
        before = math.inf if now.best is None else Evaluation.of(now.best).mse
        if said.mse < before:
            now.best, now.best_step, now.stale = now.last, now.step, 0
            self.kept.keep_best()
        else:
            now.stale += 1
        self._agree(0.0)
        self.paused += now.seconds - began
        names = correction.task.channels or tuple(map(str, range(len(said.by_channel))))
        leads = zip(correction.task.leads, said.by_lead, strict=True)
        return {
            **{f"held_out_mse/{name}": v for name, v in zip(names, said.by_channel, strict=False)},
            **{f"held_out_mse/lead_{lead}": value for lead, value in leads},
        }

    def _agree(self, loss: float) -> tuple[float, bool]:
        """Read the clocks; return the loss's mean, and whether any process was asked to stop."""
        now, fabric = self.kept.now, self.fabric
        wall = self.clock.seconds() if fabric.global_rank == 0 else 0.0
        heard = float(bool(self.signals.heard))
        values = (wall, self.clock.cpu_seconds(), heard, loss / fabric.world_size)
        now.seconds, now.cpu_seconds, stop, mean = total(fabric, values)
        return mean, stop > 0

    def _speed(self) -> float:
        examples, seconds = self.noted
        spent = self.kept.now.seconds - seconds - self.paused
        return (self.kept.now.examples - examples) / spent if spent > 0 else 0.0

    @contextmanager
    def _undone(self) -> Iterator[None]:
        """Stop as if nothing inside had begun, where a signal took a reader or a process along."""
        before = replace(self.kept.now)
        buffers = [(buffer, buffer.clone()) for buffer in self.trainee.buffers()]
        try:
            yield
        except (OSError, RuntimeError) as fault:
            if not self.signals.heard:
                raise
            self.kept.now, self.torn = before, True
            for buffer, value in buffers:
                buffer.copy_(value)
            raise self._interrupted() from fault

    def _heed(self) -> None:
        """Leave an evaluation where one process alone decides: it is made again later."""
        if self.signals.heard and self.fabric.world_size == 1:
            raise self._interrupted()

    def _interrupted(self) -> Interrupted:
        reason, step = self.signals.heard or "another process's signal", self.kept.now.step
        return Interrupted(f"{reason} after step {step}; run again to go on", step)


def _stream(batches: Batches, epoch: int, position: int) -> Iterator[LearnerBatch]:
    while True:
        yield from batches.batches(epoch, position)
        epoch, position = epoch + 1, 0


def _seed(seed: int, batches: int, rank: int) -> None:
    """Give dropout numbers that depend on the place in the training alone."""
    torch.manual_seed(int(np.random.SeedSequence((seed, batches, rank)).generate_state(1)[0]))
