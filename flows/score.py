"""The score ladder on validation windows, or a submission against the truth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from flows.config import RunConfig
from flows.models import build_models
from flows.recipe import Outcome, progress, publish_table, step
from pipeline.atomic import write_json, write_text
from pipeline.editions import City, Edition
from pipeline.errors import ConfigError, StoreError
from pipeline.scoring import Errors, join, score_submission, score_windows
from pipeline.sources import TrafficSource
from pipeline.store import Store
from pipeline.windows import WindowPlan

if TYPE_CHECKING:
    import pandas as pd


def score(config: RunConfig, *, submission: Path | None = None) -> Outcome:
    """Score the ladder on the validation days, or a submission on the truth of the test days.

    Args:
        config: The run.
        submission: A zip or folder to score instead of the ladder.
    """
    edition = config.chosen_edition()
    if submission is None:
        errors = join([score_city(config, city, config.ladder) for city in config.chosen_cities()])
        return report(config, errors, "ladder", "validation windows")
    if config.truth is None:
        raise ConfigError("truth: not given; a submission is scored against it")
    errors = score_file(config.truth, submission, edition, config.workers)
    return report(config, errors, f"score_{submission.stem}", "test slots")


def validation_source(config: RunConfig, city: City) -> TrafficSource:
    """Return the windows of a city's validation days that everything is scored on.

    Raises:
        StoreError: The store has no validation days.
    """
    store = Store.open(config.store, config.read_edition(), city)
    days = store.days("validation")
    if not days:
        raise StoreError(f"{config.store}: {city.name} has no validation days to score on")
    return TrafficSource(store, WindowPlan(city.name, tuple(days), config.cut(store.edition)))


@step
def score_city(config: RunConfig, city: City, names: Sequence[str]) -> Errors:
    """Score models on one city, all on the same windows."""
    source = validation_source(config, city)
    models = build_models(config, source.store, names)
    with progress(f"score {city.name}", len(source)) as tick:
        return score_windows(source, models, progress=tick)


@step
def score_file(truth: Path, submission: Path, edition: Edition, workers: int) -> Errors:
    """Score a submission."""
    return score_submission(truth, submission, edition, workers=workers)


def report(config: RunConfig, errors: Errors, name: str, on: str) -> Outcome:
    """Write the table as CSV and JSON, publish it, and say it."""
    table = errors.table()
    windows = len(errors.rows[["city", "day", "slot"]].drop_duplicates())
    facts = {
        "edition": errors.edition.name,
        "scored_on": on,
        "windows": windows,
        "days": sorted(map(str, errors.rows["day"].unique())),
        "scores": {str(model): row.dropna().to_dict() for model, row in table.iterrows()},
        "table": str(config.out / f"{name}.csv"),
        "rows": str(config.out / f"{name}_rows.csv"),
    }
    write_text(config.out / f"{name}.csv", table.to_csv())
    write_text(config.out / f"{name}_rows.csv", errors.rows.to_csv(index=False))
    write_json(config.out / f"{name}.json", facts)
    publish_table(f"{errors.edition.name}-{name}", table, f"{errors.edition.title}: {on}")
    scaled, unit = in_units(table, errors.edition)
    lines = [
        f"{errors.edition.title}: MSE in {unit} on {windows} {on}",
        *scaled.to_string(float_format=lambda value: f"{value:.3f}").splitlines(),
        f"table: {facts['table']}",
    ]
    return Outcome(lines, facts)


def in_units(table: pd.DataFrame, edition: Edition) -> tuple[pd.DataFrame, str]:
    """Return scores as a person reads them, and their unit."""
    return (table * 1e3, "10^-3") if edition.score_scale > 1 else (table, "bytes^2")
