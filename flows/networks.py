"""Trained networks as forecasters: loaded from their files, and only for what they learned."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from crevnet.checkpoint import CheckpointError, load_model
from crevnet.correction import Correction
from crevnet.devices import OtherProcessError, find_device
from crevnet.loop import DivergedError
from crevnet.task import Task
from crevnet.zoo import ZooError
from flows.blueprint import frames_of
from flows.cities import name_of
from flows.config import RunConfig
from flows.examples import CityInputs
from flows.network_forecaster import NetworkForecaster, Told
from flows.window_inputs import WindowInputs
from pipeline.context import label, planes
from pipeline.editions import Edition
from pipeline.errors import ModelError
from pipeline.flips import forecast_mirrors
from pipeline.kept_fits import digest
from pipeline.store import Store
from pipeline.usual import mix_weights


@contextmanager
def named_faults() -> Iterator[None]:
    """Turn what `crevnet` refuses into an error that a person is told."""
    try:
        yield
    except (CheckpointError, ZooError, DivergedError, OtherProcessError) as fault:
        raise ModelError(str(fault)) from None


def model_path(config: RunConfig, name: str) -> Path:
    """Return the file of a trained model: as named, or the one that `t4c train` makes."""
    return (
        Path(name)
        if name.endswith(".safetensors")
        else models_folder(config) / f"{name}.safetensors"
    )


def models_folder(config: RunConfig) -> Path:
    """Return where trained models are kept."""
    return config.out / "models"


def load_network(
    config: RunConfig, store: Store, name: str, *, alone: bool = False
) -> NetworkForecaster:
    """Return a trained network as a forecaster of a city, or its base alone.

    A city that it did not learn from is met as `forecasting.unseen_city` says. Where that allows
    it, the naive mix below its word is fitted on the city too, if any day of it may be used.

    Raises:
        ModelError: There is no such file, it is damaged, or it was trained for another edition,
            city, grid, history or set of days.
        ConfigError: Its forecasts cannot be mirrored, and should be.
    """
    path = model_path(config, name)
    if not path.is_file():
        raise ModelError(f"{path}: no such model; `t4c train` makes those of the configuration")
    mirrors = forecast_mirrors(store.edition, store.city, config.forecasting.flips)
    device = device_of(config)
    if config.forecasting.threads:
        torch.set_num_threads(config.forecasting.threads)
    with named_faults():
        network, task, extra = load_model(path, device)
    _check(path, network, task, extra, config, store)
    correction = Correction(network, task).eval()
    how = config.forecasting
    city = name_of(task.edition, store.edition, store.city)
    common = (device, how.batch, how.bfloat16, mirrors)
    if city not in task.cities:
        task, inputs = _unseen(task, extra, config, store)
        correction = Correction(network, task).eval()
        return NetworkForecaster(correction.to(device), inputs, *common, alone=alone)
    days, fitted = _days(extra, "days", city), _entry(extra, "fitted", city)
    if days is None or not isinstance(fitted, str):
        raise ModelError(f"{path}: does not say which days of {city} it was fitted on")
    unknown = sorted({*days} - {*store.days("training")})
    if unknown:
        raise ModelError(f"{path}: fitted on days that {city}'s store does not have: {unknown}")
    if digest(store, days) != fitted:
        raise ModelError(f"{path}: days of {city} were other ones when it was trained")
    before = days_learned(task, extra).get(label(store.edition, store.city), [])
    learned = tuple(sorted({*before, *(_days(extra, "learned", city) or days)}))
    fit = _inputs(task, extra, config, store, days)
    return NetworkForecaster(correction.to(device), fit, *common, learned, alone)


def _inputs(
    task: Task, extra: dict[str, Any], config: RunConfig, store: Store, days: Sequence[str]
) -> CityInputs:
    return CityInputs.fit(
        store,
        days,
        task.base,
        task.inputs,
        config.out / "fitted",
        interpolated=task.interpolated,
        known=known_cities(extra),
        workers=max(1, config.workers),
        cluster=config.cluster,
    )


def _unseen(
    task: Task, extra: dict[str, Any], config: RunConfig, store: Store
) -> tuple[Task, Told]:
    """Return the task and what is told of a city that a network did not learn from."""
    if config.forecasting.unseen_city == "window":
        return task, WindowInputs.of(task, store.edition, store.city, known_cities(extra))
    days, folder = store.days("training"), config.out / "fitted"
    if task.base == "mix":
        workers = max(1, config.workers)
        weights = mix_weights(store, days, config.cut(store.edition), folder, workers=workers)
        task = replace(task, weights=tuple(tuple(map(float, row)) for row in weights))
    return task, _inputs(task, extra, config, store, days)


def days_learned(task: Task, extra: dict[str, Any]) -> dict[str, list[str]]:
    """Return the days that a network's weights learned, those of its start too, by city's label."""
    found: dict[str, set[str]] = {}
    for name in ("inherited", "learned"):
        by_city = extra.get(name)
        for city in by_city if isinstance(by_city, dict) else ():
            where = city if "/" in city else f"{task.edition}/{city}"
            found.setdefault(where, set()).update(_days(extra, name, city) or ())
    return {city: sorted(days) for city, days in found.items()}


def known_cities(extra: dict[str, Any]) -> tuple[str, ...]:
    """Return the cities that have a plane of `city`, as a model's file says."""
    known = extra.get("known")
    return tuple(map(str, known)) if isinstance(known, list) else ()


