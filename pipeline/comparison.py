"""Whether one model is better than another: means over seeds, and differences day by day."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.scoring import Errors

DRAWS = 10_000


@dataclass(frozen=True, slots=True)
class Difference:
    """How much lower one model's error is than another's, over the same windows.

    Attributes:
        share: `mse / mse of the other - 1`; below 0 is better.
        low: 2.5 % of the bootstrap's draws are below this.
        high: 2.5 % are above.
        days: Days that were drawn from; with few of them the interval is too narrow.
    """

    share: float
    low: float
    high: float
    days: int


def seed_table(errors: Errors, runs: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """Return a row a model: its mean score over seeds, their spread, and its parts, best last.

    Args:
        errors: Of all runs on the same windows.
        runs: Names of each model's runs; a model that is not trained is a run of itself.
    """
    table = errors.table()
    model_of = {run: model for model, names in runs.items() for run in names}
    grouped = table.groupby([model_of[str(run)] for run in table.index])
    found = grouped.mean()
    found.insert(1, "spread", grouped["mse"].std(ddof=1))
    found.insert(2, "seeds", grouped.size())
    return found.sort_values("mse", ascending=False)


def paired_difference(
    errors: Errors, runs: Sequence[str], others: Sequence[str], *, seed: int = 0
) -> Difference:
    """Return how a model's mean error over seeds compares with another's, by bootstrap over days.

    Days are drawn with replacement, all windows of a day together, both models on the same days:
    windows of a day are alike, and days differ more than models do.

    Args:
        errors: Of all runs on the same windows.
        runs: The model's runs.
        others: The other's.
        seed: Of the draws.
    """
    sums = errors.rows.groupby(["model", "city", "day"])[["sse", "cells"]].sum()
    one, other = (_by_day(sums, names) for names in (runs, others))
    draws = np.random.default_rng(seed).integers(len(one), size=(DRAWS, len(one)))
    shares = one[draws].sum(1) / other[draws].sum(1) - 1
    low, high = np.quantile(shares, [0.025, 0.975])
    return Difference(float(one.sum() / other.sum() - 1), float(low), float(high), len(one))


def _by_day(sums: pd.DataFrame, names: Sequence[str]) -> NDArray[np.float64]:
    """Return a mean over runs of each city-day's summed squared error."""
    runs = np.array([sums.loc[name, "sse"] for name in names], np.float64)
    mean: NDArray[np.float64] = runs.mean(axis=0)
    return mean
