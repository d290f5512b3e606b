"""Turn GPS points into day files: a city of one's own."""

from __future__ import annotations

from flows.config import RunConfig
from flows.recipe import Outcome, stages, step
from pipeline.editions import City
from pipeline.errors import ConfigError
from pipeline.probes.rasterise import rasterise as rasterise_city
from pipeline.probes.report import RasteriseReport, report_path
from pipeline.probes.settings import Rasterising


def rasterise(config: RunConfig) -> Outcome:
    """Draw the days of the run's city from its points."""
    if config.rasterise is None:
        raise ConfigError("rasterise: not given; it says where the points are")
    outcome = Outcome(facts={"cities": {}})
    for city in config.chosen_cities():
        report = draw(config, config.rasterise, city)
        outcome.lines += _lines(config, report)
        outcome.facts["cities"][city.name] = {
            "read": report.read,
            "used": report.used,
            "dropped": {str(reason): count for reason, count in report.dropped.items()},
            "filled": report.filled,
            "days": [day.file for day in report.days],
            "unchanged": report.unchanged,
            "report": str(report_path(config.release, city.name)),
        }
    return outcome


@step
def draw(config: RunConfig, settings: Rasterising, city: City) -> RasteriseReport:
    """Draw one city."""
    edition = config.read_edition()
    with stages() as tick:
        return rasterise_city(
            edition, city, settings, config.release, workers=max(1, config.workers), progress=tick
        )


def _lines(config: RunConfig, report: RasteriseReport) -> list[str]:
    dropped = sum(report.dropped.values())
    head = "unchanged" if report.unchanged else f"{len(report.days)} days drawn"
    return [
        f"{report.city}: {head} -> {config.release / report.city}",
        f"  {report.read:>12,} fixes read",
        f"  {report.used:>12,} used",
        f"  {dropped:>12,} dropped",
        *(f"  {count:>12,}   {reason}" for reason, count in report.dropped.items() if count),
        *([f"  {report.filled:>12,} cells filled between fixes"] if report.filled else []),
    ]
