"""Where a model's name becomes a model."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from flows.config import RunConfig
from flows.model_config import NAIVE
from pipeline.forecasters import Forecaster, MovingAverage, Persistence, Zeros
from pipeline.mix import Mix, fitted_mix
from pipeline.store import Store
from pipeline.windows import Cut


def build_models(config: RunConfig, store: Store, names: Iterable[str]) -> dict[str, Forecaster]:
    """Return forecasters of a city by name; what must be fitted is fitted, or found fitted."""
    names = list(names)
    fitted = {"climatology", "mix"} & set(names)
    mix = fit(config, store) if fitted else None
    return {
        name: _build(name, mix) if re.fullmatch(NAIVE, name) else _load(config, store, name)
        for name in names
    }


def fit(config: RunConfig, store: Store) -> Mix:
    """Return the mix of a city's training days, from its file or fitted anew."""
    edition = store.edition
    cut = Cut(edition.frames_per_day, config.history, edition.leads, config.stride)
    return fitted_mix(fitted_path(config, store), store, cut, workers=max(1, config.workers))


def fitted_path(config: RunConfig, store: Store) -> Path:
    """Return where a city's fitted mix is kept."""
    return config.out / "fitted" / f"{store.city.name}.nc"


def identity(config: RunConfig, store: Store, name: str) -> str:
    """Return what tells a model from any other, its fitted values included."""
    if name in {"climatology", "mix"}:
        return f"{name} {fit(config, store).fingerprint}"
    if re.fullmatch(NAIVE, name):
        return name
    from flows.networks import checksum

    return f"{checksum(config, name)} {config.forecasting.bfloat16}"


def _load(config: RunConfig, store: Store, name: str) -> Forecaster:
    from flows.networks import load_network  # with torch: only where there is a network

    return load_network(config, store, name)


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
