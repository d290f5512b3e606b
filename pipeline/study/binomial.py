"""Exact statistics of right and wrong answers."""

from __future__ import annotations

from math import exp, lgamma, log

HALVINGS = 60


def at_most(successes: int, trials: int, chance: float) -> float:
    """Return P(X <= successes) of a binomial."""
    if chance <= 0 or successes >= trials:
        return 1.0
    if chance >= 1:
        return 0.0
    return min(1.0, sum(_mass(k, trials, chance) for k in range(successes + 1)))


def interval(successes: int, trials: int, level: float = 0.95) -> tuple[float, float]:
    """Return the exact interval of a share (Clopper and Pearson): no narrower than it says.

    Each end is the chance at which so extreme a count has half of `1 - level`.

    Raises:
        ValueError: More successes than trials.
    """
    if not 0 <= successes <= trials:
        raise ValueError(f"{successes} successes of {trials} trials")
    tail = (1 - level) / 2
    low = 0.0 if successes == 0 else _root(successes - 1, trials, 1 - tail)
    high = 1.0 if successes == trials else _root(successes, trials, tail)
    return low, high


def two_sided(successes: int, trials: int) -> float:
    """Return the p of a count, or one further from half, if both answers are alike likely."""
    fewer = min(successes, trials - successes)
    return min(1.0, 2 * at_most(fewer, trials, 0.5))


def _root(successes: int, trials: int, wanted: float) -> float:
    """Return the chance at which P(X <= successes) is what is wanted; it falls with the chance."""
    low, high = 0.0, 1.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if at_most(successes, trials, middle) > wanted:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _mass(k: int, n: int, chance: float) -> float:
    ways = lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)
    return exp(ways + k * log(chance) + (n - k) * log(1 - chance))
