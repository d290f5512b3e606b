"""What a file of a release is, by its name alone: the only place that tells day, city, channels."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePath
from typing import Literal

from pipeline.editions import UNDATED_TEST, City, Edition
from pipeline.release_layout import Dated, Undated

KINDS: tuple[Dated | Undated, ...] = (
    "training",
    "validation",
    "test",
    "submission",
    "additional",
    "static",
    "high_res",
)


@dataclass(frozen=True, slots=True)
class NamedFile:
    """What a name says.

    Attributes:
        edition: Whose layout it keeps.
        city: Its city.
        kind: What it holds.
        day: Its day as the release writes it; `None` for files of no day.
    """

    edition: str
    city: str
    kind: Dated | Undated | Literal["slots"]
    day: str | None = None


def parse_name(path: PurePath | str, editions: Iterable[Edition]) -> list[NamedFile]:
    """Return all that a path may be, by its last parts; nothing if no layout knows such a name.

    A day that is no day of the calendar is no name. Where two kinds share a pattern, such as the
    test days and the submissions of 2019, the first of `KINDS` is told.
    """
    parts = PurePath(path).parts
    found = []
    for edition in editions:
        for city in edition.cities:
            found += list(_kinds(parts, edition, city))[:1]
    return found


def _kinds(parts: tuple[str, ...], edition: Edition, city: City) -> Iterator[NamedFile]:
    for kind in KINDS:
        if getattr(edition.layout, kind) is None:
            continue
        pattern = PurePath(edition.layout.path(kind, city.name, "\0")).parts
        if len(parts) < len(pattern) or parts[len(parts) - len(pattern) : -1] != pattern[:-1]:
            continue
        match = re.fullmatch(re.escape(pattern[-1]).replace(re.escape("\0"), "(.+)"), parts[-1])
        if match is None:
            continue
        if not match.groups():
            yield NamedFile(edition.name, city.name, kind)
        elif match[1] != UNDATED_TEST and _is_day(edition, match[1]):
            told = kind
            if kind == "training" and edition.layout.training == edition.layout.validation:
                told = edition.split_of(match[1])
            yield NamedFile(edition.name, city.name, told, match[1])


def _is_day(edition: Edition, day: str) -> bool:
    try:
        edition.day_of(day)
    except ValueError:
        return False
    return True
