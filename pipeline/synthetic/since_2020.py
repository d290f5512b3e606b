"""Releases of synthetic days in the layouts since 2020: days, test files, truth, static maps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import date, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.catalog import day_path
from pipeline.editions import SPLITS, City, Edition, Split
from pipeline.errors import CatalogError
from pipeline.heatmaps import write_frames
from pipeline.synthetic.incidents import add_incidents
from pipeline.synthetic.movie import check_channels, encode
from pipeline.synthetic.origin import claim_folder
from pipeline.synthetic.seeds import generator
from pipeline.synthetic.statics import draw_high_res, draw_static
from pipeline.synthetic.style import CityStyle
from pipeline.synthetic.traffic import draw_day
from pipeline.test_sets import (
    TestFile,
    draw_slots,
    is_whole,
    missing_files,
    plan_tests,
    write_test_file,
)
from pipeline.test_slots import write_slot_table


@dataclass(frozen=True, slots=True)
class Drawing:
    """A release to draw.

    Attributes:
        edition: Grid, channels, cities, layout.
        root: Where the release goes.
        truth_root: Where the truth goes.
        seed: 0 or more.
        first_day: First training day.
        counts: Days of each split; of tests, days that slots are drawn from.
        gzip: Compression level.
        style: What the cities are like.
    """

    edition: Edition
    root: Path
    truth_root: Path
    seed: int
    first_day: date
    counts: dict[Split, int]
    gzip: int
    style: CityStyle


@dataclass(slots=True)
class Progress:
    """What was written and what was there; `tell` is told each file before it is drawn."""

    tell: Callable[[str], None] | None
    written: list[Path] = field(default_factory=list)
    skipped: list[Path] = field(default_factory=list)

    def needs(self, paths: list[Path], missing: list[Path], label: str) -> bool:
        """Note files of one kind; return whether they are to be written."""
        self.skipped += [path for path in paths if path not in missing]
        self.written += missing
        if missing and self.tell is not None:
            self.tell(label)
        return bool(missing)


def draw_release(drawing: Drawing, tell: Callable[[str], None] | None) -> Progress:
    """Draw a release; files that are there and whole are left alone.

    Raises:
        CatalogError: The edition's channels cannot be drawn, its stretch of validation days is
            shorter than asked, or the folder holds days of another origin.
    """
    edition, progress = drawing.edition, Progress(tell)
    check_channels(edition)
    days = calendar(drawing)
    origin: dict[str, Any] = {"edition": edition.name, "day_shape": edition.day_shape}
    origin |= {"seed": drawing.seed, "first_day": f"{drawing.first_day}"}
    origin |= {f"{split}": count for split, count in drawing.counts.items()}
    origin |= {"gzip": drawing.gzip, "style": asdict(drawing.style)}
    claim_folder(drawing.root, edition, origin)
    written_days = [edition.written(day) for day in days["test"]]
    tested = bool(days["test"]) and edition.layout.test is not None
    slots_seed = generator(drawing.seed, "slots")
    table = draw_slots(edition, written_days, slots_seed) if tested else {}
    if edition.layout.slots is not None and tested:
        firsts = {day: [slot.first for slot in slots] for day, slots in table.items()}
        write_slot_table(drawing.root / edition.layout.slots, edition, firsts)
    for city in edition.cities:
        _draw_maps(drawing, city, progress)
        _draw_days(drawing, city, days, progress)
        if not (city.tested and tested):
            continue
        slots = table
        if edition.layout.test_kind == "windows":
            rng = generator(drawing.seed, city.name, "slots")
            slots = draw_slots(edition, written_days, rng)
        read = _reader(drawing, city)
        for test in plan_tests(edition, city, slots, drawing.root, drawing.truth_root):
            if progress.needs(_paths(test), missing_files(edition, test), f"{city.name} test"):
                write_test_file(edition, test, read, gzip=drawing.gzip)
    return progress


def calendar(drawing: Drawing) -> dict[Split, list[date]]:
    """Return the days of each split, as the real releases lay them.

    2020: training days come first, then validation days spread evenly among test days. Where
    training and validation share a folder (2021, 2022), validation days are the first of the
    catalogue's stretch, and test slots are drawn from the days on from `undated_week`.

    Raises:
        CatalogError: The stretch is too short.
    """
    edition, counts, one = drawing.edition, drawing.counts, timedelta(days=1)
    if edition.layout.training != edition.layout.validation:
        training = [drawing.first_day + one * number for number in range(counts["training"])]
        rest = counts["validation"] + counts["test"]
        chosen = {number * rest // counts["validation"] for number in range(counts["validation"])}
        start = drawing.first_day + one * counts["training"]
        later = {number: start + one * number for number in range(rest)}
        validation = [day for number, day in later.items() if number in chosen]
        test = [day for number, day in later.items() if number not in chosen]
        return {"training": training, "validation": validation, "test": test}
    stretch = edition.splits["validation"]
    validation = [stretch.first + one * number for number in range(counts["validation"])]
    if validation and validation[-1] not in stretch:
        raise CatalogError(
            f"{edition.name}: {counts['validation']} validation days, but they end on "
            f"{stretch.last}, {(stretch.last - stretch.first).days + 1} days"
        )
    training, day = [], drawing.first_day
    while len(training) < counts["training"]:
        training += [] if day in stretch else [day]
        day += one
    week = edition.undated_week
    test = [week + one * number for number in range(counts["test"])] if week else []
    return {"training": training, "validation": validation, "test": test}


def draw_frames(drawing: Drawing, city: City, day: date) -> NDArray[np.uint8]:
    """Return a whole day `(T, H, W, C)` in the channels of the edition."""
    edition = drawing.edition
    movie = draw_day(edition, city, day, seed=drawing.seed, style=drawing.style)
    frames = encode(movie, edition)
    if len(frames) and "incidents" in edition.channels:
        rng = generator(drawing.seed, city.name, "incidents", day.toordinal())
        add_incidents(frames, edition.channels.index("incidents"), movie.cell, rng)
    return frames


def _draw_maps(drawing: Drawing, city: City, progress: Progress) -> None:
    edition, layout = drawing.edition, drawing.edition.layout
    size, rows = (edition.height, edition.width), layout.chunks == "row"
    if layout.static is not None:
        path = drawing.root / layout.path("static", city.name)
        static = draw_static(edition, city, seed=drawing.seed, style=drawing.style)
        missing = [] if is_whole(path, static.shape) else [path]
        if progress.needs([path], missing, f"{city.name} static map"):
            write_frames(path, static, gzip=drawing.gzip, rows=rows)
    if layout.high_res is not None:
        path = drawing.root / layout.path("high_res", city.name)
        missing = [] if is_whole(path, (10 * size[0], 10 * size[1])) else [path]
        if progress.needs([path], missing, f"{city.name} street map"):
            fine = draw_high_res(edition, city, seed=drawing.seed, style=drawing.style)
            write_frames(path, fine, gzip=drawing.gzip)


def _draw_days(
    drawing: Drawing, city: City, days: dict[Split, list[date]], progress: Progress
) -> None:
    edition = drawing.edition
    for split, day in _of(days, "training", "validation"):
        name = edition.written(day)
        path = day_path(drawing.root, edition, city, split, name)
        missing = [] if is_whole(path, edition.day_shape) else [path]
        if progress.needs([path], missing, f"{city.name} {name} {split}"):
            frames = draw_frames(drawing, city, day)
            write_frames(path, frames, gzip=drawing.gzip, rows=edition.layout.chunks == "row")


def _of(days: dict[Split, list[date]], *splits: Split) -> Iterator[tuple[Split, date]]:
    for split in SPLITS:
        if split in splits:
            yield from ((split, day) for day in days[split])


def _reader(drawing: Drawing, city: City) -> Callable[[str, int, int], NDArray[np.uint8]]:
    """Return what cuts frames out of the days of a city; the last day drawn is kept."""

    @lru_cache(maxsize=1)
    def whole(day: str) -> NDArray[np.uint8]:
        return draw_frames(drawing, city, drawing.edition.day_of(day))

    return lambda day, start, stop: whole(day)[start:stop]


def _paths(test: TestFile) -> list[Path]:
    return [path for path in (test.path, test.truth, test.additional) if path is not None]
