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
from pipeline.editions import City, Edition
from pipeline.error_tables import COLUMNS, MASKED, SEEN, Errors, Row, join
from pipeline.errors import PipelineError, SubmissionError
from pipeline.forecasters import Forecaster
from pipeline.heatmaps import open_frames
from pipeline.layout import to_heatmap, to_model
from pipeline.members import listed_days, member_name
from pipeline.metrics import masked_sums, seen_mask, squared_error
from pipeline.quarantine import fan_out
from pipeline.sources.traffic import TrafficSource
from pipeline.static_maps import Mask, read_mask
from pipeline.windows import Window

__all__ = ["Errors", "ScoredFile", "join", "score_file", "score_submission", "score_windows"]


def score_windows(
    source: TrafficSource,
    models: Mapping[str, Forecaster],
    *,
    mask: Mask | None = None,
    progress: Callable[[str], None] | None = None,
) -> Errors:
    """Return the errors of models on the same windows, as bytes, the way a leaderboard sees them.

    Args:
        source: Windows of one city, with their futures.
        models: What to score, by name.
        mask: Where errors are summed a second time, `(H, W, 1 or C)`.
        progress: Told the day of each window as it is done.
    """
    edition = source.store.edition
    rows: list[Row] = []
    for index in range(len(source)):
        clip = source[index]
        window, truth = clip.where, _scored(clip.future, edition)
        history = to_model(np.moveaxis(clip.history, -3, -1))[None]
        for name, model in models.items():
            forecast = to_heatmap(model.forecast(history, [window])[0])
            sums = _sums(forecast[..., : edition.forecast_channels], truth, edition, mask)
            rows += _rows(edition, name, window, window.split, sums)
        if progress is not None:
            progress(window.day)
    return Errors(edition, _table(rows, edition, masked=mask is not None))


@dataclass(frozen=True, slots=True)
class ScoredFile:
    """A file of truth and the member of a submission that answers it."""

    edition: Edition
    city: str
    day: str
    truth: Path
    submission: Path
    model: str
    mask: Path | None = None

    def member(self) -> str:
        """Return the name of the member."""
        return member_name(self.edition, self.edition.city(self.city), self.day)


def score_submission(
    truth: Path,
    submission: Path,
    edition: Edition,
    *,
    masks: Mapping[str, Path] | None = None,
    workers: int = 2,
) -> Errors:
    """Return the errors of a submission against a folder of truth.

    Args:
        truth: Files named like a submission's members, `(S, L, H, W, C)` uint8.
        submission: A zip, or a folder.
        edition: Whose scale and names.
        masks: Of each city that has one, a file `read_mask` reads; for all cities or none.
        workers: Reader processes.

    Raises:
        SubmissionError: A file that the truth has is missing from the submission, misshapen or
            unreadable, or the submission has one that the truth has not, or the truth lacks one
            that the edition's rules list; lists them all.
    """
    model, masks = submission.stem, masks or {}
    jobs = [
        ScoredFile(edition, city.name, day, path, submission, model, masks.get(city.name))
        for city in edition.cities
        for day, path in _truth_days(truth, edition, city).items()
    ]
    if len({job.mask is None for job in jobs}) > 1:
        raise SubmissionError(f"masks of {sorted(masks)} alone, expected one of each city or none")
    if not jobs:
        raise SubmissionError(f"{truth}: no truth like {edition.layout.submission}")
    expected = {
        job.member(): edition.forecast_shape(edition.city(job.city), job.day) for job in jobs
    }
    listing = list_members(submission, expected)
    faults = list(listing.faults)
    rows: dict[Path, list[Row]] = {}

    def done(job: ScoredFile, outcome: list[Row] | PipelineError | OSError) -> None:
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
    return Errors(edition, _table(ordered, edition, masked=bool(jobs[0].mask)))


