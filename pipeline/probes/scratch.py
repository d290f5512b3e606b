"""Fixes on disk between the points and the days: cut by day, then sorted by vehicle and time.

    points ─► pieces/N/DAY.fixes ─► days/DAY.fixes ─► day files
              as they come          sorted

A piece is done when its `piece.json` is there, a day when its file is: both appear whole, so a
killed run goes on from there. The folder's name holds the run's fingerprint, so a run of other
points or settings never meets these.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from pipeline.atomic import whole_file, write_json
from pipeline.errors import PointsError
from pipeline.grid import Grid
from pipeline.probes.fixes import FIX, Fixes, Reader, Usable
from pipeline.probes.points import Piece, read_piece
from pipeline.probes.report import Reason, ordered
from pipeline.probes.settings import Rasterising
from pipeline.yaml_files import validate


@dataclass(frozen=True, slots=True)
class PieceReport:
    """What a piece held.

    Attributes:
        rows: All of them.
        inside: Rows whose position is on the grid.
        swapped: Rows whose position would be, were latitude and longitude swapped.
        dropped: Rows that are no fixes, by reason.
        days: Fixes by day, counted from 1970-01-01.
        vehicles: Names by number.
    """

    rows: int
    inside: int
    swapped: int
    dropped: dict[Reason, int]
    days: dict[int, int]
    vehicles: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Scratch:
    """The folder of one run."""

    folder: Path

    def piece(self, number: int) -> Path:
        """Return where a piece's fixes are."""
        return self.folder / "pieces" / f"{number:06d}"

    def day(self, day: int) -> Path:
        """Return where a day's sorted fixes are."""
        return self.folder / "days" / f"{day}.fixes"

    def last(self, day: int) -> Path:
        """Return where the last fix of each of a day's vehicles is."""
        return self.folder / "last" / f"{day}.fixes"

    def before(self, day: int) -> Path:
        """Return where the last earlier fix of each of a day's vehicles is."""
        return self.folder / "before" / f"{day}.fixes"

    def drawn(self, day: int) -> Path:
        """Return where it is noted that a day's file is written."""
        return self.folder / "drawn" / f"{day}.json"


@dataclass(slots=True)
class _Tally:
    rows: int = 0
    inside: int = 0
    swapped: int = 0
    days: Counter[int] = field(default_factory=Counter)

    def add(self, usable: Usable, grid: Grid) -> None:
        self.inside += _on_grid(grid, usable.latitude, usable.longitude)
        self.swapped += _on_grid(grid, usable.longitude, usable.latitude)


def cut_piece(
    piece: Piece, settings: Rasterising, zone: ZoneInfo, grid: Grid, folder: Path
) -> PieceReport:
    """Read a piece and append each fix to the file of its day.

    Raises:
        PointsError: As `read_piece` and `Reader.usable` say.
    """
    note = folder / "piece.json"
    if note.exists():
        return validate(PieceReport, json.loads(note.read_text()), str(note), PointsError)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    reader, tally = Reader(settings, zone, str(piece.path), piece.first_row), _Tally()
    for batch in read_piece(piece, settings.columns.names(), settings.delimiter):
        usable = reader.usable(batch)
        tally.rows += batch.num_rows
        tally.add(usable, grid)
        order = np.argsort(usable.day, kind="stable")
        days, starts = np.unique(usable.day[order], return_index=True)
        for day, rows in zip(days.tolist(), np.split(order, starts[1:]), strict=True):
            with (folder / f"{day}.fixes").open("ab") as file:
                file.write(usable.fixes[rows].tobytes())
            tally.days[day] += len(rows)
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    report = PieceReport(
        tally.rows,
        tally.inside,
        tally.swapped,
        ordered(reader.dropped),
        dict(sorted(tally.days.items())),
        tuple(reader.vehicles),
    )
    write_json(note, asdict(report))
    return report


def number_vehicles(scratch: Scratch, pieces: Iterable[PieceReport]) -> int:
    """Give every vehicle one number for all pieces, in the order of their names.

    Returns:
        How many there are.
    """
    pieces = list(pieces)
    names = sorted(set().union(*(piece.vehicles for piece in pieces)))
    numbers = {name: number for number, name in enumerate(names)}
    for number, piece in enumerate(pieces):
        ours = np.array([numbers[name] for name in piece.vehicles], np.int32)
        ours.tofile(scratch.piece(number) / "vehicles.i4")
    return len(names)


def sort_day(scratch: Scratch, day: int, pieces: Iterable[int]) -> None:
    """Sort a day's fixes from all pieces that have some by vehicle and time.

    Fixes of one vehicle at one time are in the order of their values, so nothing hangs on the
    order of files and rows.
    """
    if scratch.day(day).exists():
        return
    parts = [scratch.piece(piece) / f"{day}.fixes" for piece in pieces]
    fixes = np.concatenate([_renumbered(part) for part in parts])
    in_time = fixes[np.lexsort((fixes["time"], fixes["vehicle"]))]
    if _ties(in_time).any():
        keys = ("heading", "speed", "longitude", "latitude", "time", "vehicle")
        in_time = fixes[np.lexsort([fixes[key] for key in keys])]
    ends = np.append(in_time["vehicle"][1:] != in_time["vehicle"][:-1], True)
    write_fixes(scratch.last(day), in_time[ends])
    write_fixes(scratch.day(day), in_time)
    for part in parts:
        part.unlink()


def carry_over(scratch: Scratch, days: Iterable[int], vehicles: int) -> None:
    """Note for every day the last earlier fix of each of its vehicles; days from first to last."""
    latest = np.zeros(vehicles, FIX)
    seen = np.zeros(vehicles, bool)
    for day in days:
        last = read_fixes(scratch.last(day))
        ours = last["vehicle"]
        write_fixes(scratch.before(day), latest[ours[seen[ours]]])
        latest[ours], seen[ours] = last, True


def read_fixes(path: Path) -> Fixes:
    """Read fixes back."""
    return np.fromfile(path, FIX)


def write_fixes(path: Path, fixes: Fixes) -> None:
    """Write fixes whole."""
    with whole_file(path) as partial:
        fixes.tofile(partial)


def _renumbered(part: Path) -> Fixes:
    fixes = read_fixes(part)
    ours = np.fromfile(part.parent / "vehicles.i4", np.int32)
    fixes["vehicle"] = ours[fixes["vehicle"]]
    return fixes


def _ties(fixes: Fixes) -> NDArray[np.bool_]:
    same = fixes["vehicle"][1:] == fixes["vehicle"][:-1]
    tied: NDArray[np.bool_] = same & (fixes["time"][1:] == fixes["time"][:-1])
    return tied


def _on_grid(grid: Grid, latitude: NDArray[np.float64], longitude: NDArray[np.float64]) -> int:
    """Count positions on the grid; what cannot be a position in degrees is not."""
    degrees = (np.abs(latitude) <= 180) & (np.abs(longitude) <= 180)
    return int(grid.cells(latitude[degrees], longitude[degrees])[2].sum())
