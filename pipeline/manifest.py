"""What a store holds and where it came from, one file a city."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.atomic import write_json
from pipeline.editions import SPLITS, City, Edition, Slot, Split
from pipeline.errors import StoreError
from pipeline.yaml_files import validate

VERSION = 2


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
        source_bytes: Its size, and that of what stands beside it.
        source_mtime_ns: When they last changed.
        source_sha256: Checksum of them, one after the other.
        stored_bytes: Size of the store's file.
        stored_sha256: Its checksum.
        statistics: By channel.
        slots: Of a test file of input hours alone, where each was cut.
    """

    split: Split
    day: str
    file: str
    source: str
    source_bytes: int
    source_mtime_ns: int
    source_sha256: str
    stored_bytes: int
    stored_sha256: str
    statistics: dict[str, ChannelStatistics]
    slots: tuple[Slot, ...] = ()


@dataclass(frozen=True, slots=True)
class Manifest:
    """The days of one city of a store, in the order of splits and calendar.

    Attributes:
        city: Its name.
        made_for: Version, edition, shape, channels, clock and box: what the days' labels say.
        days: The days.
    """

    city: str
    made_for: dict[str, Any]
    days: tuple[StoredDay, ...]

    @classmethod
    def of(cls, edition: Edition, city: City, days: Iterable[StoredDay]) -> Manifest:
        """Return a manifest of these days, put in order."""
        ordered = sorted(days, key=lambda d: (SPLITS.index(d.split), edition.order(d.day)))
        return cls(city.name, labels(edition, city), tuple(ordered))

    def by_day(self) -> Mapping[str, StoredDay]:
        """Return the days by name."""
        return {stored.day: stored for stored in self.days}


def labels(edition: Edition, city: City) -> dict[str, Any]:
    """Return all that the stored days of a city say of themselves, as plain values."""
    return {
        "version": VERSION,
        "edition": edition.name,
        "day_shape": list(edition.day_shape),
        "channels": list(edition.channels),
        "bin_minutes": edition.bin_minutes,
        "time_zone": edition.time_zone,
        "box": [city.lat_min, city.lat_max, city.lon_min, city.lon_max],
        "rotated": city.rotated,
    }


def manifest_path(root: Path, city: str) -> Path:
    """Return where a store keeps a city's manifest."""
    return root / city / "manifest.json"


def write_manifest(root: Path, manifest: Manifest) -> Path:
    """Write a manifest whole."""
    return write_json(manifest_path(root, manifest.city), asdict(manifest))


def read_manifest(root: Path, edition: Edition, city: City) -> Manifest:
    """Return the manifest of a city.

    Raises:
        StoreError: There is none, it is damaged, or its days were made for other facts.
    """
    path = manifest_path(root, city.name)
    if not path.is_file():
        raise StoreError(f"{path}: no such store; `t4c ingest` makes it")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as fault:
        raise StoreError(f"{path}: not a manifest: {fault}; delete it and ingest again") from None
    manifest = validate(Manifest, value, str(path), StoreError)
    wanted = {"city": city.name, **labels(edition, city)}
    found = {"city": manifest.city, **manifest.made_for}
    if found != wanted:
        differing = [key for key in sorted(found | wanted) if found.get(key) != wanted.get(key)]
        raise StoreError(
            f"{path}: a store with { ({key: found.get(key) for key in differing}) }, "
            f"expected { ({key: wanted.get(key) for key in differing}) }; "
            "delete it and ingest again, or use another `store`"
        )
    return manifest
