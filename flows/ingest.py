"""Bring the store up to date with the release."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from flows.config import RunConfig
from flows.recipe import Outcome, announce, inside_a_flow, progress, step
from pipeline.catalog import release_days
from pipeline.editions import City
from pipeline.errors import InUseError
from pipeline.ingest import IngestReport, ingest_city


def ingest(config: RunConfig, *, verify: bool = False) -> Outcome:
    """Re-chunk every new or changed day of every city.

    Args:
        config: The run.
        verify: Compare checksums even where size and time of a file have not changed.
    """
    outcome = Outcome(facts={"cities": {}})
    for city in config.chosen_cities():
        try:
            report = ingest_one(config, city, verify)
        except (OSError, InUseError) as fault:  # retries did not help; the other cities go on
            outcome.faults.append(f"{city.name}: {fault}")
            continue
        rest = {"gone from the release": report.gone, "dropped": report.dropped}
        outcome.lines.append(
            f"{city.name}: {len(report.ingested)} days ingested, {len(report.kept)} unchanged, "
            f"{len(report.refused)} refused"
            + "".join(f", {len(days)} {what}" for what, days in rest.items() if days)
            + f" -> {config.store / city.name}"
        )
        outcome.facts["cities"][city.name] = asdict(report)
        outcome.faults += report.refused.values()
    cities = outcome.facts["cities"].items()
    if new := {city: list(report["ingested"]) for city, report in cities if report["ingested"]}:
        announce("days.ingested", config.edition, new)
    return outcome


@step
def ingest_one(config: RunConfig, city: City, verify: bool) -> IngestReport:
    """Ingest one city; inside a flow, days that could not be read for now are worth a retry."""
    edition = config.read_edition()
    total = len(release_days(config.release, edition, city))
    with progress(f"ingest {city.name}", total) as tick:
        report = ingest_city(
            config.release,
            edition,
            city,
            Path(config.store),
            workers=config.workers,
            cluster=config.cluster,
            verify=verify,
            progress=tick,
        )
    if report.unreadable and inside_a_flow():
        raise OSError("; ".join(report.refused[day] for day in report.unreadable))
    return report
