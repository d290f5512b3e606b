"""`prefect.yaml` as we read it: what runs by itself, when, and on which configuration.

`prefect deploy --all` understands the same file. Configurations stand in it by name; they are read
when they are deployed, so what a server holds is what the file said then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo

from pydantic import AliasChoices, Field, field_validator

from flows.benchmarking.config import BenchmarkConfig
from flows.config import read_as, read_config, shipped
from flows.section import Section
from pipeline.errors import ConfigError
from pipeline.yaml_files import read_yaml, validate

HERE = Path(__file__).resolve().parent
DEFAULT_PLAN = next(
    (path for path in (HERE.parent / "prefect.yaml", HERE / "prefect.yaml") if path.is_file()),
    HERE / "prefect.yaml",
)
READ: Literal["flows.serving_plan.read"] = "flows.serving_plan.read"


class Schedule(Section):
    """When."""

    cron: str = Field(description="Five fields: minute, hour, day, month, weekday.")
    timezone: str = Field(description="IANA name; nights are where people sleep, not in UTC.")

    @field_validator("timezone")
    @classmethod
    def _known(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (KeyError, ValueError, OSError):
            raise ValueError("expected an IANA time zone") from None
        return name


class Limit(Section):
    """How many runs of one deployment there are at a time."""

    limit: int = Field(ge=1)
    collision_strategy: Literal["ENQUEUE", "CANCEL_NEW"] = "ENQUEUE"


class Pool(Section):
    """Who runs it."""

    name: str
    work_queue_name: str = "default"


class Trigger(Section):
    """Which events start a run."""

    expect: tuple[str, ...] = Field(min_length=1)
    match: dict[str, str]


class Planned(Section):
    """A deployment."""

    name: str
    entrypoint: str = Field(pattern=r"^flows\.deployments\.\w+$")
    description: str = ""
    tags: tuple[str, ...] = ()
    parameters: dict[str, Any]
    schedules: tuple[Schedule, ...] = ()
    triggers: tuple[Trigger, ...] = ()
    concurrency_limit: Limit | None = None
    work_pool: Pool


class Reading(Section):
    """A configuration to read, and what parameters call it."""

    id: str = Field(pattern=r"^[a-z_]\w*$")
    config: str


class PlanFile(Section):
    """The whole file."""

    prefect_version: str | None = Field(None, validation_alias=AliasChoices("prefect-version"))
    name: str | None = None
    build: tuple[dict[Literal["flows.serving_plan.read"], Reading], ...]
    push: None = None
    pull: tuple[dict[str, dict[str, Any]], ...]
    deployments: tuple[Planned, ...] = Field(min_length=1)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to run by itself.

    Attributes:
        deployments: With the contents of their configurations as parameters.
        pull: Steps that a worker takes before a run.
        left_out: Lines that say which deployments the configurations cannot do, and why.
    """

    deployments: tuple[Planned, ...]
    pull: tuple[dict[str, Any], ...]
    left_out: list[str] = field(default_factory=list)


def read(config: str) -> dict[str, Any]:
    """Return a configuration, checked whole, as a step of `prefect.yaml` gives it to others.

    Returns:
        `config`, what the file sets, as plain values, and `name`, the name of its data.

    Raises:
        ConfigError: It is not what it should be.
    """
    path = Path(config)
    is_run = "edition" in read_yaml(shipped(path), ConfigError)
    found = read_config(path) if is_run else read_as(BenchmarkConfig, path)
    return {"config": found.model_dump(mode="json", exclude_unset=True), "name": found.edition}


def read_plan(path: Path = DEFAULT_PLAN, configs: Sequence[str] = ()) -> Plan:
    """Return the deployments of a file, those of some configurations alone if any are given.

    Args:
        path: The file.
        configs: `id=FILE`, or `FILE` for the one called `run`.

    Raises:
        ConfigError: The file or a configuration is not what it should be.
    """
    file = validate(PlanFile, read_yaml(path, ConfigError), str(path), ConfigError)
    readings = {step[READ].id: step[READ].config for step in file.build}
    chosen = _chosen(configs, readings, path)
    values = {name: read(config) for name, config in (chosen or readings).items()}
    found, left_out = [], []
    for planned in file.deployments:
        raw = planned.model_dump(mode="json")
        if not (used := [name for name in readings if f"{{{{ {name}." in str(raw)]):
            raise ConfigError(f"{path}: {planned.name}: takes none of {[*readings]}")
        if not {*used} <= {*values}:
            continue
        filled = validate(Planned, _filled(raw, values), f"{path}: {planned.name}", ConfigError)
        if (why := _unable(filled)) is not None:
            left_out.append(f"{planned.name} left out: {why}")
            continue
        found.append(filled)
    return Plan(tuple(found), file.pull, left_out)


def _chosen(configs: Sequence[str], readings: Mapping[str, str], path: Path) -> dict[str, str]:
    chosen = {}
    for config in configs:
        name, equals, file = config.partition("=")
        name, file = (name, file) if equals else ("run", config)
        if name not in readings:
            raise ConfigError(f"{path}: no configuration is called {name!r}: {[*readings]}")
        chosen[name] = file
    return chosen


def _filled(raw: Any, values: dict[str, Any]) -> Any:
    from prefect.utilities.templating import apply_values

    return apply_values(raw, values)


def _unable(planned: Planned) -> str | None:
    """Return why a configuration cannot do what is planned, if so."""
    config = planned.parameters.get("config", {})
    if planned.entrypoint.endswith(".promote") and not config.get("promotion"):
        return "its configuration has no `promotion`"
    return None
