"""`data_catalog.yaml` to editions, and which day files a release holds."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from pipeline.editions import SPLITS, UNDATED_TEST, City, Edition, Split
from pipeline.errors import CatalogError
from pipeline.yaml_files import read_yaml, validate

_HERE = Path(__file__).resolve().parent
DEFAULT_CATALOG = next(
    (p for p in (_HERE / "data_catalog.yaml", _HERE.parent / "data_catalog.yaml") if p.exists()),
    _HERE.parent / "data_catalog.yaml",
)
OTHER_KINDS = ("moving_mnist", "video")
T = TypeVar("T")


def read_catalog(path: Path = DEFAULT_CATALOG) -> dict[str, Edition]:
    """Return every edition of a catalogue by name; entries of another kind are left alone.

    Raises:
        CatalogError: The file, or an entry of it, is not what it should be; lists every fault.
    """
    editions, faults = {}, []
    for name, entry in read_yaml(path, CatalogError).items():
        if isinstance(entry, dict) and entry.get("kind") in OTHER_KINDS:
            continue  # of another room, which reads its own
        try:
            editions[str(name)] = _edition(str(name), entry, path)
        except CatalogError as fault:
            faults.append(str(fault))
    if faults:
        raise CatalogError("\n".join(faults))
    return editions


def read_edition(name: str, path: Path = DEFAULT_CATALOG) -> Edition:
    """Return one edition of a catalogue.

    Raises:
        CatalogError: The catalogue is faulty or has no such entry.
    """
    editions = read_catalog(path)
    if name not in editions:
        raise CatalogError(f"{path}: no edition {name!r}; there are {sorted(editions)}")
    return editions[name]


def _edition(name: str, entry: Any, path: Path) -> Edition:
    where = f"{path}: {name}"
    if not isinstance(entry, dict) or not isinstance(entry.get("cities", {}), dict):
        raise CatalogError(f"{where}: expected a mapping with `cities`, a mapping by name")
    given = [key for key in ("name",) if key in entry]
    if given:
        raise CatalogError(f"{where}: `name` is the entry's key and is not given again")
    named = dict(entry, name=name)
    if "cities" in entry:
        named["cities"] = [
            {"name": str(city), **(facts if isinstance(facts, dict) else {"facts": facts})}
            for city, facts in entry["cities"].items()
        ]
    return validate(Edition, named, where, CatalogError)


@dataclass(frozen=True, slots=True, order=True)
class DayFile:
    """A day of a city in a release.

    Attributes:
        city: Its city.
        split: Its split.
        day: The day, or `UNDATED_TEST`.
        path: Its file.
        beside: A file without which it cannot be understood.
    """

    city: str
    split: Split
    day: str
    path: Path
    beside: Path | None = None


def day_path(root: Path, edition: Edition, city: City, split: Split, day: str) -> Path:
    """Return where a release keeps a day, whether it is there or not."""
    return root / edition.layout.path(split, city.name, day)


def day_files(root: Path, edition: Edition, city: City, split: Split) -> list[DayFile]:
    """Return the days of a split that a release holds, in the order of the calendar.

    Raises:
        CatalogError: A file in the split's folder bears a name that the layout does not allow.
    """
    layout = edition.layout
    if split == "test" and (layout.test is None or not city.tested):
        return []
    named = files_by_day(root, edition, city, split)
    if layout.training == layout.validation and split != "test":
        named = {day: path for day, path in named.items() if edition.split_of(day) == split}
    additional = None
    if split == "test" and layout.test_kind == "windows":
        additional = root / layout.path("additional", city.name)
    return [DayFile(city.name, split, day, path, additional) for day, path in named.items()]


def files_by_day(
    root: Path, edition: Edition, city: City, kind: Split | Literal["submission"]
) -> dict[str, Path]:
    """Return the files of a kind that are there, by day, in the order of the calendar.

    Raises:
        CatalogError: A file beside them bears a name that the pattern does not allow; lists all.
    """
    pattern = edition.layout.path(kind, city.name, "\0")
    if "\0" not in pattern:
        return {UNDATED_TEST: root / pattern} if (root / pattern).is_file() else {}
    folder, name = (root / pattern).parent, Path(pattern).name
    named = re.compile(re.escape(name).replace(re.escape("\0"), "(.+)"))
    days: dict[str, Path] = {}
    faults = []
    for path in sorted(folder.glob("*.h5")):
        if path.name.startswith(".") and kind != "submission":
            continue  # what file systems and archives leave beside a release's days
        match = named.fullmatch(path.name)
        try:
            if match is None:
                raise ValueError
            edition.day_of(match[1])
        except ValueError:
            faults.append(path.name)
        else:
            days[match[1]] = path
    if faults:
        raise CatalogError(
            f"{folder}: names that are not {name.replace(chr(0), edition.layout.day_format)}: "
            f"{', '.join(faults)}"
        )
    return dict(sorted(days.items(), key=lambda named_day: edition.day_of(named_day[0])))


def release_days(root: Path, edition: Edition, city: City) -> list[DayFile]:
    """Return every day of a city, split by split.

    Raises:
        CatalogError: The release has none of this city, or a day stands in two splits.
    """
    days = [file for split in SPLITS for file in day_files(root, edition, city, split)]
    if not days:
        expected = day_path(root, edition, city, "training", edition.layout.day_format)
        raise CatalogError(f"{root}: no day of {city.name}; expected files like {expected}")
    seen: dict[object, DayFile] = {}
    for file in days:
        day = edition.order(file.day)[0]
        if day in seen:
            raise CatalogError(f"{file.path}: the day is in {seen[day].path} already")
        seen[day] = file
    return days


def read_other(schema: type[T], kind: str, name: str, path: Path | None = None) -> T:
    """Return an entry that is no edition: digits, videos.

    Args:
        schema: What it must be.
        kind: Its `kind`, one of `OTHER_KINDS`.
        name: Its key.
        path: The catalogue; the one that is shipped, if not given.

    Raises:
        CatalogError: The catalogue is faulty, or has no such entry of this kind.
    """
    path = path or DEFAULT_CATALOG
    entries = {
        str(key): entry
        for key, entry in read_yaml(path, CatalogError).items()
        if isinstance(entry, dict) and entry.get("kind") == kind
    }
    if name not in entries:
        raise CatalogError(f"{path}: no {kind} {name!r}; there are {sorted(entries)}")
    return validate(schema, {**entries[name], "name": name}, f"{path}: {name}", CatalogError)