def score_file(job: ScoredFile) -> list[Row]:
    """Return the rows of one file, slot by slot: no more than a few slots are in memory.

    Raises:
        PipelineError: The truth, the mask or the forecast cannot be read as what it should be.
    """
    edition, city = job.edition, job.edition.city(job.city)
    shape = edition.forecast_shape(city, job.day)
    undated = edition.layout.test_kind == "windows"
    slots = range(shape[0]) if undated else edition.slots(city, job.day)
    mask = None if job.mask is None else read_mask(job.mask, edition)
    if mask is not None and mask.ndim == len(shape) and mask.shape != shape:
        raise SubmissionError(f"{job.mask}: a mask {mask.shape}, expected {shape}")
    window = Window(job.city, job.day, 0, 1, edition.leads)
    rows: list[Row] = []
    with (
        open_frames(job.truth, shape) as truth,
        open_member(Member(job.submission, job.member(), shape)) as forecast,
    ):
        for start, slab in forecast.slabs():
            answers = truth.read(start, start + len(slab))
            for place, (said, was) in enumerate(zip(slab, answers, strict=True), start):
                here = mask[place] if mask is not None and mask.ndim == len(shape) else mask
                sums = _sums(said, was, edition, here)
                rows += _rows(edition, job.model, window, slots[place], sums)
    return rows


def _truth_days(truth: Path, edition: Edition, city: City) -> dict[str, Path]:
    """Return the files of a city's truth by day, in order.

    Raises:
        SubmissionError: One that the rules list is missing, or one has no slots.
    """
    found = files_by_day(truth, edition, city, "submission") if city.tested else {}
    if city.tested and (listed := listed_days(edition, city)) is not None:
        if missing := sorted(set(listed) - set(found)):
            raise SubmissionError(f"{truth}: {city.name} lacks the truth of {missing}")
        if extra := sorted(set(found) - set(listed)):
            raise SubmissionError(f"{truth}: {city.name} has truth of {extra}, which have no slots")
    return found


def _sums(
    forecast: NDArray[np.uint8], truth: NDArray[np.uint8], edition: Edition, mask: Mask | None
) -> list[NDArray[np.int64]]:
    """Return the sums of one slot `(L, H, W, C)`, and how many cells each is of: `(L, C)` each."""
    errors = squared_error(forecast, truth)
    total: NDArray[np.int64] = errors.sum(axis=(-3, -2), dtype=np.int64)
    parts = [total, np.full_like(total, errors.shape[-3] * errors.shape[-2])]
    if mask is not None:
        parts += masked_sums(errors, mask)
    if _by_heading(edition):
        parts += masked_sums(errors, seen_mask(truth, _channels(edition)))
    return parts


def _rows(
    edition: Edition, model: str, window: Window, slot: int, sums: Sequence[NDArray[np.int64]]
) -> list[Row]:
    """Label the sums of a slot, `(L, C)` each."""
    return [
        (model, window.city, window.day, slot, lead, channel, *(int(s[place, c]) for s in sums))
        for place, lead in enumerate(window.leads)
        for c, channel in enumerate(_channels(edition))
    ]


def _table(rows: list[Row], edition: Edition, *, masked: bool) -> pd.DataFrame:
    more = (MASKED if masked else ()) + (SEEN if _by_heading(edition) else ())
    return pd.DataFrame(rows, columns=[*COLUMNS, *more])


def _by_heading(edition: Edition) -> bool:
    """Return whether the scored channels are volumes and speeds by heading."""
    return all(name.startswith(("volume_", "speed_")) for name in _channels(edition))


def _channels(edition: Edition) -> tuple[str, ...]:
    return edition.channels[: edition.forecast_channels]


def _scored(future: NDArray[np.uint8], edition: Edition) -> NDArray[np.uint8]:
    """Turn a clip's future `(L, C, H, W)` into `(L, H, W, C)` of the scored channels."""
    return np.moveaxis(future, -3, -1)[..., : edition.forecast_channels]
