"""Bring the store up to date with the release."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from flows.config import RunConfig
from flows.recipe import Outcome, progress, step
from pipeline.catalog import release_days
from pipeline.editions import City
from pipeline.ingest import IngestReport, ingest_city


def ingest(config: RunConfig, *, verify: bool = False) -> Outcome:
    """Re-chunk every new or changed day of every city.

    Args:
        config: The run.
        verify: Compare checksums even where size and time of a file have not changed.
    """
    outcome = Outcome()
    for city in config.chosen_cities():
        report = ingest_one(config, city, verify)
        outcome.lines.append(
            f"{city.name}: {len(report.ingested)} days ingested, {len(report.kept)} unchanged, "
            f"{len(report.refused)} refused -> {config.store / city.name}"
        )
        outcome.facts[city.name] = asdict(report)
        outcome.faults += report.refused.values()
    return outcome


@step
def ingest_one(config: RunConfig, city: City, verify: bool) -> IngestReport:
    """Ingest one city."""
    edition = config.read_edition()
    total = len(release_days(config.release, edition, city))
    with progress(f"ingest {city.name}", total) as tick:
        return ingest_city(
            config.release,
            edition,
            city,
            Path(config.store),
            workers=config.workers,
            cluster=config.cluster,
            verify=verify,
            progress=tick,
        )
