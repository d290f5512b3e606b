"""Which days a training takes: those it learns, those held out, and how many at once."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from flows.examples import NEEDS_USUAL
from pipeline.context import OF_VALUES
from pipeline.editions import Edition
from pipeline.errors import ConfigError, StoreError
from pipeline.store import OPEN_FILES, Store

USUAL_MEMORY = 256 << 20
"""Bytes of usual frames that a process keeps, where `days_at_once` is not given."""
DAYS_IN_MIND = OPEN_FILES - 2


def split_days(
    store: Store, held_out: int, last: int | None = None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the training days to fit and train on, and the last ones that are held out.

    Args:
        store: The city's days.
        held_out: How many are held out.
        last: How many there are to be together, the last ones of all; all, if not given.

    Raises:
        StoreError: The store has no training days.
        ConfigError: So many are held out that none is left.
    """
    days = tuple(store.days("training"))
    if not days:
        raise StoreError(f"{store.root}: {store.city.name} has no training days")
    if last is not None:
        if last > len(days):
            raise ConfigError(
                f"days: the last {last}, but {store.city.name} has {len(days)} training days"
            )
        days = days[len(days) - last :]
    if held_out >= len(days):
        raise ConfigError(
            f"held_out: {held_out} days, but {store.city.name} has {len(days)} training days"
            + ("" if last is None else " to take")
        )
    kept = len(days) - held_out
    return days[:kept], days[kept:]


def days_in_memory(editions: Sequence[Edition], base: str, inputs: Sequence[str]) -> int:
    """Return over how many days windows are shuffled: what open files and memory allow."""
    if base not in NEEDS_USUAL and not set(OF_VALUES) & set(inputs):
        return DAYS_IN_MIND
    values = sum(len(edition.cities) * prod(edition.frame_shape) for edition in editions)
    day = 24 * values * 2  # an hour's means are 2 bytes a value
    return max(2, min(DAYS_IN_MIND, USUAL_MEMORY // day))
