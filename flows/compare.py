"""Train models with equal budgets, score them on the same windows, say which is better."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pandas as pd

from flows.apart import apart
from flows.config import RunConfig
from flows.model_config import NAIVE, Compare, Model
from flows.recipe import Outcome, publish_image, publish_table
from flows.score import in_units, score_city
from flows.train import train_into
from pipeline.atomic import write_json, write_text
from pipeline.comparison import paired_difference, seed_table
from pipeline.errors import ConfigError
from pipeline.learning_curve import draw_curves, read_curve
from pipeline.scoring import Errors, join


def compare(config: RunConfig) -> Outcome:
    """Train every model of `compare` with every seed, then score all of them beside the ladder.

    Raises:
        ConfigError: There is nothing to compare, or not exactly one budget.
    """
    plan = config.compare
    if plan is None:
        raise ConfigError("compare: not given; it names models, a budget and seeds")
    if (plan.cpu_seconds is None) == (plan.minutes is None):
        raise ConfigError("compare: give cpu_seconds or minutes, one of them")
    if missing := [name for name in plan.models if name not in config.models]:
        raise ConfigError(f"compare.models: no {missing}; there are {[*config.models]}")
    if not any(re.fullmatch(NAIVE, name) for name in config.ladder):
        raise ConfigError(f"ladder: {list(config.ladder)}, expected a naive forecast to beat")
    files = {name: train_seeds(config, plan, name) for name in plan.models}
    runs: dict[str, list[str]] = {name: [name] for name in config.ladder if name not in files}
    runs |= {name: [str(path) for path in paths] for name, paths in files.items()}
    names = [run for several in runs.values() for run in several]
    errors = join([score_city(config, city, names) for city in config.chosen_cities()])
    return report(config, plan, errors, runs)


def budgeted(model: Model, plan: Compare, seed: int) -> Model:
    """Return a model with the comparison's budget and a seed instead of its own."""
    same = {"steps": None, "epochs": None, "seed": seed}
    budget = {"cpu_seconds": plan.cpu_seconds, "minutes": plan.minutes}
    return model.model_copy(update={"training": model.training.model_copy(update=same | budget)})


def folder_of(config: RunConfig, name: str, seed: int) -> Path:
    """Return where a run's training is kept."""
    return config.out / "compare" / f"{name}_{seed}"


def train_seeds(config: RunConfig, plan: Compare, name: str) -> list[Path]:
    """Train one model with every seed; return their files."""
    return [train_seed(config, plan, name, seed) for seed in plan.seeds]


@apart
def train_seed(config: RunConfig, plan: Compare, name: str, seed: int) -> Path:
    """Train one model with one seed; return its file."""
    folder = folder_of(config, name, seed)
    path = folder.with_name(f"{folder.name}.safetensors")
    return train_into(config, budgeted(config.models[name], plan, seed), folder, path).path


def report(config: RunConfig, plan: Compare, errors: Errors, runs: dict[str, list[str]]) -> Outcome:
    """Write table, differences and picture; say them."""
    table = seed_table(errors, runs)
    best_naive = next(name for name in reversed(table.index) if re.fullmatch(NAIVE, str(name)))
    pairs = [(name, other) for name in plan.models for other in (best_naive, *plan.models)]
    rows: list[dict[str, Any]] = []
    for one, other in pairs:
        if one != other:
            found = paired_difference(errors, runs[one], runs[other])
            row = {"model": one, "against": other, "percent": found.share * 100}
            rows.append(
                row | {"low": found.low * 100, "high": found.high * 100, "dates": found.dates}
            )
    differences = pd.DataFrame(rows)
    folder = config.out / "compare"
    curves = {
        f"{name}, seed {seed}": read_curve(folder_of(config, name, seed))
        for name in plan.models
        for seed in plan.seeds
    }
    picture = draw_curves(folder / "curves.png", curves)
    write_text(folder / "table.csv", table.to_csv(index_label="model"))
    write_text(folder / "differences.csv", differences.to_csv(index=False))
    write_text(folder / "rows.csv", errors.rows.to_csv(index=False))
    title = f"{errors.edition.title}: models with equal budgets"
    publish_table(f"{errors.edition.name}-compare", table, title)
    publish_image(f"{errors.edition.name}-compare-curves", picture, title)
    budget = f"{plan.cpu_seconds:g} CPU-seconds" if plan.cpu_seconds else f"{plan.minutes} minutes"
    scaled, unit = in_units(table.astype(float), errors.edition)
    scaled["seeds"] = table["seeds"]
    lines = [
        f"{errors.edition.title}: validation MSE in {unit}, {budget} each",
        *scaled.to_string(float_format=lambda value: f"{value:.3f}", na_rep="-").splitlines(),
        "differences in %, with 95 % intervals over dates:",
        *differences.to_string(index=False, float_format=lambda v: f"{v:.2f}").splitlines(),
        f"table: {folder / 'table.csv'}",
        f"curves: {picture}",
    ]
    facts: dict[str, Any] = {
        "edition": errors.edition.name,
        "budget": budget,
        "scores": {str(name): row.dropna().to_dict() for name, row in table.iterrows()},
        "differences": rows,
        "table": str(folder / "table.csv"),
        "curves": str(picture),
    }
    write_json(folder / "compare.json", facts)
    return Outcome(lines, facts)
