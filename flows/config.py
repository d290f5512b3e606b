"""One run, as a person types it: a YAML file that is checked whole before work starts."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field, field_validator, model_validator

from flows.model_config import (
    ALONE,
    NAIVE,
    Compare,
    Ensemble,
    Forecasting,
    Maps,
    Model,
    ModelName,
    Promotion,
    Submit,
    TrainedName,
)
from flows.release_config import Cells, Prepare, Synth
from flows.section import Section
from pipeline.catalog import DEFAULT_CATALOG, read_edition
from pipeline.editions import City, Days, Edition
from pipeline.errors import ConfigError, WindowError
from pipeline.probes.settings import Rasterising
from pipeline.test_slots import with_slots
from pipeline.windows import Cut
from pipeline.yaml_files import parse_yaml, read_yaml, validate

S = TypeVar("S", bound=Section)


class RunConfig(Section):
    """Everything that shapes a run. Paths are taken from the folder `t4c` is started in."""

    edition: str = Field(description="Entry of the data catalogue.")
    catalog: Path | None = Field(None, description="Another catalogue than the one built in.")
    cities: tuple[str, ...] | None = Field(None, description="Cities; all, if not given.")
    grid: tuple[Cells, Cells] | None = Field(
        None, description="Rows and columns, if not the edition's: a rehearsal on a smaller city."
    )
    validation: Days | None = Field(
        None, description="Days kept from training, where the release does not tell them apart."
    )
    release: Path = Field(description="Root of the release's day files.")
    store: Path = Field(description="Where `ingest` keeps its re-chunked days.")
    out: Path = Field(description="Where tables, submissions and maps go.")
    truth: Path | None = Field(None, description="Root of the truth of the test days, if known.")
    workers: int = Field(2, ge=0, le=256, description="Processes; 0 works in this one alone.")
    cluster: str | None = Field(None, description="Address of a Dask scheduler.")
    history: int = Field(9, ge=1, description="Frames a model sees.")
    stride: int = Field(9, ge=1, description="Frames from one scored window to the next.")
    ladder: tuple[ModelName, ...] = Field(
        ("persistence", "zeros", "moving_average_3", "window_mean", "climatology", "mix"),
        min_length=1,
        description="What `score` compares.",
    )
    masks: str | None = Field(
        None,
        description="Masks to score on besides, `{city}` in the path; the release's static maps, "
        "if not given.",
    )
    prepare: Prepare | None = Field(None, description="What `prepare-test` cuts.")
    synth: Synth = Field(default_factory=lambda: Synth())
    rasterise: Rasterising | None = Field(None, description="How GPS points become days.")
    submit: Submit = Field(default_factory=lambda: Submit())
    maps: Maps = Field(default_factory=lambda: Maps())
    models: dict[TrainedName, Model] = Field(
        default_factory=dict, description="Networks that `train` trains, by name."
    )
    ensembles: dict[TrainedName, Ensemble] = Field(
        default_factory=dict, description="Models that are sums of others, by name."
    )
    compare: Compare | None = Field(None, description="What `compare` trains and scores.")
    promotion: Promotion | None = Field(None, description="What `promote` trains and puts in use.")
    forecasting: Forecasting = Field(default_factory=lambda: Forecasting())

    @field_validator("cities")
    @classmethod
    def _each_once(cls, cities: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if cities is not None and (not cities or len(set(cities)) < len(cities)):
            raise ValueError("name at least one city, each once")
        return cities

    @model_validator(mode="after")
    def _names_of_its_own(self) -> RunConfig:
        for kind in ("models", "ensembles"):
            if naive := [name for name in getattr(self, kind) if re.fullmatch(NAIVE, name)]:
                raise ValueError(f"{kind}: {naive} are names of naive forecasts")
        if twice := sorted({*self.models} & {*self.ensembles}):
            raise ValueError(f"ensembles: {twice} are names of models")
        if self.promotion is not None:
            self.promotion.check_names([*self.models], [*self.ensembles])
        return self

    @model_validator(mode="after")
    def _known_starts(self) -> RunConfig:
        for name, model in self.models.items():
            start = model.start_from
            if start is None or start.endswith(".safetensors"):
                continue
            if start not in self.models or start == name:
                others = [other for other in self.models if other != name]
                raise ValueError(f"models.{name}.start_from: no {start!r}; there are {others}")
        return self

    @model_validator(mode="after")
    def _known_names(self) -> RunConfig:
        several = [
            *(("ladder", name) for name in self.ladder),
            ("submit.model", self.submit.model),
            *(("maps.models", name) for name in self.maps.models),
            *(("maps.baseline", name) for name in [self.maps.baseline] if name),
            *(("promotion.against", p.against) for p in [self.promotion] if p),
        ]
        networks = {*self.models, *([self.promotion.pointer] if self.promotion else [])}
        alone = [
            *(("compare.models", name) for name in (self.compare.models if self.compare else ())),
            *(
                (f"ensembles.{ensemble}.members", name)
                for ensemble, section in self.ensembles.items()
                for name in section.members
            ),
        ]
        for key, name in several + alone:
            frames = name.removeprefix("moving_average_")
            if frames.isdecimal() and int(frames) > self.history:
                raise ValueError(f"{name} takes {frames} frames, but history is {self.history}")
            network = name.removesuffix(ALONE)
            if network in networks or network.endswith(".safetensors"):
                continue
            if re.fullmatch(NAIVE, name):
                continue
            if name not in self.ensembles:
                raise ValueError(
                    f"{key}: {name!r} is no naive forecast, and models has {[*self.models]}, "
                    f"ensembles {[*self.ensembles]}"
                )
            if (key, name) in alone:
                raise ValueError(f"{key}: {name!r} is an ensemble itself")
        return self

    def read_edition(self) -> Edition:
        """Return the edition from the catalogue, on the run's grid, with the slots of its release.

        Raises:
            CatalogError: The catalogue or the table of the slots is faulty, or there is no such
                edition.
            ConfigError: The run's validation days are not for it to choose.
        """
        edition = read_edition(self.edition, self.catalog or DEFAULT_CATALOG)
        if self.grid is not None:
            edition = replace(edition, height=self.grid[0], width=self.grid[1])
        if self.validation is not None:
            if edition.layout.training != edition.layout.validation:
                raise ConfigError(
                    f"validation: {edition.name} has a folder of validation days, expected none"
                )
            edition = replace(edition, splits={"validation": self.validation})
        roots = [self.release, *([self.truth] if self.truth else []), self.store]
        return with_slots(edition, roots)

    def check_flips(self) -> None:
        """Refuse forecasts of mirrored cities where headings cannot be mirrored back.

        Raises:
            ConfigError: The edition keeps headings as codes.
        """
        if self.forecasting.flips:
            from pipeline.flips import forecast_mirrors

            for city in self.chosen_cities():
                forecast_mirrors(self.read_edition(), city, self.forecasting.flips)

    def cut(self, edition: Edition, stride: int | None = None) -> Cut:
        """Return how windows are cut from a day; `stride` apart, as they are scored.

        Raises:
            ConfigError: A window is longer than a day.
        """
        frames = edition.frames_per_day
        try:
            return Cut(frames, self.history, edition.leads, stride or self.stride)
        except WindowError as fault:
            raise ConfigError(f"history: {fault}") from None

    def chosen_edition(self) -> Edition:
        """Return the edition with the run's cities alone."""
        return replace(self.read_edition(), cities=tuple(self.chosen_cities()))

    def chosen_cities(self) -> list[City]:
        """Return the cities of the run, in the order of the edition.

        Raises:
            ConfigError: The edition has not got one of them.
        """
        edition = self.read_edition()
        known = [city.name for city in edition.cities]
        unknown = [name for name in self.cities or () if name not in known]
        if unknown:
            raise ConfigError(f"cities: {edition.name} has no {unknown}; it has {known}")
        return [city for city in edition.cities if self.cities is None or city.name in self.cities]


