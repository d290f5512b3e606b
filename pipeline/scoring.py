"""Errors of a file, a city, a leaderboard; the truth decides what is counted.

Everything is a table of exact sums: one row for each slot, lead and channel of each file. Every
score is a mean of means over its rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.archive import Member, list_members, open_member
from pipeline.catalog import files_by_day
from pipeline.editions import Edition
from pipeline.errors import PipelineError, SubmissionError
from pipeline.forecasters import Forecaster
from pipeline.heatmaps import read_frames
from pipeline.layout import to_heatmap, to_model
from pipeline.metrics import frame_sse
from pipeline.quarantine import fan_out
from pipeline.sources.traffic import TrafficSource
from pipeline.submission import member_name
from pipeline.windows import Window

COLUMNS = ("model", "city", "day", "slot", "lead", "channel", "sse", "cells")


@dataclass(frozen=True, slots=True)
class Errors:
    """Squared errors of forecasts, summed over the cells of each frame and channel.

    Attributes:
        edition: Whose channels and scale.
        rows: `model, city, day, slot, lead, channel`, then `sse`, the sum over cells of squared
            differences of bytes, exact, and `cells`, how many.
    """

    edition: Edition
    rows: pd.DataFrame

    def files(self) -> pd.Series[float]:
        """Return the score of each file, by model, city and day: the mean over all its entries."""
        return self._mse(["model", "city", "day"])

    def cities(self) -> pd.Series[float]:
        """Return the score of each city, by model and city: the mean over its files."""
        return self.files().groupby(["model", "city"], sort=False).mean()

    def leaderboard(self) -> pd.Series[float]:
        """Return the score of each model: the mean over its cities."""
        return self.cities().groupby("model", sort=False).mean()

    def by(self, *keys: str) -> pd.Series[float]:
        """Return the mean error by model and these columns."""
        return self._mse(["model", *keys])

    def table(self) -> pd.DataFrame:
        """Return a row a model, best last: its score, then each channel's, lead's and city's."""
        mean = self.leaderboard().rename("mse")
        parts = [self.by(key).unstack(sort=False) for key in ("channel", "lead")]
        ahead = [(int(lead) + 1) * self.edition.bin_minutes for lead in parts[1].columns]
        parts[1].columns = [f"{minutes} min" for minutes in ahead]
        cities = self.cities().unstack(sort=False)
        table = pd.concat([mean, *parts, *([cities] if cities.shape[1] > 1 else [])], axis=1)
        return table.sort_values("mse", ascending=False)

    def _mse(self, keys: list[str]) -> pd.Series[float]:
        sums = self.rows.groupby(keys, sort=False)[["sse", "cells"]].sum()
        return (sums["sse"] / sums["cells"] / self.edition.score_scale**2).rename("mse")


def join(parts: Sequence[Errors]) -> Errors:
    """Return the errors of several cities or models as one table."""
    return Errors(parts[0].edition, pd.concat([part.rows for part in parts], ignore_index=True))


def score_windows(
    source: TrafficSource,
    models: Mapping[str, Forecaster],
    *,
    progress: Callable[[str], None] | None = None,
) -> Errors:
    """Return the errors of models on the same windows, as bytes, the way a leaderboard sees them.

    Args:
        source: Windows of one city, with their futures.
        models: What to score, by name.
        progress: Told the day of each window as it is done.
    """
    edition = source.store.edition
    rows: list[tuple[object, ...]] = []
    for index in range(len(source)):
        clip = source[index]
        window, truth = clip.where, _scored(clip.future, edition)
        history = to_model(np.moveaxis(clip.history, -3, -1))[None]
        for name, model in models.items():
            forecast = to_heatmap(model.forecast(history, [window])[0])
            sums = frame_sse(forecast[..., : edition.forecast_channels], truth)
            rows += _rows(edition, name, window, [window.split], sums[None], truth[0, ..., 0].size)
        if progress is not None:
            progress(window.day)
    return Errors(edition, pd.DataFrame(rows, columns=list(COLUMNS)))


@dataclass(frozen=True, slots=True)
class ScoredFile:
    """A file of truth and the member of a submission that answers it."""

    edition: Edition
    city: str
    day: str
    truth: Path
    submission: Path
    model: str

    def member(self) -> str:
        """Return the name of the member."""
        return member_name(self.edition, self.edition.city(self.city), self.day)


def score_submission(
    truth: Path, submission: Path, edition: Edition, *, workers: int = 2
) -> Errors:
    """Return the errors of a submission against a folder of truth.

    Args:
        truth: Files named like a submission's members, `(S, L, H, W, C)` uint8.
        submission: A zip, or a folder.
        edition: Whose scale and names.
        workers: Reader processes.

    Raises:
        SubmissionError: A file that the truth has is missing from the submission, misshapen or
            unreadable, or the submission has one that the truth has not; lists them all.
    """
    model = submission.stem
    jobs = [
        ScoredFile(edition, city.name, day, path, submission, model)
        for city in edition.cities
        for day, path in files_by_day(truth, edition, city, "submission").items()
    ]
    if not jobs:
        raise SubmissionError(f"{truth}: no truth like {edition.layout.submission}")
    expected = {
        job.member(): edition.forecast_shape(edition.city(job.city), job.day) for job in jobs
    }
    listing = list_members(submission, expected)
    faults = list(listing.faults)
    rows: dict[Path, list[tuple[object, ...]]] = {}

    def done(job: ScoredFile, outcome: list[tuple[object, ...]] | PipelineError | OSError) -> None:
        if isinstance(outcome, list):
            rows[job.truth] = outcome
        else:
            where = str(submission)
            said = str(outcome)
            faults.append(said if said.startswith(where) else f"{where}: {job.member()}: {said}")

    readable = [job for job in jobs if job.member() in listing.readable]
    fan_out(score_file, readable, done, workers=workers)
    if faults:
        raise SubmissionError("\n".join(sorted(faults)))
    ordered = [row for job in jobs for row in rows[job.truth]]
    return Errors(edition, pd.DataFrame(ordered, columns=list(COLUMNS)))


def score_file(job: ScoredFile) -> list[tuple[object, ...]]:
    """Return the rows of one file.

    Raises:
        PipelineError: The truth or the forecast cannot be read as what it should be.
    """
    edition, city = job.edition, job.edition.city(job.city)
    shape = edition.forecast_shape(city, job.day)
    truth = read_frames(job.truth, shape)
    with open_member(Member(job.submission, job.member(), shape)) as forecast:
        sums = frame_sse(forecast.read(), truth)
    window = Window(job.city, job.day, 0, 1, edition.leads)
    return _rows(
        edition, job.model, window, edition.slots(city, job.day), sums, shape[2] * shape[3]
    )


def _rows(
    edition: Edition,
    model: str,
    window: Window,
    slots: Sequence[int],
    sums: NDArray[np.int64],
    cells: int,
) -> list[tuple[object, ...]]:
    """Label sums `(S, L, C)`."""
    return [
        (model, window.city, window.day, slot, lead, channel, int(sums[s, place, c]), cells)
        for s, slot in enumerate(slots)
        for place, lead in enumerate(window.leads)
        for c, channel in enumerate(edition.channels[: edition.forecast_channels])
    ]


def _scored(future: NDArray[np.uint8], edition: Edition) -> NDArray[np.uint8]:
    """Turn a clip's future `(L, C, H, W)` into `(L, H, W, C)` of the scored channels."""
    return np.moveaxis(future, -3, -1)[..., : edition.forecast_channels]
