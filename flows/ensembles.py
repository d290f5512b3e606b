"""Ensembles of a configuration: their members, and weights fitted on days kept apart."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flows.config import RunConfig
from flows.models import fit, identity
from flows.recipe import progress
from flows.training_days import split_days
from pipeline.atomic import write_json
from pipeline.ensemble import Combination, equal_weights, error_products, fit_weights
from pipeline.errors import ModelError, StoreError
from pipeline.forecasters import Forecaster
from pipeline.kept_fits import digest, note_use
from pipeline.left_out import LeftOutMix
from pipeline.sources import TrafficSource
from pipeline.store import Store
from pipeline.usual import UsualFrames
from pipeline.windows import WindowPlan

FIT_VERSION = 1
"""Of the way weights are fitted: a new one fits every ensemble anew."""


def build_ensemble(
    config: RunConfig, store: Store, name: str, built: Mapping[str, Forecaster]
) -> Combination:
    """Return an ensemble of a city; weights are fitted, or found fitted.

    Args:
        config: The run.
        store: The city's days.
        name: Which of its ensembles.
        built: Its members, by name; there may be others.

    Raises:
        ConfigError: More days are held out than there are.
        ModelError: A member learned from the days that weights are fitted on.
    """
    section, edition = config.ensembles[name], store.edition
    members = tuple(built[member] for member in section.members)
    shape = len(edition.leads), len(edition.channels), len(members)
    if section.weights == "equal":
        return Combination(members, equal_weights(*shape))
    days = held_out_days(config, store, name)
    for member in section.members:
        learned = {*getattr(built[member], "learned", ())}  # what networks have and others have not
        if seen := sorted(learned & {*days}):
            raise ModelError(
                f"ensembles.{name}: {member} learned from {seen} of {store.city.name}, which the "
                f"weights would be fitted on; hold them out of its training (reading.held_out), "
                "lower held_out, or set weights: equal"
            )
    path = weights_path(config, store, name)
    with suppress(StoreError):  # weights that are missing or spoiled are fitted again
        weights = load_weights(path, shape)
        note_use(path)
        return Combination(members, weights)
    source = TrafficSource(store, WindowPlan(store.city.name, days, config.cut(store.edition)))
    fair = [_left_out(config, store, member, built[member]) for member in section.members]
    with progress(f"fit {name} {store.city.name}", len(source)) as tick:
        weights = fit_weights(error_products(source, fair, progress=tick))
    facts = {
        "ensemble": name,
        "city": store.city.name,
        "days": list(days),
        "windows": len(source),
        "members": list(section.members),
        "leads": list(edition.leads),
        "channels": list(edition.channels),
        "weights": weights.tolist(),
    }
    write_json(path, facts)
    note_use(path)
    return Combination(members, weights)


def ensemble_identity(config: RunConfig, store: Store, name: str) -> str:
    """Return what tells an ensemble from any other: its members, and what weights follow from."""
    section = config.ensembles[name]
    days = held_out_days(config, store, name) if section.weights == "fitted" else ()
    members = [identity(config, store, member) for member in section.members]
    return digest(store, days, "ensemble", FIT_VERSION, members, config.cut(store.edition))


def held_out_days(config: RunConfig, store: Store, name: str) -> tuple[str, ...]:
    """Return the training days that the weights of an ensemble are fitted on: the last ones."""
    return split_days(store, config.ensembles[name].held_out)[1]


def weights_path(config: RunConfig, store: Store, name: str) -> Path:
    """Return where the fitted weights of a city are kept, by all that they follow from."""
    key = ensemble_identity(config, store, name)
    return config.out / "fitted" / f"ensemble_{name}_{store.city.name}_{key[:16]}.json"


def load_weights(path: Path, shape: tuple[int, int, int]) -> NDArray[np.float64]:
    """Return fitted weights `(L, C, M)` from their file.

    Raises:
        StoreError: There is no such file, or its weights are not what weights are.
    """
    try:
        weights = np.array(json.loads(path.read_text(encoding="utf-8"))["weights"], np.float64)
    except (OSError, ValueError, KeyError, TypeError) as fault:
        raise StoreError(f"{path}: no weights: {fault}") from None
    if weights.shape != shape or not (weights >= 0).all() or not np.allclose(weights.sum(-1), 1):
        raise StoreError(f"{path}: {weights.shape}, expected {shape}, from 0, with sums of 1")
    return weights


def _left_out(config: RunConfig, store: Store, name: str, member: Forecaster) -> Forecaster:
    """Return a member for days that it may have been fitted on: it leaves each out of its usual.

    Networks do so by themselves, as they did in training; of their planes, counts and means over
    all days (`activity`, `mean`) keep a day's own share, as in training too.
    """
    if name not in {"climatology", "mix"}:
        return member
    folder, workers = config.out / "fitted", max(1, config.workers)
    usual = UsualFrames.fit(store, store.days("training"), folder, workers=workers)
    weights = fit(config, store).weights
    return LeftOutMix(usual, weights if name == "mix" else np.zeros_like(weights))
