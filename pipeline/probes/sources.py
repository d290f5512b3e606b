"""Which files the points are in, and whether they changed since the last run."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from pipeline.errors import PointsError
from pipeline.probes.settings import Rasterising

WILD = frozenset("*?[")


@dataclass(frozen=True, slots=True)
class Source:
    """A file of points, as it was when a run began.

    Attributes:
        file: As it was asked for.
        bytes: Its size.
        mtime_ns: When it last changed.
        sha256: Checksum of its content.
    """

    file: str
    bytes: int
    mtime_ns: int
    sha256: str


def find_sources(
    patterns: Iterable[str], base: Path, known: Mapping[str, Source] | None = None
) -> list[Source]:
    """Return the files that are meant, each once, in an order that does not hang on their names.

    Args:
        patterns: Files or glob patterns.
        base: Where relative ones are looked for.
        known: Files of an earlier run by name; one of the same size and time of change is taken to
            have the same checksum.

    Raises:
        PointsError: A file is not there, or a pattern fits none; lists them all.
    """
    found: dict[Path, str] = {}
    faults = []
    for pattern in patterns:
        paths = _matches(pattern, base)
        if not paths:
            reason = "fits no file" if WILD & set(pattern) else "no such file"
            faults.append(f"{base / pattern}: {reason}")
        for path in paths:
            found.setdefault(path.resolve(), str(_as_asked(path, base)))
    if faults:
        raise PointsError("\n".join(faults))
    known = known or {}
    sources = [_source(path, file, known.get(file)) for path, file in found.items()]
    return sorted(sources, key=lambda source: (source.sha256, source.file))


def check_unchanged(sources: Iterable[Source], base: Path) -> None:
    """Make sure that no file changed while it was read.

    Raises:
        PointsError: Some did; lists them all.
    """
    changed = []
    for source in sources:
        path = base / source.file
        now = path.stat() if path.exists() else None
        if now is None or (now.st_size, now.st_mtime_ns) != (source.bytes, source.mtime_ns):
            changed.append(f"{path}: changed while it was read; rasterise again")
    if changed:
        raise PointsError("\n".join(changed))


def check_units(sources: Iterable[Source], settings: Rasterising) -> None:
    """Make sure that the unit of every file's speeds is said, once, and no pattern is idle.

    Raises:
        PointsError: Some files or patterns are at fault; lists them all.
    """
    if not isinstance(settings.speed_unit, dict):
        return
    names = [Path(source.file).name for source in sources]
    faults = []
    for source in sources:
        units = settings.units_of(source.file)
        if len(units) != 1:
            found = f"{units} by several patterns" if units else "no pattern that fits"
            faults.append(f"{source.file}: speed_unit has {found}, expected one")
    faults += [
        f"speed_unit: {pattern!r} fits none of {len(names)} files"
        for pattern in settings.speed_unit
        if not any(fnmatchcase(name, pattern) for name in names)
    ]
    if faults:
        raise PointsError("\n".join(faults))


def _matches(pattern: str, base: Path) -> list[Path]:
    path = Path(pattern)
    if (base / path).is_file():
        return [base / path]
    if not WILD & set(pattern):
        return []
    root = Path(path.anchor) if path.is_absolute() else base
    relative = str(path.relative_to(path.anchor)) if path.is_absolute() else pattern
    return sorted(found for found in root.glob(relative) if found.is_file())


def _as_asked(path: Path, base: Path) -> Path:
    return path.relative_to(base) if path.is_relative_to(base) else path


def _source(path: Path, file: str, known: Source | None) -> Source:
    now = path.stat()
    if known is not None and (known.bytes, known.mtime_ns) == (now.st_size, now.st_mtime_ns):
        return known
    with path.open("rb") as content:
        checksum = hashlib.file_digest(content, "sha256").hexdigest()
    return Source(file, now.st_size, now.st_mtime_ns, checksum)
