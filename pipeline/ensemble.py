"""Several forecasters as one: their weighted sum, the weights fitted by least squares.

The weights of a lead and channel are at least 0 and add up to 1. So the squared error of the sum
is `w' P w`, where `P` holds the products of the members' errors, added up over cells and windows:
a few numbers, whatever the number of days.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.forecasters import Forecaster
from pipeline.layout import WHITE, to_model
from pipeline.sources import TrafficSource
from pipeline.windows import Window

RIDGE = 1e-10
"""Added to products whose mean square is 1: of members that say the same, one is enough."""
TOLERANCE = 1e-10


@dataclass(frozen=True, slots=True, eq=False)
class Combination:
    """The weighted sum of what its members say; a `Forecaster`.

    Attributes:
        members: Who is asked; one whose weights are all 0 is not.
        weights: `(L, C, M)`, at least 0, those of a lead and channel adding up to 1.
    """

    members: tuple[Forecaster, ...]
    weights: NDArray[np.float64]

    def forecast(
        self, history: NDArray[np.float32], windows: Sequence[Window]
    ) -> NDArray[np.float32]:
        """Return the sum, `(B, L, C, H, W)` in [0, 1].

        Raises:
            ValueError: The weights are for other leads or channels.
        """
        found, fitted = (len(windows[0].leads), history.shape[2]), self.weights.shape[:2]
        if found != fitted:
            raise ValueError(f"{found} leads and channels, but weights for {fitted}")
        height, width = history.shape[-2:]
        total = np.zeros((len(windows), *fitted, height, width), np.float32)
        for place, member in enumerate(self.members):
            weights = self.weights[..., place].astype(np.float32)[..., None, None]  # (L, C, 1, 1)
            if weights.any():
                total += weights * member.forecast(history, windows)
        return np.clip(total, 0, 1, out=total)


def equal_weights(leads: int, channels: int, members: int) -> NDArray[np.float64]:
    """Return the weights of a plain mean, `(L, C, M)`."""
    return np.full((leads, channels, members), 1 / members)


def error_products(
    source: TrafficSource,
    members: Sequence[Forecaster],
    *,
    progress: Callable[[str], None] | None = None,
) -> NDArray[np.float64]:
    """Return the sums of products of the members' errors by lead and channel, `(L, C, M, M)`.

    Args:
        source: Windows of one city, with their futures.
        members: Whose errors.
        progress: Told the day of each window as it is done.
    """
    edition, size = source.store.edition, len(members)
    products = np.zeros((len(edition.leads), len(edition.channels), size, size))
    for index in range(len(source)):
        clip = source[index]
        history = to_model(np.moveaxis(clip.history, -3, -1))[None]
        said = [member.forecast(history, [clip.where])[0] for member in members]
        for lead, future in enumerate(clip.future):
            truth = future / WHITE
            errors = np.stack([forecast[lead] - truth for forecast in said], 1)  # (C, M, H, W)
            rows = errors.reshape(*errors.shape[:2], -1)
            products[lead] += rows @ rows.swapaxes(-1, -2)
        if progress is not None:
            progress(clip.where.day)
    return products


def fit_weights(products: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the weights of least squared error, `(..., M)`, from products `(..., M, M)`."""
    size = products.shape[-1]
    every = [simplex_weights(one) for one in products.reshape(-1, size, size)]
    return np.stack(every).reshape(products.shape[:-1])


def simplex_weights(products: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the `w >= 0` with sum 1 that makes `w' P w` least; `(M,)` from `(M, M)`.

    Take any `u >= 0` with `u' P u + (1 - sum(u))^2` least: `u / sum(u)` is the answer, since the
    best scale of a direction `w` leaves `q / (1 + q)` with `q = w' P w`, which rises with `q`. That
    is least squares without negative numbers, and solved as such, by Lawson and Hanson's active
    set: of the members left out take in the one that helps most, leave out those that would fall
    below 0, until none would help.
    """
    size = len(products)
    scale = np.trace(products) / size
    if not scale > 0:  # every member is right everywhere
        return np.full(size, 1 / size)
    normal = products / scale + RIDGE * np.eye(size) + 1
    taken, found = np.zeros(size, bool), np.zeros(size)
    for _ in range(3 * size):
        help_of = np.where(taken, -np.inf, 1 - normal @ found)
        if help_of.max() <= TOLERANCE:
            break
        taken[help_of.argmax()] = True
        while True:
            wanted = np.zeros(size)
            wanted[taken] = np.linalg.solve(normal[np.ix_(taken, taken)], np.ones(taken.sum()))
            falling = taken & (wanted <= 0)
            if not falling.any():
                break
            share = (found[falling] / (found[falling] - wanted[falling])).min()
            found += share * (wanted - found)
            taken &= found > TOLERANCE
            found[~taken] = 0
        found = wanted
    weights: NDArray[np.float64] = found / found.sum()
    return weights