def read_config(path: Path, overrides: list[str] | None = None) -> RunConfig:
    """Return a run's configuration.

    Args:
        path: A YAML file, or the name of one that comes with the package (`demo`).
        overrides: `key=value` or `section.key=value`, each value read as YAML.

    Raises:
        ConfigError: The file or an override is not what it should be; lists every fault.
    """
    config = read_as(RunConfig, path, overrides)
    config.chosen_cities()
    config.check_flips()
    return config


def read_as(kind: type[S], path: Path, overrides: list[str] | None = None) -> S:
    """Return a configuration of some kind; arguments and errors as for `read_config`."""
    path = shipped(path)
    value = read_yaml(path, ConfigError)
    for override in overrides or []:
        _apply(value, override)
    return validate(kind, value, str(path), ConfigError)


def shipped(path: Path) -> Path:
    """Return a configuration's file: as given, or one of that name that comes with the package."""
    ours = Path(__file__).resolve().parent.parent / "configs" / f"{path.name}.yaml"
    return ours if not path.is_file() and path.name == str(path) and ours.exists() else path


def _apply(value: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set {override}: expected key=value")
    *sections, last = key.split(".")
    for section in sections:
        value = value.setdefault(section, {})
        if not isinstance(value, dict):
            raise ConfigError(f"--set {override}: {section} is not a section")
    value[last] = parse_yaml(text, f"--set {override}", ConfigError)
