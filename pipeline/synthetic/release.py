"""A release of synthetic days in the real layout, and apart from it the truth of its tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.catalog import day_path
from pipeline.editions import SPLITS, City, Edition, Split
from pipeline.errors import CatalogError, HeatmapError
from pipeline.heatmaps import open_frames, write_frames
from pipeline.synthetic.movie import check_channels, encode, heading_codes
from pipeline.synthetic.origin import RECORD, claim_folder
from pipeline.synthetic.seeds import generator
from pipeline.synthetic.since_2020 import Drawing, draw_release
from pipeline.synthetic.style import DEFAULT_STYLE, CityStyle
from pipeline.synthetic.traffic import draw_day

__all__ = [
    "RECORD",
    "PlannedDay",
    "ReleaseSummary",
    "plan_release",
    "truth_frames",
    "write_release",
]
FIRST_DAY = date(2018, 1, 1)


@dataclass(frozen=True, slots=True)
class PlannedDay:
    """A day to draw, and the file or files it goes to.

    Attributes:
        city: Its city.
        split: Its split.
        day: Calendar day.
        path: Its day file; of a test day, the blanked one.
        truth: Of a test day, where the frames to forecast go.
    """

    city: City
    split: Split
    day: date
    path: Path
    truth: Path | None


@dataclass(frozen=True, slots=True)
class ReleaseSummary:
    """What `write_release` did.

    Attributes:
        written: Files that were drawn.
        skipped: Files that were there, and whole.
    """

    written: tuple[Path, ...]
    skipped: tuple[Path, ...]


def plan_release(
    edition: Edition,
    root: Path,
    truth_root: Path,
    *,
    seed: int,
    training: int,
    validation: int,
    test: int,
    first_day: date = FIRST_DAY,
) -> list[PlannedDay]:
    """Return the days of a release in the order of the calendar, city by city.

    Splits are interleaved as in the real release: each is spread evenly over the whole stretch,
    up to chance, and not in the same way in every city.

    Raises:
        CatalogError: Test days and their truth would be the same files, or the edition's channels
            or kind of test cannot be drawn.
    """
    check_channels(edition)
    heading_codes(edition)
    if edition.layout.test_kind != "blanked":
        raise CatalogError(
            f"{edition.name}: test_kind {edition.layout.test_kind!r}, expected 'blanked'"
        )
    counts: dict[Split, int] = {"training": training, "validation": validation, "test": test}
    planned = []
    for city in edition.cities:
        for number, split in enumerate(_interleave(counts, generator(seed, city.name, "splits"))):
            date_of = first_day + timedelta(days=number)
            name = edition.written(date_of)
            path = day_path(root, edition, city, split, name)
            member = edition.layout.path("submission", city.name, name)
            truth = truth_root / member if split == "test" else None
            if truth is not None and truth.resolve() == path.resolve():
                raise CatalogError(f"{truth}: the truth would overwrite the test day")
            planned.append(PlannedDay(city, split, date_of, path, truth))
    return planned


def write_release(
    edition: Edition,
    root: Path,
    truth_root: Path,
    *,
    seed: int,
    training: int,
    validation: int,
    test: int,
    first_day: date = FIRST_DAY,
    gzip: int = 4,
    style: CityStyle = DEFAULT_STYLE,
    progress: Callable[[str], None] | None = None,
) -> ReleaseSummary:
    """Write a release of synthetic days, and apart from it the truth of its test days.

    Files that are there and whole are left alone, so a run that was killed is finished by the same
    call, with the same bytes as if it had not been.

    Args:
        edition: Grid, channels, cities, slots, layout.
        root: Where the release goes.
        truth_root: Where the truth goes, as a submission would be laid out.
        seed: 0 or more; another seed draws other cities.
        training: Training days of each city.
        validation: Validation days of each city.
        test: Test days of each city.
        first_day: First day of the stretch that the splits share.
        gzip: Compression level, 0 to 9; real releases have 9, a little smaller and far slower.
        style: What the cities are like.
        progress: Told each day before it is drawn, as `Arbon 20180101 training`.

    Returns:
        Which files were written and which were there.

    Raises:
        CatalogError: As `plan_release` says; or `root` holds days of another origin.
    """
    counts: dict[Split, int] = {"training": training, "validation": validation, "test": test}
    if edition.layout.test_kind != "blanked" or edition.layout.test is None:
        drawing = Drawing(edition, root, truth_root, seed, first_day, counts, gzip, style)
        drawn = draw_release(drawing, progress)
        return ReleaseSummary(tuple(drawn.written), tuple(drawn.skipped))
    by_name: dict[str, int] = {"training": training, "validation": validation, "test": test}
    planned = plan_release(edition, root, truth_root, seed=seed, first_day=first_day, **by_name)
    origin: dict[str, Any] = {"edition": edition.name, "day_shape": edition.day_shape}
    origin |= {"seed": seed, "first_day": f"{first_day}", **by_name, "gzip": gzip}
    claim_folder(root, edition, {**origin, "style": asdict(style)})
    written: list[Path] = []
    skipped: list[Path] = []
    for day in planned:
        missing = _missing(day, edition)
        skipped += [path for path in (day.path, day.truth) if path and path not in missing]
        if missing:
            if progress is not None:
                name = day.day.strftime(edition.layout.day_format)
                progress(f"{day.city.name} {name} {day.split}")
            frames = encode(draw_day(edition, day.city, day.day, seed=seed, style=style), edition)
            if day.truth in missing:
                write_frames(day.truth, truth_frames(frames, edition, day.city), gzip=gzip)
            if day.path in missing:
                shown = blank(frames, edition, day.city) if day.split == "test" else frames
                write_frames(day.path, shown, gzip=gzip)
            written += missing
    return ReleaseSummary(tuple(written), tuple(skipped))


def blank(frames: NDArray[np.uint8], edition: Edition, city: City) -> NDArray[np.uint8]:
    """Return a day `(T, H, W, C)` that is zero but for the frames before each slot."""
    shown = np.zeros_like(frames)
    for slot in city.test_slots:
        shown[slot - edition.test_history : slot] = frames[slot - edition.test_history : slot]
    return shown


def truth_frames(frames: NDArray[np.uint8], edition: Edition, city: City) -> NDArray[np.uint8]:
    """Return the frames of a day that a submission must forecast, `(S, L, H, W, C)`."""
    wanted = np.add.outer(city.test_slots, edition.leads).astype(np.int64)
    return np.ascontiguousarray(frames[wanted][..., : edition.forecast_channels])


def _interleave(counts: dict[Split, int], rng: np.random.Generator) -> list[Split]:
    """Return the split of each day, every split spread over the whole stretch."""
    places = [
        ((number + rng.random()) / count, SPLITS.index(split))
        for split, count in counts.items()
        for number in range(count)
    ]
    return [SPLITS[index] for _, index in sorted(places)]


def _missing(day: PlannedDay, edition: Edition) -> list[Path]:
    """Return the files of a day that are not there, or not whole."""
    shapes: dict[Path, tuple[int, ...]] = {day.path: edition.day_shape}
    if day.truth is not None:
        shapes[day.truth] = edition.forecast_shape(day.city)
    missing = []
    for path, shape in shapes.items():
        try:
            with open_frames(path, shape):
                pass
        except HeatmapError:
            missing.append(path)
    return missing
