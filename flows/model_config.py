"""The part of a configuration that says what is trained, and how."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from flows.section import Section

NAIVE = r"zeros|persistence|window_mean|moving_average_[1-9][0-9]*|climatology|mix"
TRAINED = r"[a-z][a-z0-9_-]*"
ALONE = "@base"
"""Behind a network's name: its base alone, without the network's word."""
ModelName = Annotated[str, Field(pattern=rf"^({NAIVE}|({TRAINED}|.+\.safetensors)({ALONE})?)$")]
"""A naive forecast, a model of the configuration or its file, or the base alone of such a one."""
TrainedName = Annotated[str, Field(pattern=rf"^{TRAINED}$")]


class OtherCities(Section):
    """Cities of another store that a network learns from too; their frames must mean the same."""

    edition: str = Field(description="Entry of the data catalogue.")
    catalog: Path | None = Field(None, description="Another catalogue than the run's.")
    store: Path = Field(description="Where `ingest` keeps their days.")
    cities: tuple[str, ...] | None = Field(None, min_length=1, description="All, if not given.")


class Reading(Section):
    """How a training reads its days."""

    stride: int = Field(1, ge=1, description="Frames from one training window to the next.")
    held_out: int = Field(
        2, ge=0, description="Last training days, kept apart to stop early and to choose."
    )
    held_out_stride: int = Field(9, ge=1, description="Frames between held-out windows.")
    days: int | None = Field(
        None,
        ge=1,
        description="Take only so many training days of each city, the last ones; held-out days "
        "are among them. All, if not given.",
    )
    also: tuple[OtherCities, ...] = Field(
        (), description="Learn from cities of other stores and editions too."
    )
    forget_city: float = Field(
        0.1, ge=0, le=1, description="Share of examples whose `city` planes are zero."
    )
    crop: tuple[int, int] | None = Field(
        None, description="Rows and columns of a piece cut at random; whole frames, if not given."
    )
    flips: tuple[Literal["rows", "columns"], ...] = Field(
        (), description="Mirror half the examples: rows, columns."
    )
    days_at_once: int | None = Field(
        None, ge=1, description="Days that windows are shuffled over; what memory allows, if none."
    )
    workers: int = Field(0, ge=0, le=64, description="Processes that read; 0 reads in this one.")
    start: Literal["spawn", "fork", "forkserver"] = Field(
        "spawn", description="How they are started."
    )


class Training(Section):
    """How a network is trained: the fields of `crevnet.settings.TrainingSettings`, as they are."""

    batch: int = Field(8, ge=1, description="Windows of a batch, over all processes.")
    accumulate: int = Field(1, ge=1, description="Batches of a step.")
    learning_rate: float = Field(1e-3, gt=0, description="At its highest.")
    weight_decay: float = Field(0.01, ge=0, description="Of AdamW.")
    warmup: float = Field(0.05, ge=0, lt=1, description="Share of the budget it rises in.")
    schedule: Literal["cosine", "one_cycle", "constant", "fifth"] = Field(
        "cosine", description="What comes after."
    )
    clip_norm: float = Field(1.0, ge=0, description="Largest norm of a gradient; 0 is no limit.")
    ema: float = Field(0.0, ge=0, lt=1, description="Decay of the weights' average; 0 is none.")
    steps: int | None = Field(None, ge=1, description="Budget in steps.")
    epochs: float | None = Field(None, gt=0, description="Budget in passes over all windows.")
    minutes: float | None = Field(None, gt=0, description="Budget in minutes.")
    cpu_seconds: float | None = Field(None, gt=0, description="Budget in CPU-seconds.")
    evaluate_every: float = Field(0.1, gt=0, description="Share of the budget, or steps.")
    patience: int = Field(0, ge=0, description="Evaluations without a better one; 0 is no end.")
    seed: int = Field(0, ge=0, description="Of weights, order, augmentation and dropout.")
    precision: Literal["32", "bf16"] = Field("32", description="Of convolutions.")
    memory: Literal["plain", "frugal"] = Field("plain", description="Frugal keeps no activations.")
    accelerator: str = Field("auto", description="cpu, cuda or auto.")
    devices: int = Field(1, ge=1, description="Processes on each machine.")
    nodes: int = Field(1, ge=1, description="Machines.")
    threads: int = Field(0, ge=0, description="Of a process; 0 leaves it to torch.")
    save_every_seconds: float = Field(300.0, ge=0, description="Between saved states.")
    log_every: int = Field(10, ge=1, description="Steps between two rows of the curve.")


class Model(Section):
    """A network to train."""

    start_from: str | None = Field(
        None,
        pattern=rf"^({TRAINED}|.+\.safetensors)$",
        description="Begin with the weights of a trained model, of this or another city: a model's "
        "name or file. Network, change, base, scale, sees, recent and inputs are its own.",
    )
    network: str = Field("small_traffic_2d", description="A name that `t4c models` lists.")
    change: dict[str, Any] = Field(
        default_factory=dict, description="Values of the network's config to change."
    )
    base: Literal["none", "window_mean", "climatology", "mix"] = Field(
        "mix", description="What its word is a correction to."
    )
    interpolated: bool = Field(
        False, description="Take what is usual from lines between the hours, not from steps."
    )
    levels: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (), description="Add to the base how the city stands within so many cells, fitted."
    )
    scale: float = Field(4.0, gt=0, description="What it sees and says is so many times as large.")
    sees: int | None = Field(
        None, ge=1, description="Last frames of the history that it sees; all, if not given."
    )
    recent: bool = Field(
        False, description="Put in the mean of the whole history too, for one that sees less."
    )
    inputs: tuple[str, ...] = Field(("activity",), description="Extra input planes, by name.")
    refit: bool = Field(
        True, description="Forecast with what is usual on all training days, held-out ones too."
    )
    teacher: float = Field(0.0, ge=0, description="Weight of one-step predictions in the loss.")
    channel_weights: tuple[float, ...] | None = Field(
        None, description="Weight of each channel in the loss; all alike, if not given."
    )
    reading: Reading = Field(default_factory=lambda: Reading())
    training: Training = Field(default_factory=lambda: Training(epochs=1))


class Ensemble(Section):
    """Several models as one: their weighted sum."""

    members: tuple[ModelName, ...] = Field(
        min_length=2, description="Models by name, of the configuration or not, or their files."
    )
    weights: Literal["equal", "fitted"] = Field(
        "fitted", description="A plain mean, or weights of each lead and channel by least squares."
    )
    held_out: int = Field(
        2, ge=1, description="Last training days, which weights are fitted on; no member's own."
    )

    @field_validator("members")
    @classmethod
    def _each_once(cls, members: tuple[str, ...]) -> tuple[str, ...]:
        if len({*members}) < len(members):
            raise ValueError(f"{list(members)} name one twice")
        return members


class Promotion(Section):
    """Which network is trained again and again, and when a new one takes the place of the old."""

    model: TrainedName = Field(description="Which of the run's models is trained.")
    pointer: TrainedName = Field("best", description="Name that the network in use is known by.")
    margin: float = Field(
        gt=0, lt=1, description="Share of the error that must be gone, on the validation days."
    )
    against: ModelName = Field("mix", description="What to beat while none is in use.")
    keep: int = Field(3, ge=0, description="Networks set aside that are kept, the latest ones.")

    def check_names(self, models: Sequence[str], ensembles: Sequence[str]) -> None:
        """Refuse a network that the run has not got, and a pointer that is another model's name.

        Raises:
            ValueError: For pydantic to tell.
        """
        if self.model not in models:
            raise ValueError(f"promotion.model: no {self.model!r}; there are {[*models]}")
        if self.pointer in {*models, *ensembles} or re.fullmatch(NAIVE, self.pointer):
            raise ValueError(f"promotion.pointer: {self.pointer!r} is the name of another model")


class Compare(Section):
    """What `t4c compare` trains and scores."""

    models: tuple[TrainedName, ...] = Field(min_length=1, description="Which, by name.")
    cpu_seconds: float | None = Field(None, gt=0, description="Budget of each training.")
    minutes: float | None = Field(None, gt=0, description="The same in minutes, for a GPU.")
    seeds: tuple[int, ...] = Field((0,), min_length=1, description="A training each.")


class Forecasting(Section):
    """How a trained network forecasts."""

    device: str = Field("auto", description="cpu, cuda, cuda:1, or auto.")
    batch: int = Field(4, ge=1, description="Windows at a time.")
    bfloat16: bool = Field(False, description="Run convolutions in bfloat16.")
    unseen_city: Literal["refuse", "training_days", "window"] = Field(
        "refuse",
        description="What to do with a network that did not learn from a city: refuse it; fit what "
        "it is told besides the frames on the city's training days; or make that of each window's "
        "own history, which takes no day of the city.",
    )
    flips: tuple[Literal["rows", "columns"], ...] = Field(
        (), description="Take the mean with forecasts of the mirrored city: rows, columns."
    )
    threads: int = Field(0, ge=0, description="Of the process; 0 leaves it to torch.")


class Submit(Section):
    """What `t4c submit` writes."""

    model: ModelName = Field("mix", description="What forecasts the test days.")
    file: str = Field("submission.zip", pattern=r"^[^/]+\.zip$", description="Name, under `out`.")
    gzip: int = Field(4, ge=0, le=9, description="Compression level of the members.")


class Maps(Section):
    """What `t4c maps` draws, and `t4c report` tells."""

    models: tuple[ModelName, ...] = Field(("mix",), min_length=1, description="Whose errors.")
    baseline: ModelName | None = Field(None, description="Against whom skill is counted.")
    false_discovery: float = Field(
        0.05, gt=0, lt=1, description="Share of the cells marked as different that may be chance."
    )
    parts: tuple[Literal["channel", "lead", "hour", "weekday"], ...] = Field(
        ("channel", "lead", "hour", "weekday"), description="Of what errors are drawn apart."
    )
    scale: tuple[float, float] | None = Field(
        None, description="Ends of the scale of errors, to compare with maps of another run."
    )
    themes: tuple[Literal["light", "dark"], ...] = Field(
        ("light",), min_length=1, description="Papers to draw on; `dark` adds `_dark` to names."
    )

    @field_validator("scale")
    @classmethod
    def _rising(cls, scale: tuple[float, float] | None) -> tuple[float, float] | None:
        if scale is not None and not 0 < scale[0] < scale[1]:
            raise ValueError("expected two rising numbers above 0")
        return scale
