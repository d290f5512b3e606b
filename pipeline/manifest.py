"""What a store holds and where it came from, one file a city."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.atomic import write_json
from pipeline.editions import SPLITS, Edition, Split
from pipeline.errors import StoreError
from pipeline.yaml_files import validate

VERSION = 1


@dataclass(frozen=True, slots=True)
class ChannelStatistics:
    """One channel over a day, in bytes; over all cells and frames unless said otherwise.

    Attributes:
        active: Share of cells that are not zero.
        mean: Mean.
        mean_square: Mean square: the error of forecasting zeros.
        maximum: Largest value.
    """

    active: float
    mean: float
    mean_square: float
    maximum: int


@dataclass(frozen=True, slots=True)
class StoredDay:
    """A day in a store.

    Attributes:
        split: What the day is for.
        day: As the release writes it.
        file: Path relative to the store's root.
        source: The release's file.
        source_bytes: Its size.
        source_mtime_ns: When it last changed.
        source_sha256: Its checksum.
        statistics: By channel.
    """

    split: Split
    day: str
    file: str
    source: str
    source_bytes: int
    source_mtime_ns: int
    source_sha256: str
    statistics: dict[str, ChannelStatistics]


@dataclass(frozen=True, slots=True)
class Manifest:
    """The days of one city of a store, in the order of splits and calendar."""

    version: int
    edition: str
    city: str
    day_shape: tuple[int, int, int, int]
    days: tuple[StoredDay, ...]

    @classmethod
    def of(cls, edition: Edition, city: str, days: Iterable[StoredDay]) -> Manifest:
        """Return a manifest of these days, put in order."""
        ordered = sorted(days, key=lambda d: (SPLITS.index(d.split), edition.day_of(d.day)))
        return cls(VERSION, edition.name, city, edition.day_shape, tuple(ordered))

    def by_day(self) -> Mapping[str, StoredDay]:
        """Return the days by name."""
        return {stored.day: stored for stored in self.days}


def manifest_path(root: Path, city: str) -> Path:
    """Return where a store keeps a city's manifest."""
    return root / city / "manifest.json"


def write_manifest(root: Path, manifest: Manifest) -> Path:
    """Write a manifest whole."""
    return write_json(manifest_path(root, manifest.city), asdict(manifest))


def read_manifest(root: Path, edition: Edition, city: str) -> Manifest:
    """Return the manifest of a city.

    Raises:
        StoreError: There is none, it is damaged, or it belongs to another edition or grid.
    """
    path = manifest_path(root, city)
    if not path.is_file():
        raise StoreError(f"{path}: no such store; `t4c ingest` makes it")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as fault:
        raise StoreError(f"{path}: not a manifest: {fault}; delete it and ingest again") from None
    manifest = validate(Manifest, value, str(path), StoreError)
    found = (manifest.version, manifest.edition, manifest.city, tuple(manifest.day_shape))
    wanted = (VERSION, edition.name, city, edition.day_shape)
    if found != wanted:
        raise StoreError(f"{path}: a store of {found}, expected {wanted}")
    return manifest