def _entry(extra: dict[str, Any], name: str, city: str) -> Any:
    by_city = extra.get(name)
    return by_city.get(city) if isinstance(by_city, dict) else None


def _days(extra: dict[str, Any], name: str, city: str) -> list[str] | None:
    days = _entry(extra, name, city)
    whole = isinstance(days, list) and all(isinstance(day, str) for day in days)
    return days if whole else None


def checksum(config: RunConfig, name: str) -> str:
    """Return the sha256 of a trained model's file.

    Raises:
        ModelError: There is none.
    """
    path = model_path(config, name)
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as fault:
        raise ModelError(f"{path}: {fault.strerror}; `t4c train` makes it") from None


def device_of(config: RunConfig) -> torch.device:
    """Return where networks forecast.

    Raises:
        ModelError: This machine has no such device.
    """
    try:
        return find_device(config.forecasting.device)
    except ValueError as fault:
        raise ModelError(f"forecasting.device: {fault}") from None


def _check(
    path: Path,
    network: torch.nn.Module,
    task: Task,
    extra: dict[str, Any],
    config: RunConfig,
    store: Store,
) -> None:
    edition, city = store.edition, store.city
    channels = edition.frame_shape[2]
    known = known_cities(extra)
    static = planes(task.inputs, edition, known) + (channels if task.recent else 0)
    wanted = {
        "extra planes": (getattr(network.config, "static_channels", static), static),
        "channels of a frame": (getattr(network.config, "channels", channels), channels),
        **frame_facts(task, extra, config, edition),
    }
    unseen = name_of(task.edition, edition, city) not in task.cities
    if unseen and config.forecasting.unseen_city == "refuse":
        wanted["edition"] = (task.edition, edition.name)
    faults = differences(wanted)
    if unseen and config.forecasting.unseen_city == "refuse":
        faults.append(
            f"cities {list(task.cities)}, and not {city.name} "
            "(forecasting.unseen_city can allow that)"
        )
    if faults:
        raise ModelError(f"{path}: learned {'; '.join(faults)}")


def frame_facts(
    task: Task, extra: dict[str, Any], config: RunConfig, edition: Edition
) -> dict[str, tuple[Any, Any]]:
    """Return what a network's frames were, and what those of a run are."""
    facts: dict[str, tuple[Any, Any]] = {
        "channels": (task.channels, edition.channels),
        "leads": (task.leads, edition.leads),
        "history": (task.history, config.history),
        "frames": (extra.get("frames", frames_of(edition)), frames_of(edition)),
    }
    if task.grid is not None:
        facts["grid"] = (task.grid, edition.frame_shape[:2])
    return facts


def differences(facts: dict[str, tuple[Any, Any]]) -> list[str]:
    """Say in which facts what was learned is not what is here."""
    return [
        f"{what} {learned}, but this run has {here}"
        for what, (learned, here) in facts.items()
        if learned != here
    ]
