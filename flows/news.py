"""Which days of a store are news: said at least once to those who wait, whatever kills a run."""

from __future__ import annotations

import json
from pathlib import Path

from flows.config import RunConfig
from flows.recipe import announce, inside_a_flow
from pipeline.atomic import write_json
from pipeline.errors import StoreError
from pipeline.manifest import read_manifest

Days = dict[str, dict[str, str]]
"""Checksum of the source, by city and day."""


def announce_days(config: RunConfig) -> None:
    """In a flow, emit `t4c.days.ingested` for all days that no flow has told of yet.

    What the manifests list is held against `STORE/.announced.json`, which is written after the
    event was emitted: killed in between, the next run says it again. So days are told of that came
    in without a flow, in a run that was killed, or in one that failed at another day.

    Raises:
        OutputError: The list cannot be written; the next run says it again.
    """
    if not inside_a_flow():
        return
    listed = _listed(config)
    told = _told(config.store / ".announced.json")
    news = {
        city: new
        for city, days in listed.items()
        if (new := [day for day, sha in days.items() if told.get(city, {}).get(day) != sha])
    }
    if news:
        announce("days.ingested", config.edition, news)
    if told | listed != told:
        write_json(config.store / ".announced.json", told | listed)


def _listed(config: RunConfig) -> Days:
    """Return the days of each city that has a manifest of this edition."""
    edition, found = config.read_edition(), {}
    for city in config.chosen_cities():
        try:
            days = read_manifest(config.store, edition, city).days
        except StoreError:  # not there yet, or refused by whoever ingests it
            continue
        found[city.name] = {stored.day: stored.source_sha256 for stored in days}
    return found


def _told(path: Path) -> Days:
    """Return what was told of; nothing, if that is not known: to say it again does no harm."""
    try:
        found: Days = json.loads(path.read_text(encoding="utf-8"))
        return {city: {**days} for city, days in found.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
