"""What a run's model becomes: a network's description, its task, and what its file records."""

from __future__ import annotations

from typing import Any

from crevnet.settings import NO_MATTER
from crevnet.task import Task
from crevnet.zoo import Description, configure
from flows.cities import training_editions
from flows.config import RunConfig
from flows.examples import NEEDS_USUAL
from flows.level_fit import fit_levels
from flows.model_config import Model
from flows.training_data import TrainingData
from pipeline.climatology import choose_grouping
from pipeline.context import label, planes
from pipeline.editions import Edition
from pipeline.errors import ConfigError
from pipeline.kept_fits import digest

FITTED = {"network", "channels", "history", "horizon", "static_channels"}
"""What follows from the run, and is not to be changed by hand."""


def describe_network(config: RunConfig, model: Model) -> Description:
    """Return the description of a model's network; all that needs no data is checked.

    Raises:
        ConfigError: The model asks for what the edition or the run cannot give.
        ZooError: There is no such network, or it cannot be so.
    """
    check_model(config, model)
    horizon = config.chosen_edition().leads[-1] + 1
    return configure(model.network, horizon=horizon, **seen_sizes(config, model), **model.change)


def check_model(config: RunConfig, model: Model) -> None:
    """Refuse what the edition or the run cannot give a model.

    Raises:
        ConfigError: It asks for that.
    """
    edition = config.chosen_edition()
    channels = edition.frame_shape[2]
    if own := sorted(FITTED & {*model.change}):
        raise ConfigError(f"change: {own} follow from the edition, its leads and the inputs")
    if model.sees and model.sees > config.history:
        raise ConfigError(f"sees: {model.sees} frames of a history of {config.history}")
    if model.channel_weights and len(model.channel_weights) != channels:
        raise ConfigError(
            f"channel_weights: {len(model.channel_weights)}, but {edition.name} has channels "
            f"{list(edition.channels)}"
        )
    if model.teacher and (model.recent or model.base == "window_mean"):
        raise ConfigError(
            "teacher: not with recent or base window_mean, whose mean of the whole history holds "
            "the frames that its one-step predictions would be for"
        )
    if model.levels and model.base not in NEEDS_USUAL:
        raise ConfigError(f"levels: not with base {model.base}, which knows nothing of the usual")


def seen_sizes(config: RunConfig, model: Model) -> dict[str, int]:
    """Return the channels, frames and extra planes that a model's network sees."""
    edition = config.chosen_edition()
    channels = edition.frame_shape[2]
    editions = training_editions(config, model.reading)
    known = [label(every, city) for every in editions for city in every.cities]
    static = planes(model.inputs, edition, known) + (channels if model.recent else 0)
    history = model.sees or config.history
    return {"channels": channels, "history": history, "static_channels": static}


def task_of(config: RunConfig, model: Model, data: TrainingData) -> Task:
    """Return what a model is trained to do; what its base is made of is fitted."""
    edition = config.chosen_edition()
    task = Task(
        leads=edition.leads,
        history=config.history,
        base=model.base,
        scale=model.scale,
        weights=data.weights,
        inputs=model.inputs,
        channels=edition.channels,
        edition=edition.name,
        cities=tuple(data.days),
        sees=model.sees,
        recent=model.recent,
        scored=edition.forecast_channels,
        interpolated=model.interpolated,
    )
    return fit_levels(task, model.levels, data.train.examples) if model.levels else task


def loss_weights(model: Model, edition: Edition) -> tuple[float, ...] | None:
    """Return the loss's channel weights: none for channels that no forecast holds."""
    channels, scored = edition.frame_shape[2], edition.forecast_channels
    if model.channel_weights is None and scored < channels:
        return (1.0,) * scored + (0.0,) * (channels - scored)
    return model.channel_weights


def record_of(model: Model, data: TrainingData) -> dict[str, Any]:
    """Return what a model's file says besides its task: plain values.

    `frames` is what else a frame's values mean, `known` the cities with a plane of `city`. `days`
    are those that its inputs are fitted on when it forecasts, by city: the held-out ones
    too, unless that would change how hours are grouped, and so what usual means.
    """
    fitted, checksums = {}, {}
    for city, store in data.stores.items():
        days = list(data.days[city])
        more = [*days, *data.held_out_days[city]]
        same = choose_grouping(store.edition, days) == choose_grouping(store.edition, more)
        fitted[city] = more if model.refit and same else days
        checksums[city] = digest(store, fitted[city])
    no_matter: Any = {"reading": {"workers", "start"}, "training": {*NO_MATTER}}
    return {
        "days": fitted,
        "learned": {city: list(days) for city, days in data.days.items()},
        "fitted": checksums,
        "frames": frames_of(data.edition),
        "known": list(data.known),
        "model": model.model_dump(mode="json", exclude=no_matter),
    }


def frames_of(edition: Edition) -> dict[str, Any]:
    """Return what the values and the steps of frames mean, besides their channels' names."""
    headings = [[code, name] for code, name in sorted(edition.headings.items())]
    return {"bin_minutes": edition.bin_minutes, "headings": headings}
