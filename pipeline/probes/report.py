"""What became of every row: they add up, or the run stops."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from pipeline.atomic import write_json
from pipeline.editions import City, Days, Edition, Split
from pipeline.errors import PointsError
from pipeline.probes.settings import Rasterising
from pipeline.probes.sources import Source
from pipeline.yaml_files import validate

VERSION = 1
"""Of the way days are drawn: a new one draws every city anew."""


class Reason(StrEnum):
    """Why a row does not count: the first that holds, in this order."""

    MISSING = "missing value"
    POSITION = "impossible position"
    MEASURED = "impossible speed or heading"
    OUTSIDE_DAYS = "outside the splits' days"
    COPY = "copy of another row"
    FIRST = "first fix of its vehicle"
    SAME_SECOND = "same second as the previous fix"
    TOO_LONG = "step too long"
    TOO_FAST = "too fast"
    NO_HEADING = "stands, and has not moved yet"
    OUTSIDE_GRID = "outside the grid"


@dataclass(frozen=True, slots=True)
class DrawnDay:
    """A day that was drawn.

    Attributes:
        split: What it is for.
        day: As the layout writes it.
        file: Path relative to the root.
        bytes: Size of the file.
        fixes: Fixes of the day: used and dropped.
        used: Fixes that count.
        dropped: Fixes that do not, by reason.
        filled: Cells that steps crossed between two fixes, each as good as a fix.
        active: Cells of frames with a volume.
        capped: Of these, those at the cap.
        speed_ratio: Median of measured speed to that of the step, over fixes that have both. Far
            from 1, `speed_unit` is not the unit of that day.
    """

    split: Split
    day: str
    file: str
    bytes: int
    fixes: int
    used: int
    dropped: dict[Reason, int]
    filled: int
    active: int
    capped: int
    speed_ratio: float | None = None


@dataclass(frozen=True, slots=True)
class RasteriseReport:
    """A city drawn from points.

    Attributes:
        version: Of the way days are drawn.
        edition: Its name.
        city: Its name.
        fingerprint: Checksum of all that the days depend on.
        settings: What a person chose.
        sources: Files of points.
        read: Rows of all files.
        used: Rows that count in some day.
        dropped: Rows that do not, by reason.
        filled: Cells that steps crossed between two fixes; not among the rows.
        days: Day files, in the order of the calendar.
        unchanged: Nothing had to be done; not part of the file.
    """

    version: int
    edition: str
    city: str
    fingerprint: str
    settings: Rasterising
    sources: tuple[Source, ...]
    read: int
    used: int
    dropped: dict[Reason, int]
    filled: int
    days: tuple[DrawnDay, ...]
    unchanged: bool = False

    def __post_init__(self) -> None:
        """Every row is used or dropped, once.

        Raises:
            ValueError: A row was lost or counted twice.
        """
        for what, read, used, dropped in (
            (self.city, self.read, self.used, self.dropped),
            *((d.file, d.fixes, d.used, d.dropped) for d in self.days),
        ):
            if read != used + sum(dropped.values()):
                raise ValueError(f"{what}: {read} rows, but {used} used and {dropped} dropped")
        if self.used != sum(day.used for day in self.days):
            raise ValueError(f"{self.city}: {self.used} rows used, not the sum of its days")


def fingerprint_of(
    edition: Edition, city: City, settings: Rasterising, sources: list[Source]
) -> str:
    """Return the checksum of all that the day files depend on."""
    chosen = asdict(settings)
    del chosen["points"]
    if settings.standing == "north_east":
        del chosen["standing"]  # as before there was a choice
    if isinstance(settings.speed_unit, dict):  # what matters is which file has which
        chosen["speed_unit"] = sorted((s.sha256, settings.units_of(s.file)) for s in sources)
    facts: dict[str, Any] = {
        "version": VERSION,
        "points": sorted(source.sha256 for source in sources),
        "settings": chosen,
        "city": {k: v for k, v in asdict(city).items() if k not in {"test_slots", "time_zone"}},
        **{key: asdict(edition)[key] for key in ("height", "width", "bin_minutes", "time_zone")},
        **{key: asdict(edition)[key] for key in ("headings", "layout")},
        "splits": {split: _said(days) for split, days in edition.splits.items()},
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()


def _said(days: Days) -> dict[str, Any]:
    said = asdict(days)
    if not days.without:
        del said["without"]  # as before days could be left out
    return said


def ordered(dropped: Mapping[Reason, int]) -> dict[Reason, int]:
    """Return the reasons that occurred, in the order in which they are looked for."""
    return {reason: int(dropped[reason]) for reason in Reason if dropped.get(reason)}


def total(dropped: Iterable[Mapping[Reason, int]]) -> Counter[Reason]:
    """Return the sum of several counts."""
    counts: Counter[Reason] = Counter()
    for some in dropped:
        counts.update(some)
    return counts


def report_path(root: Path, city: str) -> Path:
    """Return where a city keeps its report."""
    return root / city / "rasterise.json"


def write_report(root: Path, report: RasteriseReport) -> Path:
    """Write a report whole."""
    value = asdict(report)
    del value["unchanged"]
    return write_json(report_path(root, report.city), value)


def read_report(root: Path, city: str) -> RasteriseReport | None:
    """Return what an earlier run reported, or none where there is nothing to trust."""
    path = report_path(root, city)
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        return validate(RasteriseReport, value, str(path), PointsError)
    except (OSError, ValueError, PointsError):
        return None


def still_whole(report: RasteriseReport, root: Path) -> bool:
    """Return whether every day file of a report is there, of the size it had."""
    files = ((root / day.file, day.bytes) for day in report.days)
    return all(path.is_file() and path.stat().st_size == size for path, size in files)


def as_unchanged(report: RasteriseReport) -> RasteriseReport:
    """Return a report of a run that had nothing to do."""
    return replace(report, unchanged=True)
