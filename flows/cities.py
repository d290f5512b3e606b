"""The cities that a training reads: those of the run, and those of other stores and editions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from flows.config import RunConfig
from flows.model_config import OtherCities, Reading
from pipeline.catalog import DEFAULT_CATALOG, read_edition
from pipeline.context import label
from pipeline.editions import City, Edition
from pipeline.errors import ConfigError
from pipeline.store import Store


def training_editions(config: RunConfig, reading: Reading) -> list[Edition]:
    """Return the run's edition and those of `reading.also`, each with its chosen cities alone.

    Raises:
        CatalogError: A catalogue is faulty, or has no such edition.
        ConfigError: An edition has not got a city, a city is given twice, or frames of another
            edition do not mean what the run's mean.
    """
    editions = [config.chosen_edition()]
    for number, other in enumerate(reading.also):
        where = f"reading.also.{number}"
        edition = _chosen(config, other, where)
        if faults := other_frames(editions[0], edition):
            raise ConfigError(
                f"{where}: frames of {edition.name} are not those of {editions[0].name}: "
                + "; ".join(faults)
            )
        editions.append(edition)
    names = [label(edition, city) for edition in editions for city in edition.cities]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"reading.also: {twice} are read already")
    return editions


def training_stores(config: RunConfig, reading: Reading) -> list[Store]:
    """Return the store of every city that a training reads, the run's own first.

    Raises:
        CatalogError: As `training_editions`.
        ConfigError: Likewise.
        StoreError: A store is missing.
    """
    editions = training_editions(config, reading)
    whole = [config.read_edition(), *(_edition(config, other) for other in reading.also)]
    roots = [config.store, *(other.store for other in reading.also)]
    return [
        Store.open(root, every, city)
        for root, every, edition in zip(roots, whole, editions, strict=True)
        for city in edition.cities
    ]


def name_of(own: str, edition: Edition, city: City) -> str:
    """Return what a network's file calls a city: by its name, if it is of the network's edition.

    Args:
        own: Edition that the network was trained for.
        edition: The city's.
        city: Which.
    """
    return city.name if edition.name == own else label(edition, city)


def other_frames(own: Edition, other: Edition) -> list[str]:
    """Return in what frames of two editions differ that a network cannot tell; none, if it can."""
    facts = {
        "channels": (list(own.channels), list(other.channels)),
        "minutes a frame": (own.bin_minutes, other.bin_minutes),
        "headings": (own.headings, other.headings),
        "forecast channels": (own.forecast_channels, other.forecast_channels),
    }
    return [
        f"{what} {theirs}, expected {ours}"
        for what, (ours, theirs) in facts.items()
        if ours != theirs
    ]


def grids(stores: Sequence[Store]) -> set[tuple[int, int]]:
    """Return the sizes that frames of several cities have, rows and columns."""
    return {(store.edition.height, store.edition.width) for store in stores}


def _chosen(config: RunConfig, other: OtherCities, where: str) -> Edition:
    edition = _edition(config, other)
    if other.cities is None:
        return edition
    known = [city.name for city in edition.cities]
    if unknown := [name for name in other.cities if name not in known]:
        raise ConfigError(f"{where}.cities: {edition.name} has no {unknown}; it has {known}")
    return replace(edition, cities=tuple(c for c in edition.cities if c.name in other.cities))


def _edition(config: RunConfig, other: OtherCities) -> Edition:
    edition = read_edition(other.edition, other.catalog or config.catalog or DEFAULT_CATALOG)
    if config.grid is None:
        return edition
    own = read_edition(config.edition, config.catalog or DEFAULT_CATALOG)
    if (edition.height, edition.width) != (own.height, own.width):
        return edition
    return replace(edition, height=config.grid[0], width=config.grid[1])  # rehearsed together
