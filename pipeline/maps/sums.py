"""Sums over forecasts, cell by cell, one window at a time: all that an error map is made of.

What is kept does not grow with the number of windows or days.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from pipeline.clock import local_hours
from pipeline.editions import City, Edition
from pipeline.forecasters import Forecaster
from pipeline.layout import to_heatmap, to_model
from pipeline.maps.days import DayDifferences
from pipeline.sources.traffic import TrafficSource
from pipeline.windows import Window

AXES = ("channel", "lead", "hour", "weekday")
LEVELS = 256
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def sizes(edition: Edition) -> dict[str, int]:
    """Return how many parts each axis of `AXES` has."""
    return {
        "channel": edition.forecast_channels,
        "lead": len(edition.leads),
        "hour": 24,
        "weekday": 7,
    }


@dataclass(slots=True, eq=False)
class ModelSums:
    """What one model's forecasts add up to.

    Attributes:
        squares: `(K, H, W)` int64 by axis: squared differences of bytes, summed.
        differences: The same of forecast minus truth.
        hits: `(H, W)` frames in which a cell was active and forecast to be.
        misses: Active, and not forecast to be.
        alarms: Forecast to be active, and not.
        said: `(256,)` entries of the first channel by the byte that was forecast.
        came: How many of those were active.
    """

    squares: dict[str, NDArray[np.int64]]
    differences: dict[str, NDArray[np.int64]]
    hits: NDArray[np.int64]
    misses: NDArray[np.int64]
    alarms: NDArray[np.int64]
    said: NDArray[np.int64]
    came: NDArray[np.int64]

    @classmethod
    def empty(cls, edition: Edition) -> ModelSums:
        """Return the sums of no forecast."""
        grid = edition.height, edition.width

        def zeros() -> dict[str, NDArray[np.int64]]:
            return {axis: np.zeros((n, *grid), np.int64) for axis, n in sizes(edition).items()}

        hits, misses, alarms = (np.zeros(grid, np.int64) for _ in range(3))
        said, came = (np.zeros(LEVELS, np.int64) for _ in range(2))
        return cls(zeros(), zeros(), hits, misses, alarms, said, came)

    def add(
        self, forecast: NDArray[np.uint8], truth: NDArray[np.uint8], parts: Mapping[str, list[int]]
    ) -> NDArray[np.int64]:
        """Add one window's `(L, H, W, C)`; return its squared errors over leads and channels.

        Args:
            forecast: As bytes.
            truth: What came.
            parts: For each lead, its place on the axes `hour` and `weekday`.
        """
        error = forecast.astype(np.int32) - truth
        square = error * error
        for sums, values in ((self.squares, square), (self.differences, error)):
            sums["channel"] += np.moveaxis(values.sum(axis=0), -1, 0)
            frames = values.sum(axis=-1)
            sums["lead"] += frames
            for axis, places in parts.items():
                for place, frame in zip(places, frames, strict=True):
                    sums[axis][place] += frame
        came, said = truth.any(axis=-1), forecast.any(axis=-1)
        self.hits += (came & said).sum(axis=0)
        self.misses += (came & ~said).sum(axis=0)
        self.alarms += (said & ~came).sum(axis=0)
        levels = forecast[..., 0]
        self.said += np.bincount(levels.ravel(), minlength=LEVELS)
        self.came += np.bincount(levels[came], minlength=LEVELS)
        whole: NDArray[np.int64] = square.sum(axis=(0, -1), dtype=np.int64)
        return whole


@dataclass(slots=True, eq=False)
class CitySums:
    """What the forecasts of several models add up to, over the same windows of one city.

    Attributes:
        edition: Whose channels and scale.
        city: Whose cells.
        models: Sums by model.
        frames: Forecast frames of each part of `lead`, `hour` and `weekday`.
        days: The days that windows were cut from, in order.
        pairs: Differences of two models' errors, day by day.
        windows: How many windows were added.
    """

    edition: Edition
    city: City
    models: dict[str, ModelSums]
    frames: dict[str, NDArray[np.int64]]
    days: list[str] = field(default_factory=list)
    pairs: dict[tuple[str, str], DayDifferences] = field(default_factory=dict)
    windows: int = 0

    @classmethod
    def empty(
        cls, edition: Edition, city: City, models: Sequence[str], pairs: Sequence[tuple[str, str]]
    ) -> CitySums:
        """Return sums over no window.

        Args:
            edition: Whose grid.
            city: Whose forecasts will be added.
            models: Names.
            pairs: Of models whose errors are to be compared day by day.
        """
        counts = {axis: np.zeros(n, np.int64) for axis, n in sizes(edition).items()}
        counts.pop("channel")
        grid = edition.height, edition.width
        compared = {pair: DayDifferences.empty(grid) for pair in pairs}
        sums = {name: ModelSums.empty(edition) for name in models}
        return cls(edition, city, sums, counts, pairs=compared)

    def add(
        self, window: Window, truth: NDArray[np.uint8], forecasts: Mapping[str, NDArray[np.uint8]]
    ) -> None:
        """Add one window: what came and what each model said, `(L, H, W, C)` bytes.

        Windows of a day come one after another.
        """
        weekday, hour = local_hours(self.edition, self.city, window.day)
        parts = {
            "hour": [int(hour[frame]) for frame in window.future],
            "weekday": [int(weekday[frame]) for frame in window.future],
        }
        errors = {name: self.models[name].add(f, truth, parts) for name, f in forecasts.items()}
        self.frames["lead"] += 1
        for axis, places in parts.items():
            np.add.at(self.frames[axis], places, 1)
        for (one, other), days in self.pairs.items():
            days.add(window.day, errors[one] - errors[other])
        if not self.days or self.days[-1] != window.day:
            self.days.append(window.day)
        self.windows += 1

    def close(self) -> None:
        """Count the last day too."""
        for days in self.pairs.values():
            days.close()


def sum_errors(
    source: TrafficSource,
    models: Mapping[str, Forecaster],
    *,
    progress: Callable[[str], None] | None = None,
) -> CitySums:
    """Return the sums of models over the windows of a city, read one at a time.

    Args:
        source: Windows with their futures, day by day.
        models: By name; each is compared, day by day, with all before it.
        progress: Told the day of each window as it is done.
    """
    edition, city = source.store.edition, source.store.city
    names = list(models)
    pairs = [(later, earlier) for earlier, later in combinations(names, 2)]
    sums = CitySums.empty(edition, city, names, pairs)
    scored = np.s_[..., : edition.forecast_channels]
    for index in range(len(source)):
        clip = source[index]
        history = to_model(np.moveaxis(clip.history, -3, -1))[None]
        truth = np.moveaxis(clip.future, -3, -1)[scored]
        forecasts = {
            name: to_heatmap(model.forecast(history, [clip.where])[0])[scored]
            for name, model in models.items()
        }
        sums.add(clip.where, truth, forecasts)
        if progress is not None:
            progress(clip.where.day)
    sums.close()
    return sums
