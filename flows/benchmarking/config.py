"""A benchmark, as a person types it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from flows.benchmarking.sections import Footage, Learned, Scored
from flows.model_config import TRAINED, Training
from flows.section import Section
from pipeline.movie_metrics import METRICS

NAIVE = ("copy_last", "zeros")
"""Always in the table."""
PAPER = {"steps": 300_000, "batch": 16}
ModelName = Annotated[str, Field(pattern=rf"^{TRAINED}$")]


class Budget(Section):
    """How long every model learns; one of these."""

    steps: int | None = Field(None, ge=1, description="Steps.")
    minutes: float | None = Field(None, gt=0, description="Minutes of wall time, for a GPU.")
    cpu_minutes: float | None = Field(None, gt=0, description="Minutes of CPU time.")

    @model_validator(mode="after")
    def _one(self) -> Budget:
        if sum(value is not None for value in (self.steps, self.minutes, self.cpu_minutes)) != 1:
            raise ValueError("give exactly one of steps, minutes, cpu_minutes")
        return self


class Published(Section):
    """The paper's figures, printed beside."""

    mse: float | None = Field(None, description="Squared error summed over a frame.")
    ssim: float | None = Field(None, description="Structural similarity, of the next frame.")
    psnr: float | None = Field(None, description="dB, of the next frame.")
    ssim_at: dict[int, float] = Field(
        default_factory=dict, description="Structural similarity of later frames, from 1."
    )
    memory_mb: float | None = Field(None, description="Memory a sample.")


class BenchmarkModel(Section):
    """A network to train and score."""

    network: str = Field(description="A name that `t4c models` lists.")
    change: dict[str, Any] = Field(
        default_factory=dict, description="Values of the network's config to change."
    )
    objective: Literal["roll_out", "teacher_forcing"] = Field(
        "roll_out",
        description="Error of the forecast, rolled out; or of every clip said from the true one "
        "before it, as the CrevNet authors train.",
    )
    teacher: float = Field(
        0.0, ge=0, description="roll_out: weight of one-step predictions of the history."
    )
    structure: float = Field(
        0.0, ge=0, description="roll_out: weight of 1 - SSIM of the forecast, beside its error."
    )
    new_frame: float = Field(
        1.0, ge=0, description="teacher_forcing: weight of a clip's new frame; others weigh 1."
    )
    scale: float = Field(1.0, gt=0, description="What it sees and says is so many times as large.")
    sees: int | None = Field(
        None, ge=1, description="Last frames of the history that it sees; all, if not given."
    )
    training: Training = Field(default_factory=lambda: Training())
    paper: Published = Field(default_factory=lambda: Published())

    @model_validator(mode="after")
    def _weights_of_the_objective(self) -> BenchmarkModel:
        others = ["teacher", "structure"] if self.objective == "teacher_forcing" else ["new_frame"]
        fields = type(self).model_fields
        if idle := [name for name in others if getattr(self, name) != fields[name].default]:
            raise ValueError(f"{idle} are not of the objective {self.objective}")
        return self


class Scoring(Section):
    """How forecasts are made and scored."""

    metrics: tuple[str, ...] = Field(
        (*METRICS,), min_length=1, description=f"Of {', '.join(METRICS)}, and lpips if installed."
    )
    protocol: Literal["authors", "clean"] = Field(
        "clean", description="How overlapping clips are rolled out; the other is reported beside."
    )
    clip: bool = Field(True, description="Clip forecasts to [0, 1] before they are scored.")
    device: str = Field("auto", description="cpu, cuda, cuda:1, or auto.")
    batch: int = Field(10, ge=1, description="Sequences at a time.")
    threads: int = Field(0, ge=0, description="Of the process; 0 leaves it to torch.")

    @model_validator(mode="after")
    def _known(self) -> Scoring:
        if unknown := [name for name in self.metrics if name not in {*METRICS, "lpips"}]:
            raise ValueError(f"metrics: no {unknown}; there are {[*METRICS, 'lpips']}")
        if "frame_sse" not in self.metrics:
            raise ValueError("metrics: frame_sse is what models are ranked by, and is missing")
        return self


class Pictures(Section):
    """Sequences to look at."""

    sequences: tuple[int, ...] = Field((0, 1, 2), description="By number.")
    hard: int = Field(2, ge=0, description="And so many of those whose digits overlap most.")
    zoom: int = Field(2, ge=1, le=8, description="Pixels of the picture for one of the frame.")


class Costs(Section):
    """How time and memory are measured, each model in processes of its own."""

    measure: bool = Field(True, description="Whether to; counted costs are always there.")
    batches: tuple[int, int] = Field(
        (1, 3), description="Two batch sizes; memory a sample is the slope between their peaks."
    )
    rounds: int = Field(2, ge=1, description="Steps and forecasts timed.")

    @model_validator(mode="after")
    def _rising(self) -> Costs:
        if not 0 < self.batches[0] < self.batches[1]:
            raise ValueError(f"batches: {list(self.batches)}, expected rising from 1")
        return self


