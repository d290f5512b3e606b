"""Where the slots of a test were cut: the table of 2020, and the additional file of 2021."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.atomic import write_text
from pipeline.editions import City, Edition, Slot
from pipeline.errors import CatalogError, HeatmapError
from pipeline.heatmaps import read_frames, write_frames

WEEKDAYS = 7


def read_slot_table(path: Path, edition: Edition) -> dict[str, tuple[int, ...]]:
    """Return the first frames to forecast of each test day, in the order of its test file.

    The table is a JSON list of `{day: [first frame of each input hour]}`, one day each; neither the
    days nor the hours need be sorted, and the order of the hours is that of the files.

    Raises:
        CatalogError: The table is not that; lists every fault.
    """
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CatalogError(f"{path}: no such file; it tells the slots of the test days") from None
    except (OSError, ValueError, RecursionError) as fault:
        raise CatalogError(f"{path}: not JSON: {fault}") from None
    if not isinstance(entries, list) or not entries:
        raise CatalogError(f"{path}: holds {type(entries).__name__}, expected a list of days")
    table: dict[str, tuple[int, ...]] = {}
    faults = []
    for place, entry in enumerate(entries):
        wrong = list(_entry_faults(entry, edition))
        if not wrong:
            [(day, starts)] = entry.items()
            wrong = [f"{day} is given twice"] if day in table else []
            table[day] = tuple(start + edition.test_history for start in starts)
        faults += [f"{path}: entry {place}: {fault}" for fault in wrong]
    if faults:
        raise CatalogError("\n".join(faults))
    return table


def write_slot_table(path: Path, edition: Edition, table: Mapping[str, Sequence[int]]) -> Path:
    """Write the table that `read_slot_table` reads."""
    history = edition.test_history
    entries = [{day: [first - history for first in firsts]} for day, firsts in table.items()]
    return write_text(path, json.dumps(entries) + "\n")


def with_slots(edition: Edition, roots: Sequence[Path]) -> Edition:
    """Return the edition with the slots of the first of these folders that has its table.

    Editions whose slots the catalogue tells, and folders without a table, leave it as it is.

    Raises:
        CatalogError: The table is spoiled.
    """
    if edition.layout.slots is None:
        return edition
    for root in roots:
        if (root / edition.layout.slots).is_file():
            table = read_slot_table(root / edition.layout.slots, edition)
            cities = tuple(replace(city, slots_by_day=dict(table)) for city in edition.cities)
            return replace(edition, cities=cities)
    return edition


def read_additional(path: Path, edition: Edition) -> tuple[Slot, ...]:
    """Return the slots of a test file of which a file `(S, 2)` tells weekday and first frame.

    Raises:
        HeatmapError: The file is not that, or a slot does not fit into a day.
    """
    told = read_frames(path, (edition.slots_per_test, 2)).astype(int)
    last = edition.frames_per_day - edition.reach
    wrong = np.flatnonzero((told[:, 0] >= WEEKDAYS) | (told[:, 1] > last))
    if len(wrong):
        row = int(wrong[0])
        raise HeatmapError(
            f"{path}: row {row} is weekday {told[row, 0]}, frame {told[row, 1]}, expected at most "
            f"{WEEKDAYS - 1} and {last} ({len(wrong)} such rows)"
        )
    history = edition.test_history
    return tuple(Slot(edition.weekday(int(day)), int(start) + history) for day, start in told)


def write_additional(path: Path, edition: Edition, slots: Sequence[Slot]) -> Path:
    """Write weekday and first frame of each input hour, `(S, 2)` uint8."""
    history = edition.test_history
    told: NDArray[np.uint8] = np.array(
        [[edition.day_of(slot.day).weekday(), slot.first - history] for slot in slots], np.uint8
    )
    return write_frames(path, told, rows=True)


def table_slots(edition: Edition, city: City, day: str) -> tuple[Slot, ...]:
    """Return the slots of a test day as the catalogue, or the table, tells them."""
    return tuple(Slot(day, first) for first in edition.slots(city, day))


def _entry_faults(entry: Any, edition: Edition) -> Iterator[str]:
    if not isinstance(entry, dict) or len(entry) != 1:
        yield f"{str(entry)[:60]!r}, expected one day and its first frames"
        return
    [(day, starts)] = entry.items()
    try:
        edition.day_of(day)
    except ValueError as fault:
        yield str(fault)
    last = edition.frames_per_day - edition.reach
    if not isinstance(starts, list) or not starts:
        yield f"{day}: {starts!r}, expected a list of first frames"
    elif any(type(start) is not int or not 0 <= start <= last for start in starts):
        yield f"{day}: {starts}, expected frames from 0 to {last}"
    elif len(set(starts)) < len(starts):
        yield f"{day}: {starts}, expected each once"
