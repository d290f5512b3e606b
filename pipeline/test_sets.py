"""Test files and their truth, cut out of whole days: for synthetic releases and for rehearsals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.catalog import day_path
from pipeline.editions import UNDATED_TEST, City, Edition, Slot
from pipeline.errors import CatalogError, HeatmapError
from pipeline.heatmaps import open_frames, row_writer, write_frames
from pipeline.test_slots import write_additional

MOST_SLOTS = 5
"""Of a test day of the kind *blocks*, as in 2020."""
LAST_START = 240
"""Last first frame of an input hour, as in 2020 and 2021; it has to fit into a byte."""

ReadDay = Callable[[str, int, int], NDArray[np.uint8]]
"""Frames `(T, H, W, C)` of a day, from one to before another."""


@dataclass(frozen=True, slots=True)
class TestFile:
    """A test file to cut.

    Attributes:
        city: Its city.
        day: Its day, or `UNDATED_TEST`.
        slots: Where to cut; their days are true ones.
        path: Where it goes.
        truth: Where the frames to forecast go.
        additional: Where weekdays and first frames go, if the edition has such a file.
    """

    __test__ = False  # not a test of pytest's

    city: City
    day: str
    slots: tuple[Slot, ...]
    path: Path
    truth: Path
    additional: Path | None = None

    @property
    def days(self) -> list[str]:
        """The days it is cut from, each once."""
        return list(dict.fromkeys(slot.day for slot in self.slots))


def draw_slots(
    edition: Edition, days: Sequence[str], rng: np.random.Generator
) -> dict[str, tuple[Slot, ...]]:
    """Return slots drawn by chance for each test file of a city, by the file's day.

    One to five a day for *blocks*; for *windows* as many as the edition fixes, spread over all
    days. Neither is sorted.
    """
    last = min(LAST_START, edition.frames_per_day - edition.reach)
    history = edition.test_history
    if edition.layout.test_kind == "blocks":
        most = min(MOST_SLOTS, last + 1)
        table = {day: rng.choice(last + 1, rng.integers(1, most + 1), False) for day in days}
        return {
            day: tuple(Slot(day, int(start) + history) for start in starts)
            for day, starts in table.items()
        }
    count = edition.slots_per_test or 0
    starts = rng.integers(0, last + 1, count)
    order = rng.permutation(count)
    drawn = tuple(
        Slot(days[int(place) % len(days)], int(start) + history)
        for place, start in zip(order, starts, strict=True)
    )
    return {UNDATED_TEST: drawn}


def plan_tests(
    edition: Edition,
    city: City,
    slots: Mapping[str, tuple[Slot, ...]],
    root: Path,
    truth_root: Path,
) -> list[TestFile]:
    """Return the test files of a city, and where they go.

    Raises:
        CatalogError: A test file and its truth would be the same file.
    """
    layout, planned = edition.layout, []
    for day, cuts in slots.items():
        path = day_path(root, edition, city, "test", day)
        truth = truth_root / layout.path("submission", city.name, day)
        if truth.resolve() == path.resolve():
            raise CatalogError(f"{truth}: the truth would overwrite the test file")
        additional = layout.additional and root / layout.path("additional", city.name)
        planned.append(TestFile(city, day, cuts, path, truth, additional or None))
    return planned


def missing_files(edition: Edition, test: TestFile) -> list[Path]:
    """Return which files of a test are not there, or not whole."""
    slots = len(test.slots)
    day = edition.day_shape
    inputs = (slots, edition.test_history, *edition.frame_shape)
    shapes: dict[Path, tuple[int, ...]] = {
        test.path: day if edition.layout.test_kind == "blanked" else inputs,
        test.truth: (slots, *edition.forecast_shape(test.city)[1:]),
    }
    if test.additional is not None:
        shapes[test.additional] = (slots, 2)
    return [path for path, shape in shapes.items() if not is_whole(path, shape)]


def is_whole(path: Path, shape: tuple[int, ...]) -> bool:
    """Return whether a file of frames of a shape is there."""
    try:
        with open_frames(path, shape):
            return True
    except HeatmapError:
        return False


def write_test_file(edition: Edition, test: TestFile, read: ReadDay, *, gzip: int = 4) -> None:
    """Cut a test file and its truth.

    Days are read one after the other, so that no two need be in memory; of *windows* no more than
    a slot is.

    Args:
        edition: Whose format.
        test: What to cut.
        read: The whole days.
        gzip: Compression level.
    """
    if edition.layout.test_kind == "blanked":
        shown = np.zeros(edition.day_shape, np.uint8)
        for slot in test.slots:
            block = slot.first - edition.test_history, slot.first
            shown[slice(*block)] = read(slot.day, *block)
        write_frames(test.path, shown, gzip=gzip, rows=edition.layout.chunks == "row")
        truth = np.stack([_truth(edition, slot, read) for slot in test.slots])
        write_frames(test.truth, truth, gzip=gzip)
        return
    count, (_, *asked) = len(test.slots), edition.forecast_shape(test.city, test.day)
    shape = (count, edition.test_history, *edition.frame_shape)
    if edition.layout.chunks == "auto":
        cuts = [(_input(edition, slot, read), _truth(edition, slot, read)) for slot in test.slots]
        write_frames(test.path, np.stack([given for given, _ in cuts]), gzip=gzip)
        write_frames(test.truth, np.stack([wanted for _, wanted in cuts]), gzip=gzip)
    else:
        with (
            row_writer(test.path, shape, gzip=gzip) as write_input,
            row_writer(test.truth, (count, *asked), gzip=gzip) as write_truth,
        ):
            for day in test.days:
                for place, slot in enumerate(test.slots):
                    if slot.day == day:
                        write_input(place, _input(edition, slot, read))
                        write_truth(place, _truth(edition, slot, read))
    if test.additional is not None:
        write_additional(test.additional, edition, test.slots)


def _input(edition: Edition, slot: Slot, read: ReadDay) -> NDArray[np.uint8]:
    return read(slot.day, slot.first - edition.test_history, slot.first)


def _truth(edition: Edition, slot: Slot, read: ReadDay) -> NDArray[np.uint8]:
    ahead = read(slot.day, slot.first, slot.first + edition.leads[-1] + 1)
    return np.ascontiguousarray(ahead[list(edition.leads)][..., : edition.forecast_channels])
