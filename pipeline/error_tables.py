"""Squared errors as a table of exact sums; every score is a mean of means over its rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from pipeline.editions import Edition

Row = tuple[object, ...]
COLUMNS = ("model", "city", "day", "slot", "lead", "channel", "sse", "cells")
MASKED = ("sse_masked", "cells_masked")
SEEN = ("sse_seen", "cells_seen")
"""What is summed besides: over a city's mask, and over what the Wiedemann variant counts."""


@dataclass(frozen=True, slots=True)
class Errors:
    """Squared errors of forecasts, summed over the cells of each frame and channel.

    Attributes:
        edition: Whose channels and scale.
        rows: `model, city, day, slot, lead, channel`, then `sse`, the sum over cells of squared
            differences of bytes, exact, and `cells`, how many; `sse_masked, cells_masked` and
            `sse_seen, cells_seen` the same over a part of them, where there is a mask, and where
            channels are volumes and speeds by heading.
    """

    edition: Edition
    rows: pd.DataFrame

    def files(self) -> pd.Series[float]:
        """Return the score of each file, by model, city and day: the mean over all its entries."""
        return self._mse(["model", "city", "day"])

    def cities(self) -> pd.Series[float]:
        """Return the score of each city, by model and city: the mean over its files, or slots."""
        return self._cities(self.rows, "sse", "cells")

    def leaderboard(self) -> pd.Series[float]:
        """Return the score of each model: the mean over its cities."""
        return self.cities().groupby("model", sort=False).mean()

    def by(self, *keys: str) -> pd.Series[float]:
        """Return the mean error by model and these columns."""
        return self._mse(["model", *keys])

    def slots(self) -> pd.Series[float]:
        """Return the mean error by model, city, day, slot and lead."""
        return self._mse(["model", "city", "day", "slot", "lead"])

    def reports(self) -> pd.DataFrame:
        """Return a row a model: its score, then what the organisers told beside it.

        `masked`, over the city's mask alone; `volume` and `speed`, over those channels alone;
        `wiedemann`, speeds only where the true volume is not 0. Each is the mean over cities.
        """
        rows = self.rows
        told = {"mse": self._cities(rows, "sse", "cells")}
        if MASKED[0] in rows:
            told["masked"] = self._cities(rows, *MASKED)
        for what in ("volume", "speed"):
            mine = rows[rows["channel"].str.startswith(what)]
            if len(mine):
                told[what] = self._cities(mine, "sse", "cells")
        if SEEN[0] in rows:
            told["wiedemann"] = self._cities(rows, *SEEN)
        means = {name: by.groupby("model", sort=False).mean() for name, by in told.items()}
        return pd.DataFrame(means).sort_values("mse", ascending=False)

    def table(self) -> pd.DataFrame:
        """Return a row a model, best last: its score, then each channel's, lead's and city's."""
        mean = self.leaderboard().rename("mse")
        parts = [self.by(key).unstack(sort=False) for key in ("channel", "lead")]
        ahead = [(int(lead) + 1) * self.edition.bin_minutes for lead in parts[1].columns]
        parts[1].columns = [f"{minutes} min" for minutes in ahead]
        cities = self.cities().unstack(sort=False)
        table = pd.concat([mean, *parts, *([cities] if cities.shape[1] > 1 else [])], axis=1)
        return table.sort_values("mse", ascending=False)

    def _cities(self, rows: pd.DataFrame, sse: str, cells: str) -> pd.Series[float]:
        if self.edition.score_by == "slot":
            return self._mse(["model", "city"], rows, sse, cells)
        files = self._mse(["model", "city", "day"], rows, sse, cells)
        return files.groupby(["model", "city"], sort=False).mean()

    def _mse(
        self,
        keys: list[str],
        rows: pd.DataFrame | None = None,
        sse: str = "sse",
        cells: str = "cells",
    ) -> pd.Series[float]:
        table = self.rows if rows is None else rows
        sums = table.groupby(keys, sort=False)[[sse, cells]].sum()
        return (sums[sse] / sums[cells] / self.edition.score_scale**2).rename("mse")


def join(parts: Sequence[Errors]) -> Errors:
    """Return the errors of several cities or models as one table."""
    return Errors(parts[0].edition, pd.concat([part.rows for part in parts], ignore_index=True))
