"""Bring the store up to date with the release."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from flows.config import RunConfig
from flows.news import announce_days
from flows.recipe import Outcome, inside_a_flow, progress, step
from pipeline.catalog import release_days
from pipeline.editions import City
from pipeline.errors import InUseError
from pipeline.ingest import IngestReport, ingest_city


class UnreadableDaysError(OSError):
    """Days that could not be read for now; the others are in the store.

    Attributes:
        report: What became of all of them.
    """

    def __init__(self, report: IngestReport) -> None:
        super().__init__("; ".join(report.refused[day] for day in report.unreadable))
        self.report = report


def ingest(config: RunConfig, *, verify: bool = False) -> Outcome:
    """Re-chunk every new or changed day of every city.

    However it ends, a flow tells of the days that are in the store then and were not told of yet.

    Args:
        config: The run.
        verify: Compare checksums even where size and time of a file have not changed.
    """
    try:
        return _ingest(config, verify)
    finally:
        announce_days(config)


def _ingest(config: RunConfig, verify: bool) -> Outcome:
    outcome = Outcome(facts={"cities": {}})
    for city in config.chosen_cities():
        try:
            report = ingest_one(config, city, verify)
        except UnreadableDaysError as fault:  # retries did not help
            report = fault.report
        except (OSError, InUseError) as fault:  # the other cities go on
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
        raise UnreadableDaysError(report)
    return report
