"""Is it like real traffic? What was measured on real probe data, beside what days show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import pandas as pd

from pipeline.editions import City, Edition
from pipeline.synthetic.measures import file_measures, heading_measures, value_measures
from pipeline.synthetic.movie import Movie
from pipeline.synthetic.style import DEFAULT_STYLE, CityStyle
from pipeline.synthetic.traffic import draw_day

FEW_CELLS = 60
"""On a grid with a shorter side one road more or less shows."""


@dataclass(frozen=True, slots=True)
class Target:
    """A quantity of real traffic.

    Attributes:
        real: What was found, as a person writes it.
        low: Least value that passes.
        high: Greatest value that passes.
        source: Where it was found.
    """

    real: str
    low: float
    high: float
    source: str = "one heading, a quiet day in Berlin"


_YEAR = "bytes above 0, Berlin, Istanbul, Moscow, 2019"
_ANY = "any heading, Berlin, Istanbul, Moscow, 2018"
_GAIN = "the best networks on four cities' leaderboard"
_MIX = "inferred from occupancy and the networks' scores by channel"

TARGETS = {
    "occupancy: mean": Target("0.0255", 0.02, 0.05),
    "occupancy: emptiest frame / mean": Target("0.29", 0.1, 0.45),
    "occupancy: fullest frame / mean": Target("1.66", 1.4, 2.1),
    "occupancy: cells active in a day": Target("0.27", 0.22, 0.36),
    "occupancy: 25% quantile": Target("0.003", 0.003, 0.008),
    "occupancy: 50% quantile": Target("0.017", 0.012, 0.03),
    "occupancy: 75% quantile": Target("0.08", 0.06, 0.12),
    "occupancy: 90% quantile": Target("0.31", 0.24, 0.42),
    "occupancy: 95% quantile": Target("0.53", 0.43, 0.65),
    "occupancy: 99% quantile": Target("0.85", 0.75, 0.95),
    "persistence: active 1 on": Target("0.50", 0.45, 0.55),
    "persistence: active 12 on": Target("0.48", 0.43, 0.53),
    "persistence: speed correlation 1 on": Target("0.89", 0.80, 0.93),
    "persistence: speed correlation 12 on": Target("0.875", 0.78, 0.92),
    "persistence: speed difference 1 on": Target("29", 25, 33),
    "persistence: speed difference 12 on": Target("30", 26, 34.5),
    "speed: variance between cells": Target("2133", 1700, 3000),
    "speed: variance within a cell": Target("595", 450, 720),
    "space: active cells that touch another": Target("0.97", 0.92, 0.99),
    "space: active neighbours, of 8": Target("2.8", 2.3, 3.4),
    "error: zeros / mean of 12": Target("2.3", 1.95, 2.6),
    "error: copy-last / mean of 12": Target("1.8", 1.7, 1.9),
    "error: gain of an oracle on the mean of 12": Target("0.08 to 0.09", 0.07, 0.105, _GAIN),
    "volume: mean": Target("4.3 to 7.6", 4.0, 8.0, _YEAR),
    "volume: share of 1": Target("0.20 to 0.35", 0.18, 0.37, _YEAR),
    "volume: 25% quantile": Target("1 to 2", 1, 2, _YEAR),
    "volume: 50% quantile": Target("2 to 4", 2, 4, _YEAR),
    "volume: 75% quantile": Target("5 to 8", 5, 9, _YEAR),
    "volume: 95% quantile": Target("14 to 26", 14, 28, _YEAR),
    "volume: 99% quantile": Target("28 to 69", 28, 70, _YEAR),
    "speed: mean": Target("64 to 107", 64, 110, _YEAR),
    "speed: share of 255": Target("0.02", 0.0, 0.03),
    "speed: 5% quantile": Target("8 to 20", 8, 26, _YEAR),
    "speed: 25% quantile": Target("26 to 70", 26, 72, _YEAR),
    "speed: 50% quantile": Target("48 to 99", 48, 105, _YEAR),
    "speed: 75% quantile": Target("86 to 131", 86, 140, _YEAR),
    "speed: 95% quantile": Target("157 to 234", 157, 240, _YEAR),
    "speed: 99% quantile": Target("192 to 255", 192, 255, _YEAR),
    "files: share of cells active": Target("0.067 to 0.164", 0.06, 0.17, _ANY),
    "files: share of cells active more than half the time": Target(
        "0.050 to 0.128", 0.045, 0.13, _ANY
    ),
    "files: occupancy, 50% quantile": Target("0.017 to 0.082", 0.015, 0.09, _ANY),
    "files: occupancy, 75% quantile": Target("0.13 to 0.44", 0.12, 0.46, _ANY),
    "files: occupancy, 90% quantile": Target("0.48 to 0.78", 0.45, 0.8, _ANY),
    "files: occupancy, 99% quantile": Target("0.92 to 1.0", 0.88, 1.0, _ANY),
    "files: error: zeros / mean of 12": Target("1.7 to 2.3", 1.6, 2.4, _MIX),
    "files: error: copy-last / mean of 12": Target("1.8", 1.7, 1.9, _MIX),
    "files: error: gain of an oracle on the mean of 12": Target("0.08 to 0.09", 0.07, 0.105, _GAIN),
}


def realism(movies: Sequence[Movie], edition: Edition, twins: Sequence[Movie] = ()) -> pd.DataFrame:
    """Compare days with what was measured on real ones.

    Frames of an edition become movies by `movie.decode`. Days read from three channels do not tell
    headings apart; the note of a row says where this or a small grid matters.

    Args:
        movies: Days of one city.
        edition: Gives the encoding, the leads and the channels that count.
        twins: The same days with other dice, for the gain of an oracle; or none.

    Returns:
        A row for each quantity: `quantity`, `target` (what was found on real data), `low` and
        `high` (what passes), `generated`, `inside`, `source` and `note`.
    """
    by_heading = [
        heading_measures(movie, twins[number] if twins else None, edition.leads)
        for number, movie in enumerate(movies)
    ]
    found = {name: float(np.mean([day[name] for day in by_heading])) for name in by_heading[0]}
    found |= value_measures(movies) | file_measures(movies, twins, edition)
    rows = []
    for quantity, target in TARGETS.items():
        if quantity in found:
            value = found[quantity]
            inside = target.low <= value <= target.high
            note = _note(quantity, inside, movies[0], edition)
            found_at = (target.real, target.low, target.high, value, inside, target.source, note)
            rows.append((quantity, *found_at))
    columns = ["quantity", "target", "low", "high", "generated", "inside", "source", "note"]
    return pd.DataFrame(rows, columns=columns)


def city_realism(
    edition: Edition,
    city: City,
    *,
    seed: int,
    first_day: date = date(2018, 5, 15),
    days: int = 2,
    style: CityStyle = DEFAULT_STYLE,
) -> pd.DataFrame:
    """Draw a few days of a city and compare them with real ones: see `realism`.

    Args:
        edition: Gives grid, encoding and clock.
        city: The city.
        seed: Its seed.
        first_day: First day; the default is a Tuesday.
        days: How many.
        style: What the city is like.
    """
    dates = [first_day + timedelta(days=number) for number in range(days)]
    movies, twins = (
        [draw_day(edition, city, day, seed=seed, style=style, dice=dice) for day in dates]
        for dice in (0, 1)
    )
    return realism(movies, edition, twins)


def _note(quantity: str, inside: bool, movie: Movie, edition: Edition) -> str:
    notes = []
    if not movie.by_heading and not quantity.startswith("files"):
        notes.append("read from three channels: all headings of a cell together")
    if not inside and min(edition.height, edition.width) < FEW_CELLS:
        notes.append("a small grid has too few roads for steady numbers")
    if quantity.startswith("files: occupancy"):
        notes.append("real: days of a whole year")
    return "; ".join(notes)
