"""Where a model's name becomes a model."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from flows.config import RunConfig
from flows.model_config import ALONE, NAIVE
from pipeline.errors import ConfigError
from pipeline.forecasters import Forecaster, MovingAverage, Persistence, Zeros
from pipeline.kept_fits import digest
from pipeline.mix import Mix, fitted_mix
from pipeline.store import Store
from pipeline.yaml_files import validate


def build_models(config: RunConfig, store: Store, names: Iterable[str]) -> dict[str, Forecaster]:
    """Return forecasters of a city by name; what must be fitted is fitted, or found fitted."""
    names = list(names)
    ensembles = [name for name in names if name in config.ensembles]
    members = [member for name in ensembles for member in config.ensembles[name].members]
    single = [name for name in (*names, *members) if name not in config.ensembles]
    mix = fit(config, store) if {"climatology", "mix"} & set(single) else None
    built = {
        name: _build(name, mix) if re.fullmatch(NAIVE, name) else _load(config, store, name)
        for name in dict.fromkeys(single)
    }
    if ensembles:
        from flows.ensembles import build_ensemble

        built |= {name: build_ensemble(config, store, name, built) for name in ensembles}
    return {name: built[name] for name in names}


def checked(config: RunConfig, names: Iterable[str]) -> list[str]:
    """Return models that a person named, if there are such.

    Raises:
        ConfigError: A name is no naive forecast, model or ensemble of the run.
    """
    found = list(names)
    maps = config.maps.model_dump() | {"models": found}
    validate(RunConfig, config.model_dump() | {"maps": maps}, "--model", ConfigError)
    return found


def fit(config: RunConfig, store: Store) -> Mix:
    """Return the mix of a city's training days, from its file or fitted anew."""
    path, cut = fitted_path(config, store), config.cut(store.edition)
    workers = max(1, config.workers)
    return fitted_mix(path, store, cut, workers=workers, cluster=config.cluster)


def fitted_path(config: RunConfig, store: Store) -> Path:
    """Return where a city's fitted mix is kept."""
    return config.out / "fitted" / f"{store.city.name}.nc"


def identity(config: RunConfig, store: Store, name: str) -> str:
    """Return what tells a model from any other, its fitted values included."""
    if name in {"climatology", "mix"}:
        return f"{name} {fit(config, store).fingerprint}"
    if re.fullmatch(NAIVE, name):
        return name
    if name in config.ensembles:
        from flows.ensembles import ensemble_identity

        return ensemble_identity(config, store, name)
    from flows.networks import checksum

    how = config.forecasting
    flips = f" {sorted({*how.flips})}" if how.flips else ""
    unseen = ""
    if how.unseen_city != "refuse":
        unseen = f" {how.unseen_city} {digest(store, store.days('training'))}"
    said = name.removesuffix(ALONE)
    alone = name.removeprefix(said)
    return f"{checksum(config, said)}{alone} {how.bfloat16}{flips}{unseen}"


def _load(config: RunConfig, store: Store, name: str) -> Forecaster:
    from flows.networks import load_network  # with torch: only where there is a network

    network = name.removesuffix(ALONE)
    return load_network(config, store, network, alone=network != name)


def _build(name: str, mix: Mix | None) -> Forecaster:
    if mix is not None and name == "mix":
        return mix
    if mix is not None and name == "climatology":
        return mix.climatology
    if name == "zeros":
        return Zeros()
    if name == "persistence":
        return Persistence()
    if name == "window_mean":
        return MovingAverage()
    return MovingAverage(int(name.removeprefix("moving_average_")))
