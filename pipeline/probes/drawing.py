"""One day from its sorted fixes to its file."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from pipeline.atomic import write_json
from pipeline.catalog import day_path
from pipeline.editions import City, Edition, Split
from pipeline.errors import PointsError
from pipeline.grid import Grid
from pipeline.heatmaps import write_frames
from pipeline.probes.cells import Marks, draw
from pipeline.probes.days import calendar
from pipeline.probes.fixes import Fixes
from pipeline.probes.judging import Judged, judge
from pipeline.probes.paths import fill
from pipeline.probes.report import DrawnDay, ordered
from pipeline.probes.scratch import Scratch, read_fixes
from pipeline.probes.settings import Rasterising
from pipeline.probes.steps import Steps
from pipeline.yaml_files import validate


@dataclass(frozen=True, slots=True)
class Drawing:
    """What all tasks of a run share."""

    edition: Edition
    city: City
    settings: Rasterising
    root: Path
    scratch: Scratch

    @property
    def grid(self) -> Grid:
        """The city's cells."""
        return Grid.of(self.edition, self.city)


def draw_day(drawing: Drawing, day: int, split: Split) -> DrawnDay:
    """Draw one day from its sorted fixes and write its file."""
    edition, city, settings, scratch = (
        drawing.edition,
        drawing.city,
        drawing.settings,
        drawing.scratch,
    )
    name = calendar(day).strftime(edition.layout.day_format)
    path = day_path(drawing.root, edition, city, split, name)
    note = scratch.drawn(day)
    if note.exists():
        drawn = validate(DrawnDay, json.loads(note.read_text()), str(note), PointsError)
        if path.is_file() and path.stat().st_size == drawn.bytes:
            return drawn
    fixes = read_fixes(scratch.day(day))
    steps = Steps.between(
        fixes,
        read_fixes(scratch.before(day)),
        metres_north=settings.metres_per_degree,
        metres_east=settings.metres_east(city),
    )
    row, column, inside = drawing.grid.cells(fixes["latitude"], fixes["longitude"])
    judged = judge(fixes, steps, inside, settings)
    frame = fixes["minute"].astype(np.int64) // edition.bin_minutes
    marks = Marks(frame, row, column, judged.kmh, judged.quadrant).of(judged.used)
    filled = 0
    if settings.interpolate:
        crossed = fill(fixes, steps, judged, drawing.grid, edition, day)
        marks, filled = Marks.joined([marks, crossed]), len(crossed.frame)
    picture = draw(marks, edition, settings)
    write_frames(path, picture.frames, gzip=settings.gzip)
    drawn = DrawnDay(
        split=split,
        day=name,
        file=path.relative_to(drawing.root).as_posix(),
        bytes=path.stat().st_size,
        fixes=len(fixes),
        used=int(judged.used.sum()),
        dropped=ordered(judged.dropped),
        filled=filled,
        active=picture.active,
        capped=picture.capped,
        speed_ratio=_speed_ratio(fixes, steps, judged),
    )
    write_json(note, asdict(drawn))
    return drawn


def _speed_ratio(fixes: Fixes, steps: Steps, judged: Judged) -> float | None:
    compared = judged.used & judged.crossed & (fixes["speed"] > 0) & (steps.kmh > 0)
    if not compared.any():
        return None
    return round(float(np.median(fixes["speed"][compared] / steps.kmh[compared])), 3)
