"""What a training reads: batches straight from the stores, days held out, all checked first."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from flows.batches import Batches
from flows.config import RunConfig
from flows.day_shuffle import DayShuffle, InOrder
from flows.examples import NEEDS_USUAL, Augment, CityInputs, Examples
from flows.model_config import Reading
from pipeline.context import OF_VALUES, planes
from pipeline.editions import Edition
from pipeline.errors import ConfigError, StoreError
from pipeline.flips import check_flips
from pipeline.sources import TrafficSource
from pipeline.store import OPEN_FILES, Store
from pipeline.usual import digest, mix_weights
from pipeline.windows import Cut, WindowPlan

USUAL_MEMORY = 256 << 20
"""Bytes of usual frames that a process keeps, where `days_at_once` is not given."""
DAYS_IN_MIND = OPEN_FILES - 2


@dataclass(frozen=True, slots=True, eq=False)
class TrainingData:
    """All that a training reads, and what must be recorded to read the same again.

    Attributes:
        edition: What the frames are, with the run's cities alone.
        train: Shuffled and augmented.
        held_out: Last training days of each city, in order and as they are; none, if none is kept.
        days: Days of each city that everything was fitted and is trained on: `CityInputs.fit` of
            these gives the same inputs again.
        held_out_days: Days of each city that were kept apart.
        inputs: What is told of each city besides the frames.
        weights: Of the history's mean in the naive mix, `(L, C)`, the mean over cities; for the
            base `mix` alone.
        planes: Extra input planes S.
        identity: Digest of all that decides which batches come, and in which order; not of how
            many processes read or train.
    """

    edition: Edition
    train: Batches
    held_out: Batches | None
    days: dict[str, tuple[str, ...]]
    held_out_days: dict[str, tuple[str, ...]]
    inputs: dict[str, CityInputs]
    weights: tuple[tuple[float, ...], ...] | None
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
        seed: Of order and augmentation.
        multiple: What the network asks a crop's sides to be a multiple of.
        world: Processes that train together.
        rank: Which of them this is.
        pin: Whether batches lie in pinned memory.

    Raises:
        ConfigError: A setting cannot be met by this edition.
        StoreError: A store is missing, or has too few training days.
    """
    edition = config.chosen_edition()
    check_reading(edition, reading, base, inputs, multiple)
    cut, sparse = (config.cut(edition, n) for n in (reading.stride, reading.held_out_stride))
    stores = [Store.open(config.store, config.read_edition(), city) for city in edition.cities]
    days, held_out = {}, {}
    for store in stores:
        days[store.city.name], held_out[store.city.name] = split_days(store, reading.held_out)
    total = sum(map(len, days.values()))
    at_once = reading.days_at_once or days_in_memory(edition, base, inputs)
    shuffle = DayShuffle(total, cut.per_day, batch, seed, at_once, world, rank)

    folder, workers = config.out / "fitted", max(1, config.workers)
    fitted = {
        store.city.name: CityInputs.fit(
            store,
            days[store.city.name],
            base,
            inputs,
            folder,
            interpolated=interpolated,
            keep=at_once + 1,
            workers=workers,
        )
        for store in stores
    }
    weights = None
    if base == "mix":
        scored = config.cut(edition)
        each = [
            mix_weights(store, days[store.city.name], scored, folder, workers=workers)
            for store in stores
        ]
        weights = tuple(tuple(map(float, row)) for row in np.mean(each, axis=0))

    def examples(chosen: dict[str, tuple[str, ...]], cut: Cut, augment: Augment | None) -> Examples:
        plans = [WindowPlan(s.city.name, chosen[s.city.name], cut) for s in stores]
        sources = tuple(TrafficSource(s, plan) for s, plan in zip(stores, plans, strict=True))
        return Examples(sources, tuple(fitted.values()), augment)

    how = (reading.workers, reading.start, pin)
    augment = Augment(reading.crop, reading.flips, seed)
    train = Batches(examples(days, cut, augment), shuffle, *how)
    rest = examples(held_out, sparse, None)
    in_order = InOrder(len(rest), batch, world, rank)
    return TrainingData(
        edition,
        train,
        Batches(rest, in_order, *how) if len(rest) else None,
        days,
        held_out,
        fitted,
        weights,
        planes(inputs, edition),
        _identity(
            stores, reading, base, interpolated, list(inputs), batch, seed, at_once, cut, sparse
        ),
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


def split_days(store: Store, held_out: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the training days to fit and train on, and the last ones that are held out.

    Raises:
        StoreError: The store has no training days.
        ConfigError: So many are held out that none is left.
    """
    days = tuple(store.days("training"))
    if not days:
        raise StoreError(f"{store.root}: {store.city.name} has no training days")
    if held_out >= len(days):
        raise ConfigError(
            f"held_out: {held_out} days, but {store.city.name} has {len(days)} training days"
        )
    kept = len(days) - held_out
    return days[:kept], days[kept:]


def days_in_memory(edition: Edition, base: str, inputs: Sequence[str]) -> int:
    """Return over how many days windows are shuffled: what open files and memory allow."""
    if base not in NEEDS_USUAL and not set(OF_VALUES) & set(inputs):
        return DAYS_IN_MIND
    height, width, channels = edition.frame_shape
    day = 24 * height * width * channels * 2  # an hour's means are 2 bytes a value
    return max(2, min(DAYS_IN_MIND, USUAL_MEMORY // (day * len(edition.cities))))


def _identity(stores: Sequence[Store], reading: Reading, *facts: object) -> str:
    matters = reading.model_dump(mode="json", exclude={"workers", "start"})
    parts = [digest(store, store.days("training"), matters, *facts) for store in stores]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
