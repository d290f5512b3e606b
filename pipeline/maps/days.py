"""Differences of two models' errors, day by day, and which cells are unlikely to be chance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


@dataclass(slots=True, eq=False)
class DayDifferences:
    """Sums over days of a cell's difference of errors; days, not windows, are what varies.

    A day's difference is the sum over its windows. Mean and squares are kept as Welford does, so
    that a small spread around a large mean is not lost.

    Attributes:
        mean: `(H, W)` mean of the days so far.
        squares: `(H, W)` squared distances from the mean, summed.
        today: `(H, W)` sum of the day that is not over.
        day: Which day that is.
        days: Days that are over.
    """

    mean: Values
    squares: Values
    today: NDArray[np.int64]
    day: str | None = None
    days: int = 0

    @classmethod
    def empty(cls, grid: tuple[int, int]) -> DayDifferences:
        """Return the sums of no day."""
        return cls(np.zeros(grid), np.zeros(grid), np.zeros(grid, np.int64))

    def add(self, day: str, difference: NDArray[np.int64]) -> None:
        """Add a window's `(H, W)`; windows of a day come one after another."""
        if day != self.day:
            self.close()
            self.day = day
        self.today += difference

    def close(self) -> None:
        """End the day, if one was begun."""
        if self.day is None:
            return
        self.days += 1
        away = self.today - self.mean
        self.mean += away / self.days
        self.squares += away * (self.today - self.mean)
        self.today[:] = 0
        self.day = None

    def p_values(self) -> Values:
        """Return the two-sided p of a paired t test over days, `(H, W)`; NaN with one day.

        A cell whose difference is 0 on every day has p = 1; one whose difference is the same on
        all days, and not 0, has p = 0.
        """
        if self.days < 2:
            return np.full(self.mean.shape, np.nan)
        error = np.sqrt(self.squares / (self.days - 1) / self.days)
        with np.errstate(divide="ignore", invalid="ignore"):
            t = np.where(self.mean == 0, 0.0, np.abs(self.mean) / error)
        return two_sided(t, self.days - 1)


def two_sided(t: Values, freedom: int) -> Values:
    """Return P(|T| >= |t|) of Student's t with a whole number of degrees of freedom.

    The finite series for whole degrees (Abramowitz and Stegun 26.7.3 and 26.7.4), in the angle
    arctan(t / sqrt(freedom)).
    """
    theta = np.arctan(np.abs(t) / np.sqrt(freedom))
    cosine, sine = np.cos(theta), np.sin(theta)
    odd = freedom % 2 == 1
    term = cosine.copy() if odd else np.ones_like(cosine)
    series = np.zeros_like(cosine) if odd and freedom == 1 else term.copy()
    for k in range(3 if odd else 2, freedom - 1, 2):
        term = term * cosine**2 * (k - 1) / k
        series = series + term
    inside = 2 / np.pi * (theta + sine * series) if odd else sine * series
    return np.asarray(np.clip(1 - inside, 0, 1))


def false_discovery(p: Values, share: float) -> NDArray[np.bool_]:
    """Return which tests to believe so that of those believed at most a `share` is expected false.

    Benjamini and Hochberg's step-up rule, which holds for tests that are independent or positively
    dependent; NaN is never believed, and is not counted among the tests.
    """
    tested = np.isfinite(p)
    values = np.sort(p[tested])
    below = np.flatnonzero(values <= share * np.arange(1, len(values) + 1) / max(1, len(values)))
    if not below.size:
        return np.zeros(p.shape, np.bool_)
    limit = values[below[-1]]
    return np.asarray(tested & (p <= limit))