class BenchmarkConfig(Section):
    """Everything that shapes a benchmark. Paths are taken from the folder `t4c` is started in."""

    title: str = Field("Moving MNIST", description="Of the tables.")
    data: str = Field("moving_mnist", description="Entry of the data catalogue.")
    catalog: Path | None = Field(None, description="Another catalogue than the one built in.")
    digits: Path | None = Field(None, description="Folder of the digits' files.")
    fetch: bool = Field(False, description="Fetch digits that are not there.")
    store: Path | None = Field(None, description="Where fixed sets are kept.")
    out: Path = Field(description="Where models, tables and pictures go.")
    networks: Path | None = Field(
        None, description="Where trained networks are; `out`/models, if not given."
    )
    history: int = Field(10, ge=1, description="Frames a model sees; it says the others.")
    training: Learned = Field(description="Sequences to learn from.")
    validation: Scored = Field(description="Sequences that choose the best weights.")
    test: Scored = Field(description="Sequences that are scored.")
    schedule: Literal["paper"] | Budget = Field(
        description="paper: 300,000 steps of 16; or an equal budget for every model."
    )
    seeds: tuple[int, ...] = Field((0,), min_length=1, description="A training each.")
    models: dict[ModelName, BenchmarkModel] = Field(min_length=1, description="By name.")
    score: Scoring = Field(default_factory=lambda: Scoring())
    pictures: Pictures = Field(default_factory=lambda: Pictures())
    costs: Costs = Field(default_factory=lambda: Costs())
    published: dict[str, Published] = Field(
        default_factory=dict, description="Figures of others to print beside, by name."
    )

    @model_validator(mode="after")
    def _names(self) -> BenchmarkConfig:
        if taken := [name for name in self.models if name in NAIVE]:
            raise ValueError(f"models: {taken} are names of naive forecasts")
        if late := [n for n, m in self.models.items() if (m.sees or 0) > self.history]:
            raise ValueError(f"models: {late} see more than the {self.history} frames of a history")
        if len({*self.seeds}) < len(self.seeds):
            raise ValueError(f"seeds: {list(self.seeds)} name one twice")
        if self.validation.set == self.test.set:
            raise ValueError(
                f"validation: {self.validation.set} is the test set, and may not choose weights"
            )
        return self

    @model_validator(mode="after")
    def _one_kind(self) -> BenchmarkConfig:
        sections = self.training, self.validation, self.test
        videos = [isinstance(section, Footage) for section in sections]
        if any(videos) != all(videos):
            raise ValueError("training, validation, test: videos and digits, expected one kind")
        if not any(videos) and (
            missing := [n for n in ("digits", "store") if not getattr(self, n)]
        ):
            raise ValueError(f"{', '.join(missing)}: missing, and needed for Moving MNIST")
        if all(videos) and getattr(self.validation, "horizon", 0) != self.training_horizon:
            raise ValueError(
                f"validation.horizon: expected training's, {self.training_horizon}: "
                "weights are chosen by what was learned"
            )
        return self

    @property
    def training_horizon(self) -> int | None:
        """Frames that a video's windows to learn from leave to say; digits' say none."""
        return self.training.horizon if isinstance(self.training, Footage) else None

    @property
    def edition(self) -> str:
        """The catalogue's entry of what is learned from."""
        return self.training.data if isinstance(self.training, Footage) else self.data

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of a frame's channels."""
        videos = isinstance(self.training, Footage)
        return ("red", "green", "blue") if videos else ("brightness",)

    def runs(self) -> dict[str, tuple[str, int]]:
        """Return the model and seed of every training, by the training's name."""
        if len(self.seeds) == 1:
            return {name: (name, self.seeds[0]) for name in self.models}
        return {f"{name}_seed{seed}": (name, seed) for name in self.models for seed in self.seeds}

    def training_of(self, name: str, seed: int) -> dict[str, Any]:
        """Return a model's training settings under the schedule, as plain values."""
        own = self.models[name].training.model_dump()
        own |= {"steps": None, "epochs": None, "minutes": None, "cpu_seconds": None, "seed": seed}
        if self.schedule == "paper":
            return own | {**PAPER, "batch": own["batch"] if self.training_horizon else 16}
        assert isinstance(self.schedule, Budget)
        minutes = self.schedule.cpu_minutes
        return own | {
            "steps": self.schedule.steps,
            "minutes": self.schedule.minutes,
            "cpu_seconds": None if minutes is None else minutes * 60,
        }

    def says_schedule(self) -> str:
        """Return the schedule in words."""
        if self.schedule == "paper":
            return "300,000 steps of 16"
        assert isinstance(self.schedule, Budget)
        plan = self.schedule
        if plan.steps:
            return f"{plan.steps:,} steps each"
        return (
            f"{plan.minutes:g} min each" if plan.minutes else f"{plan.cpu_minutes:g} CPU-min each"
        )
