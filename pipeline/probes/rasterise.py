"""The whole run: points in, a city's day files out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pipeline.alone import alone
from pipeline.atomic import sweep
from pipeline.catalog import day_path
from pipeline.editions import City, Edition
from pipeline.errors import PointsError
from pipeline.probes.cells import heading_codes
from pipeline.probes.days import calendar, split_of
from pipeline.probes.drawing import Drawing, draw_day
from pipeline.probes.points import Piece, pieces_of
from pipeline.probes.report import (
    VERSION,
    DrawnDay,
    RasteriseReport,
    Reason,
    as_unchanged,
    fingerprint_of,
    ordered,
    read_report,
    still_whole,
    total,
    write_report,
)
from pipeline.probes.runs import Progress, Tasks, clear
from pipeline.probes.scratch import (
    PieceReport,
    Scratch,
    carry_over,
    cut_piece,
    number_vehicles,
    sort_day,
)
from pipeline.probes.settings import Rasterising, zone
from pipeline.probes.sources import Source, check_unchanged, check_units, find_sources

SCRATCH = ".rasterise"


def rasterise(
    edition: Edition,
    city: City,
    settings: Rasterising,
    root: Path,
    *,
    base: Path = Path(),
    workers: int = 2,
    progress: Progress | None = None,
) -> RasteriseReport:
    """Draw a city's days from points, as the 2019 edition's files have them.

    Every file appears whole. Nothing depends on the order of files and rows, on how they are cut
    into pieces, or on `workers`. A killed run is taken up where it stopped; a second run does
    nothing unless the points, the settings, the edition or the day files changed. Memory is bounded
    by a batch of points, a day of fixes and its frames for each worker, and one fix for each
    vehicle.

    Args:
        edition: Grid, bins, clock, splits and layout of the files.
        city: One of its cities.
        settings: Points, and how they are drawn.
        root: Root of the release that is made.
        base: Where relative points are looked for.
        workers: Tasks at a time, in Dask threads: all that is slow leaves Python's lock.
        progress: Told as each task ends.

    Returns:
        Counts that add up; also in `<root>/<city>/rasterise.json`.

    Raises:
        PointsError: The points cannot be used.
        InUseError: Another run is at work on this city.
        CatalogError: The edition's channels or headings are not those of 2019.
    """
    heading_codes(edition)
    folder = root / city.name
    with alone(root / f".{city.name}.rasterise.lock", folder, "rasterise"):
        earlier = read_report(root, city.name)
        known = {source.file: source for source in earlier.sources} if earlier else {}
        sources = find_sources(settings.points, base, known)
        check_units(sources, settings)
        fingerprint = fingerprint_of(edition, city, settings, sources)
        scratch = Scratch(folder / SCRATCH / fingerprint[:16])
        if earlier and earlier.fingerprint == fingerprint and still_whole(earlier, root):
            clear(scratch.folder.parent)
            return as_unchanged(earlier)
        clear(scratch.folder.parent, but=scratch.folder)
        drawing = Drawing(edition, city, settings, root, scratch)
        tasks = Tasks(workers, progress)
        try:
            pieces = _read(drawing, sources, base, tasks)
        except PointsError:
            clear(scratch.folder.parent)
            raise
        if earlier:  # what it says ends with the first file that is replaced
            write_report(root, replace(earlier, fingerprint=""))
        days, outside = _draw(drawing, pieces, tasks)
        report = RasteriseReport(
            version=VERSION,
            edition=edition.name,
            city=city.name,
            fingerprint=fingerprint,
            settings=settings,
            sources=tuple(sources),
            read=sum(piece.rows for piece in pieces),
            used=sum(day.used for day in days),
            dropped=ordered(
                total([outside, *(p.dropped for p in pieces), *(d.dropped for d in days)])
            ),
            filled=sum(day.filled for day in days),
            days=tuple(days),
        )
        _remove_outdated(root, earlier, report)
        write_report(root, report)
        clear(scratch.folder.parent)
    return report


def _read(drawing: Drawing, sources: list[Source], base: Path, tasks: Tasks) -> list[PieceReport]:
    """Cut all points by day; refuse those that cannot be this city's."""
    pieces: list[Piece] = []
    source_of: list[Source] = []
    for source in sources:
        found = pieces_of(base / source.file)
        pieces += found
        source_of += [source] * len(found)
    grid = drawing.grid
    clock = zone(drawing.edition.clock(grid.city))

    def read(numbered: tuple[int, Piece]) -> PieceReport:
        number, piece = numbered
        folder = drawing.scratch.piece(number)
        return cut_piece(piece, drawing.settings, clock, grid, folder)

    reports = tasks.run("read", read, enumerate(pieces))
    check_unchanged(sources, base)
    faults, inside = [], 0
    for source in sources:
        ours = [r for r, of in zip(reports, source_of, strict=True) if of is source]
        inside += sum(piece.inside for piece in ours)
        if not any(piece.rows for piece in ours):
            faults.append(f"{base / source.file}: holds no points, only columns")
        elif any(p.swapped for p in ours) and not any(p.inside for p in ours):
            faults.append(
                f"{base / source.file}: no position lies in {_box(drawing.city)}, but they would "
                "with latitude and longitude swapped"
            )
    if not faults and not inside:
        names = ", ".join(str(base / source.file) for source in sources[:5])
        faults.append(f"{names}: no position lies in {_box(drawing.city)}")
    days = sorted(set().union(*(piece.days for piece in reports)))
    if not faults and all(split_of(drawing.edition, day) is None for day in days):
        span = f"{calendar(days[0])} to {calendar(days[-1])}" if days else "none"
        splits = ", ".join(f"{d.first} to {d.last}" for d in drawing.edition.splits.values())
        faults.append(
            f"{base / sources[0].file}: fixes of the days {span}, none of which is in a split "
            f"of {drawing.edition.name} ({splits})"
        )
    if faults:
        raise PointsError("\n".join(faults))
    return reports


def _draw(
    drawing: Drawing, pieces: list[PieceReport], tasks: Tasks
) -> tuple[list[DrawnDay], dict[Reason, int]]:
    """Sort and draw every day; return the days, and what lies outside the splits."""
    scratch, edition = drawing.scratch, drawing.edition
    days = sorted(set().union(*(piece.days for piece in pieces)))
    vehicles = number_vehicles(scratch, pieces)

    def sort(day: int) -> None:
        sort_day(scratch, day, [n for n, piece in enumerate(pieces) if day in piece.days])

    tasks.run("sort", sort, days)
    carry_over(scratch, days, vehicles)
    splits = {day: split for day in days if (split := split_of(edition, day)) is not None}
    outside = sum(piece.days.get(day, 0) for piece in pieces for day in days if day not in splits)
    for split in set(splits.values()):
        sweep(day_path(drawing.root, edition, drawing.city, split, "day").parent)
    drawn = tasks.run("draw", lambda job: draw_day(drawing, *job), splits.items())
    return drawn, {Reason.OUTSIDE_DAYS: outside}


def _remove_outdated(root: Path, earlier: RasteriseReport | None, now: RasteriseReport) -> None:
    """Remove days that an earlier run drew and this one does not."""
    ours = {day.file for day in now.days}
    for day in earlier.days if earlier else ():
        if day.file not in ours:
            (root / day.file).unlink(missing_ok=True)


def _box(city: City) -> str:
    return (
        f"{city.name}'s box, latitude {city.lat_min} to {city.lat_max}, "
        f"longitude {city.lon_min} to {city.lon_max}"
    )
