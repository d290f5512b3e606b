"""What a training leaves in its folder, and finds there when it goes on."""

from __future__ import annotations

import logging
import resource
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from crevnet.averaging import Average
from crevnet.curves import Curves, Row
from crevnet.devices import first_process_first, least_and_most
from crevnet.folder_lock import FolderInUseError, FolderLock
from crevnet.learner import Learner
from crevnet.optimisation import adamw
from crevnet.settings import TrainingSettings
from crevnet.training_state import (
    Progress,
    TrainingState,
    TrainingStateError,
    load_state,
    save_state,
    sweep,
)

STATE = "state.pt"
SAY_SECONDS = 30.0
LOG = logging.getLogger(__name__)

SaveBest = Callable[[dict[str, Tensor]], object]


class TrainingFolder:
    """All of a training that is kept: progress, weights, their average, the best, the optimiser.

    Every process has one and reads the same files; the first process alone writes.
    """

    def __init__(
        self,
        folder: Path,
        trainee: Learner,
        settings: TrainingSettings,
        fabric: Fabric,
        save_best: SaveBest | None = None,
    ) -> None:
        self.folder, self.trainee, self.settings, self.fabric = folder, trainee, settings, fabric
        self.network = trainee.network
        self.optimiser = adamw(trainee, settings.learning_rate, settings.weight_decay)
        self.average: Average | None = None
        self.best: dict[str, Tensor] = {}
        self.now = Progress()
        self.identity: dict[str, Any] = {}
        self._save_best = save_best if fabric.global_rank == 0 else None
        self._curves: Curves | None = None
        self._lock: FolderLock | None = None
        self._saved_at = self._said_at = time.monotonic()

    def identify(self, **data: Any) -> None:
        """Say what it is a training of, as plain values: what a state must agree with."""
        config = getattr(self.network, "config", None)
        self.identity = {
            **{f"data: {name}": value for name, value in data.items()},
            **self.trainee.identity(),
            **{f"settings: {name}": v for name, v in self.settings.what_matters().items()},
            **{f"weights {name}": list(v.shape) for name, v in self.network.state_dict().items()},
            "network": f"{type(self.network).__name__} {'' if config is None else repr(config)}",
        }

    def open(self) -> None:
        """Go on from the folder's state, if it has one; the network is on its device already.

        Raises:
            OtherProcessError: Another process could not.
            TrainingStateError: The state is damaged, or another training's; the folder is in use,
                or not the same one for every process.
        """
        if self.settings.ema:
            self.average = Average(self.network, self.settings.ema)
        with first_process_first(self.fabric):
            if self.fabric.global_rank == 0:
                self._take()
            if (self.folder / STATE).exists():
                self._restore(self.folder / STATE)
            if self.fabric.global_rank == 0 and not self.now.finished:
                known = self.now.step if self.now.closed else self.now.step - 1
                self._curves = Curves(self.folder, known)
        least, most = least_and_most(self.fabric, self.now.step)
        if least != most:
            raise TrainingStateError(
                f"{self.folder}: holds step {least:.0f} for one process and step {most:.0f} for "
                "another; it must be one folder that all machines share"
            )

    def _take(self) -> None:
        try:
            self._lock = FolderLock(self.folder)
        except FolderInUseError as fault:
            raise TrainingStateError(
                f"{fault}, which trains into it; wait for that one or stop it, or train into "
                "another folder"
            ) from None
        sweep(self.folder / STATE)

    def _restore(self, path: Path) -> None:
        state = load_state(path, self.identity)
        try:
            self.network.load_state_dict(state.weights)
            self.optimiser.load_state_dict(state.optimiser)
            if self.average:
                self.average.restore(state.average, state.average_updates)
        except Exception as fault:  # what is missing or misshaped makes torch raise many kinds
            said = f"{type(fault).__name__}: {fault}"
            raise TrainingStateError(f"{path}: does not fit the network: {said}") from None
        self.now, self.best = state.progress, state.best
        self.export()

    def close(self) -> None:
        """Close the curves, and let others have the folder."""
        try:
            if self._curves:
                self._curves.close()
        finally:
            if self._lock:
                self._lock.let_go()

    def scored(self) -> AbstractContextManager[None]:
        """Give the network, for a while, the weights that are scored: averaged ones, if any."""
        return self.average.swapped(self.network) if self.average else nullcontext()

    def keep_best(self) -> None:
        """Keep the weights that were scored as the best, and export them."""
        values = self.average.values if self.average else self.network.state_dict()
        self.best = {name: value.detach().cpu().clone() for name, value in values.items()}
        self.export()

    def export(self) -> None:
        """Hand the best weights to who asked for them."""
        if self._save_best and self.best:
            self._save_best(dict(self.best))

    def note(self, held_out: float | None, speed: float, more: Mapping[str, float]) -> None:
        """Add a row to the curves."""
        now = self.now
        if self._curves:
            row = Row(
                now.step,
                now.epoch,
                now.examples,
                now.seconds,
                now.cpu_seconds,
                now.learning_rate,
                now.loss_sum / max(now.loss_steps, 1),
                now.grad_norm,
                held_out,
                _memory(self.fabric.device),
                speed,
            )
            self._curves.write(row, more)
            self._say(row)
        now.loss_sum, now.loss_steps = 0.0, 0

    def _say(self, row: Row) -> None:
        """Tell whoever listens how far it is; not every row, as there may be thousands."""
        if row.held_out_mse is None and time.monotonic() - self._said_at < SAY_SECONDS:
            return
        self._said_at = time.monotonic()
        held_out = "" if row.held_out_mse is None else f", held-out MSE {row.held_out_mse:.6g}"
        LOG.info("%s: step %d, loss %.6g%s", self.folder.name, row.step, row.loss, held_out)

    def save(self, *, at_once: bool = True) -> None:
        """Write the state; if not at once, then when the last time is long enough ago."""
        if self.fabric.global_rank != 0:
            return
        if not at_once and time.monotonic() - self._saved_at < self.settings.save_every_seconds:
            return
        if self._curves:
            self._curves.flush()
        state = TrainingState(
            self.identity,
            self.now,
            dict(self.network.state_dict()),
            self.optimiser.state_dict(),
            self.average.values if self.average else {},
            self.average.updates if self.average else 0,
            self.best,
        )
        save_state(self.folder / STATE, state)
        self._saved_at = time.monotonic()


def _memory(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
