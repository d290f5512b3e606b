"""What a training reads: batches straight from the stores, days held out, all checked first."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from flows.batches import Batches
from flows.cities import grids, name_of, training_editions, training_stores
from flows.config import RunConfig
from flows.day_shuffle import DayShuffle, InOrder
from flows.examples import Augment, CityInputs, Examples
from flows.model_config import Reading
from flows.training_days import days_in_memory, split_days
from pipeline.context import label, planes
from pipeline.editions import Edition
from pipeline.errors import ConfigError
from pipeline.flips import check_flips
from pipeline.kept_fits import digest
from pipeline.sources import TrafficSource
from pipeline.store import Store
from pipeline.usual import mix_weights
from pipeline.windows import Cut, WindowPlan


@dataclass(frozen=True, slots=True, eq=False)
class TrainingData:
    """All that a training reads, and what must be recorded to read the same again.

    Cities of the run are called by their names here, those of other editions `edition/name`.

    Attributes:
        edition: What the frames are, with the run's cities alone.
        train: Shuffled and augmented.
        held_out: Last training days of each city, in order and as they are; none, if none is kept.
        stores: Where each city's days are.
        days: Days of each city that everything was fitted and is trained on: `CityInputs.fit` of
            these gives the same inputs again.
        held_out_days: Days of each city that were kept apart.
        inputs: What is told of each city besides the frames.
        weights: Of the history's mean in the naive mix, `(L, C)`, the mean over cities; for the
            base `mix` alone.
        known: Cities that have a plane of `city`, by `pipeline.context.label`.
        planes: Extra input planes S.
        identity: Digest of all that decides which batches come, and in which order; not of how
            many processes read or train.
    """

    edition: Edition
    train: Batches
    held_out: Batches | None
    stores: dict[str, Store]
    days: dict[str, tuple[str, ...]]
    held_out_days: dict[str, tuple[str, ...]]
    inputs: dict[str, CityInputs]
    weights: tuple[tuple[float, ...], ...] | None
    known: tuple[str, ...]
    planes: int
    identity: str


def training_data(
    config: RunConfig,
    reading: Reading,
    *,
    base: str,
    inputs: Sequence[str],
    batch: int,
    interpolated: bool = False,
    known: Sequence[str] | None = None,
    seed: int = 0,
    multiple: int = 1,
    world: int = 1,
    rank: int = 0,
    pin: bool = False,
) -> TrainingData:
    """Return what a training reads; everything is checked before anything is fitted.

    Args:
        config: The run.
        reading: How its days are read.
        base: What the network corrects, as in `crevnet.task.Task`.
        inputs: Extra planes, as in `pipeline.context`.
        batch: Windows of a batch, over all processes.
        interpolated: Whether what is usual lies on lines between the hours.
        known: Cities that have a plane of `city`, by `pipeline.context.label`; those that are read,
            if none are said.
        seed: Of order and augmentation.
        multiple: What the network asks a crop's sides to be a multiple of.
        world: Processes that train together.
        rank: Which of them this is.
        pin: Whether batches lie in pinned memory.

    Raises:
        ConfigError: A setting cannot be met by this edition.
        StoreError: A store is missing, or has too few training days.
    """
    editions = training_editions(config, reading)
    edition = editions[0]
    if known is None:
        known = [label(every, city) for every in editions for city in every.cities]
    for every in editions:
        check_reading(every, reading, base, inputs, multiple)
    cut, sparse = (config.cut(edition, n) for n in (reading.stride, reading.held_out_stride))
    stores = {
        name_of(edition.name, store.edition, store.city): store
        for store in training_stores(config, reading)
    }
    if reading.crop is None and len(sizes := grids([*stores.values()])) > 1:
        raise ConfigError(f"crop: not given, but cities have grids of {sorted(sizes)}")
    days, held_out = {}, {}
    for name, store in stores.items():
        days[name], held_out[name] = split_days(store, reading.held_out, reading.days)
    total = sum(map(len, days.values()))
    at_once = reading.days_at_once or days_in_memory(editions, base, inputs)
    shuffle = DayShuffle(total, cut.per_day, batch, seed, at_once, world, rank)

    folder, workers = config.out / "fitted", max(1, config.workers)
    fitted = {
        name: CityInputs.fit(
            store,
            days[name],
            base,
            inputs,
            folder,
            interpolated=interpolated,
            known=known,
            keep=at_once + 1,
            workers=workers,
            cluster=config.cluster,
        )
        for name, store in stores.items()
    }
    weights = None
    if base == "mix":
        scored = config.cut(edition)
        each = [
            mix_weights(store, days[name], scored, folder, workers=workers, cluster=config.cluster)
            for name, store in stores.items()
        ]
        weights = tuple(tuple(map(float, row)) for row in np.mean(each, axis=0))

    def examples(chosen: dict[str, tuple[str, ...]], cut: Cut, augment: Augment | None) -> Examples:
        sources = tuple(
            TrafficSource(store, WindowPlan(store.city.name, chosen[name], cut))
            for name, store in stores.items()
        )
        return Examples(sources, tuple(fitted.values()), augment)

    facts: list[object] = [base, list(inputs), batch, seed, at_once, cut, sparse]
    if interpolated:
        facts.append("interpolated")
    if "city" in inputs:
        facts.append(list(known))
    how = (reading.workers, reading.start, pin)
    forget = reading.forget_city if "city" in inputs else 0.0
    augment = Augment(reading.crop, reading.flips, seed, forget)
    train = Batches(examples(days, cut, augment), shuffle, *how)
    rest = examples(held_out, sparse, None)
    ends = tuple(accumulate(len(source) for source in rest.sources))[:-1]
    several = len(grids([*stores.values()])) > 1  # frames of one size alone make a batch
    in_order = InOrder(len(rest), batch, world, rank, ends if several else ())
    return TrainingData(
        edition,
        train,
        Batches(rest, in_order, *how) if len(rest) else None,
        stores,
        days,
        held_out,
        fitted,
        weights,
        tuple(known),
        planes(inputs, edition, known),
        _identity([*stores.values()], reading, *facts),
    )


def check_reading(
    edition: Edition, reading: Reading, base: str, inputs: Sequence[str], multiple: int
) -> None:
    """Refuse what an edition cannot give.

    Raises:
        ConfigError: The crop does not fit the grid or the network, flips cannot be made, or an
            input is unknown.
    """
    planes(inputs, edition)
    if reading.crop is not None:
        for side, size, grid in zip(
            ("rows", "columns"), reading.crop, edition.frame_shape[:2], strict=True
        ):
            if not 1 <= size <= grid:
                raise ConfigError(f"crop: {size} {side} of the {grid} of {edition.name}")
            if size % multiple:
                raise ConfigError(
                    f"crop: {size} {side}, the network needs a multiple of {multiple}"
                )
    if reading.flips:
        check_flips(edition, base, inputs)


def _identity(stores: Sequence[Store], reading: Reading, *facts: object) -> str:
    """Return the digest of all stores; `reading.also` is in it as these."""
    later = {"days", "forget_city"}  # what readings once had not, and need not say
    matters = reading.model_dump(mode="json", exclude={"workers", "start", "also", *later})
    matters |= reading.model_dump(mode="json", include=later, exclude_defaults=True)
    parts = [digest(store, store.days("training"), matters, *facts) for store in stores]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
