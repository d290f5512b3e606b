"""Whether one model is better than another: means over seeds, and differences date by date."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.scoring import Errors

DRAWS = 10_000
ENOUGH_DATES = 10
"""With fewer, the interval of a bootstrap covers far less than it says (3: two cases of three)."""
STUDENT = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306}
"""Two-sided 95 % points of Student's t, by the number of dates."""


@dataclass(frozen=True, slots=True)
class Difference:
    """How much lower one model's score is than another's, over the same windows.

    Attributes:
        share: `mse / mse of the other - 1`; below 0 is better.
        low: Lower end of a 95 % interval.
        high: Upper end.
        dates: Dates that the interval rests on; with one there is none, and both ends are NaN.
    """

    share: float
    low: float
    high: float
    dates: int


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
    """Return how a model's score, a mean over seeds, compares with another's.

    Scores are the leaderboard's: a mean over files of a city, then over cities. Dates are what
    varies: windows of a day are alike, and so are cities on one date, so all of a date goes
    together, and both models meet the same dates. From `ENOUGH_DATES` on, the interval is that of a
    bootstrap over dates; with fewer, where a bootstrap is far too narrow, it is Student's, of the
    dates' logarithmic ratios around their mean, moved to the score's.

    Args:
        errors: Of all runs on the same windows.
        runs: The model's runs.
        others: The other's.
        seed: Of the draws.
    """
    one, other = (_by_city_and_date(errors, names) for names in (runs, others))
    share = _score(one) / _score(other) - 1
    dates = one.shape[1]
    if dates < 2:
        return Difference(share, float("nan"), float("nan"), dates)
    if dates >= ENOUGH_DATES:
        draws = np.random.default_rng(seed).integers(dates, size=(DRAWS, dates))
        drawn = np.array([_score(one[:, d]) / _score(other[:, d]) - 1 for d in draws])
        low, high = np.nanquantile(drawn, [0.025, 0.975])
        return Difference(share, float(low), float(high), dates)
    ratios = np.log(np.nanmean(one, axis=0) / np.nanmean(other, axis=0))
    margin = STUDENT[dates] * ratios.std(ddof=1) / np.sqrt(dates)
    low, high = ((1 + share) * np.exp(sign * margin) - 1 for sign in (-1, 1))
    return Difference(share, float(low), float(high), dates)


def _by_city_and_date(errors: Errors, names: Sequence[str]) -> NDArray[np.float64]:
    """Return the mean over runs of each city's error on each date, NaN where it has none."""
    rows = errors.rows[errors.rows["model"].isin(names)]
    sums = rows.groupby(["city", "day"])[["sse", "cells"]].sum()
    table: NDArray[np.float64] = (sums["sse"] / sums["cells"]).unstack("day").to_numpy(np.float64)
    return table


def _score(table: NDArray[np.float64]) -> float:
    """Return the mean over cities of their means over dates."""
    return float(np.nanmean(np.nanmean(table, axis=1)))
