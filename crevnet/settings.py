"""How a network is trained: everything a person chooses, checked before work starts."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from crevnet.autoencoder import MemoryMode
from crevnet.budget import Budget, Kind
from crevnet.optimisation import Schedule

Accelerator = Literal["cpu", "cuda", "auto"]
Precision = Literal["32", "bf16"]

NO_MATTER = ("accelerator", "devices", "nodes", "threads", "save_every_seconds", "log_every")
"""Settings that a resumed run may change: the training is the same, up to rounding."""


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """How a network is trained, for how long and on what.

    Exactly one of `steps`, `epochs`, `minutes` and `cpu_seconds` is the budget. Minutes and
    CPU-seconds count everything from the first step on, evaluations and loader workers too, and
    go on counting after a resume.

    Attributes:
        batch: Examples of a batch, over all processes.
        accumulate: Batches of a step.
        learning_rate: At its highest.
        weight_decay: Of AdamW; biases and norms have none.
        warmup: Share of the budget in which the learning rate rises.
        schedule: What comes after: *cosine* falls to zero, *one_cycle* rises and falls as half
            cosines, *constant* stays, *fifth* drops to a fifth after five sixths.
        clip_norm: Largest norm of a step's gradient; 0 is no limit.
        ema: Decay of the weights' average, which is then what is scored and saved; 0 is none.
        steps: Budget in steps.
        epochs: Budget in passes over the training windows.
        minutes: Budget in minutes of wall time.
        cpu_seconds: Budget in CPU-seconds of all processes.
        evaluate_every: Share of the budget when below 1, else steps.
        patience: Evaluations without a better one that end the training; 0 is no such end.
        seed: Of dropout; those of weights and data belong to who makes them.
        precision: *bf16* runs convolutions in bfloat16; weights stay float32.
        memory: *frugal* keeps no activations, where the network can do so.
        accelerator: `"cpu"`, `"cuda"`, or `"auto"`.
        devices: Processes on each machine, a device each.
        nodes: Machines.
        threads: Of a process; 0 leaves it to torch.
        save_every_seconds: How often the state is saved between evaluations; 0 is every step.
        log_every: Steps between two rows of the curve.
    """

    batch: int = 8
    accumulate: int = 1
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    warmup: float = 0.05
    schedule: Schedule = "cosine"
    clip_norm: float = 1.0
    ema: float = 0.0
    steps: int | None = None
    epochs: float | None = None
    minutes: float | None = None
    cpu_seconds: float | None = None
    evaluate_every: float = 0.1
    patience: int = 0
    seed: int = 0
    precision: Precision = "32"
    memory: MemoryMode = "plain"
    accelerator: Accelerator = "auto"
    devices: int = 1
    nodes: int = 1
    threads: int = 0
    save_every_seconds: float = 300.0
    log_every: int = 10

    def __post_init__(self) -> None:
        self.budget()
        for name, least in (
            ("batch", 1),
            ("accumulate", 1),
            ("devices", 1),
            ("nodes", 1),
            ("log_every", 1),
            ("weight_decay", 0),
            ("clip_norm", 0),
            ("patience", 0),
            ("threads", 0),
            ("seed", 0),
            ("save_every_seconds", 0),
        ):
            if not getattr(self, name) >= least:
                raise ValueError(f"{name} {getattr(self, name)}, expected at least {least}")
        for name in ("learning_rate", "evaluate_every"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} {getattr(self, name)}, expected above 0")
        for name in ("warmup", "ema"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)}, expected in [0, 1)")
        if self.evaluate_every > 1 and self.evaluate_every != int(self.evaluate_every):
            raise ValueError(f"evaluate_every {self.evaluate_every}, expected a share or steps")
        for name, known in (
            ("schedule", get_args(Schedule)),
            ("precision", get_args(Precision)),
            ("memory", get_args(MemoryMode)),
            ("accelerator", get_args(Accelerator)),
        ):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} {getattr(self, name)!r}, expected one of {known}")
        if self.batch % (self.devices * self.nodes):
            raise ValueError(f"batches of {self.batch} over {self.devices} x {self.nodes} devices")

    def budget(self) -> Budget:
        """Return the budget.

        Raises:
            ValueError: There is none, more than one, or nothing in it.
        """
        given = {kind: getattr(self, kind) for kind in get_args(Kind)}
        found = {kind: amount for kind, amount in given.items() if amount is not None}
        if len(found) != 1:
            raise ValueError(f"budget {found}, expected exactly one of {get_args(Kind)}")
        kind, amount = found.popitem()
        return Budget(kind, float(amount))

    def what_matters(self) -> dict[str, Any]:
        """Return the settings that decide what is learned, as plain values."""
        return {name: value for name, value in asdict(self).items() if name not in NO_MATTER}
