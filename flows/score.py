"""The score ladder on validation windows, or a submission against the truth."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from flows.config import RunConfig
from flows.models import build_models
from flows.recipe import Outcome, progress, publish_table, step
from pipeline.atomic import write_json, write_text
from pipeline.editions import City, Edition
from pipeline.errors import ConfigError, StoreError
from pipeline.quarantine import Quarantine
from pipeline.scoring import Errors, join, score_submission, score_windows
from pipeline.sources import TrafficSource
from pipeline.static_maps import read_mask
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
    tested = [city.name for city in edition.cities if city.tested]
    masks = mask_files(config, edition, tested)
    errors = score_file(config.truth, submission, edition, masks, config.workers)
    outcome = report(config, errors, f"score_{submission.stem}", "test slots")
    if config.masks is None and not masks and edition.layout.static is not None:
        maps = static_maps(config, edition, tested)
        missing = [str(path) for path in maps.values() if not path.is_file()]
        outcome.lines.append(f"no masked score: the release lacks {missing}")
    return outcome


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
    path = mask_files(config, source.store.edition, [city.name]).get(city.name)
    mask = None
    if path is not None:
        reader = Quarantine(partial(read_mask, edition=source.store.edition), workers=1)
        with reader as read:
            mask = read(path)
        if mask.ndim > len(source.store.edition.frame_shape) + 1:
            raise ConfigError(f"{path}: a mask of a whole submission file, only for --submission")
    with progress(f"score {city.name}", len(source)) as tick:
        return score_windows(source, models, mask=mask, progress=tick)


@step
def score_file(
    truth: Path, submission: Path, edition: Edition, masks: dict[str, Path], workers: int
) -> Errors:
    """Score a submission."""
    return score_submission(truth, submission, edition, masks=masks, workers=workers)


def mask_files(config: RunConfig, edition: Edition, names: Sequence[str]) -> dict[str, Path]:
    """Return the mask of each of some cities: as the run says, or the static maps of the release.

    Static maps are taken if the release has them all; masks that the run names must be there.

    Raises:
        ConfigError: A mask that the run names is not there.
    """
    if config.masks is not None:
        found = {name: Path(config.masks.replace("{city}", name)) for name in names}
        if missing := [str(path) for path in found.values() if not path.is_file()]:
            raise ConfigError(f"masks: no such files {missing}")
        return found
    if edition.layout.static is None:
        return {}
    maps = static_maps(config, edition, names)
    return maps if all(path.is_file() for path in maps.values()) else {}


def static_maps(config: RunConfig, edition: Edition, names: Sequence[str]) -> dict[str, Path]:
    """Return where the release keeps the static maps of some cities."""
    return {name: config.release / edition.layout.path("static", name) for name in names}


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
    reports = errors.reports()
    if len(reports.columns) > 1:
        facts["reports"] = {str(model): row.dropna().to_dict() for model, row in reports.iterrows()}
        write_text(config.out / f"{name}_reports.csv", reports.to_csv())
    write_text(config.out / f"{name}_slots.csv", errors.slots().to_csv())
    write_text(config.out / f"{name}.csv", table.to_csv())
    write_text(config.out / f"{name}_rows.csv", errors.rows.to_csv(index=False))
    write_json(config.out / f"{name}.json", facts)
    publish_table(f"{errors.edition.name}-{name}", table, f"{errors.edition.title}: {on}")
    scaled, unit = in_units(table, errors.edition)
    lines = [
        f"{errors.edition.title}: MSE in {unit} on {windows} {on}",
        *scaled.to_string(float_format=lambda value: f"{value:.3f}").splitlines(),
        *(_beside(reports, errors.edition) if len(reports.columns) > 1 else []),
        f"table: {facts['table']}",
    ]
    return Outcome(lines, facts)


def _beside(reports: pd.DataFrame, edition: Edition) -> list[str]:
    """Return the lines of what the organisers told beside the score."""
    scaled, _ = in_units(reports, edition)
    table = scaled.to_string(float_format=lambda value: f"{value:.3f}")
    return ["beside the score:", *table.splitlines()]


def in_units(table: pd.DataFrame, edition: Edition) -> tuple[pd.DataFrame, str]:
    """Return scores as a person reads them, and their unit."""
    return (table * 1e3, "10^-3") if edition.score_scale > 1 else (table, "bytes^2")
