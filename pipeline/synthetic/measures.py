"""What can be measured on days of traffic: how dense, how steady, how fast, how foreseeable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.editions import Edition
from pipeline.synthetic.headings import HEADINGS
from pipeline.synthetic.movie import Movie, encode

HISTORY = 12
"""Frames that a forecast may look at: an hour."""
STRIDE = 6
"""Frames from one window to the next."""
SIGHTINGS = 20
"""Cells with fewer sightings have no variance worth the name."""

Numbers = dict[str, float]
Bytes = NDArray[np.uint8]


def heading_measures(movie: Movie, twin: Movie | None, leads: Sequence[int]) -> Numbers:
    """Return what a day shows in one heading: the mean over the headings it has.

    A movie that does not tell headings apart is measured as if it had one.

    Args:
        movie: The day.
        twin: The same day with other dice; without it the gain of an oracle is left out.
        leads: Frames to forecast, counted from the first one after the history.
    """
    found = []
    for heading in range(len(HEADINGS)) if movie.by_heading else [None]:
        layer = _layer(movie, heading)
        if len(layer.cell):
            other = None if twin is None else _layer(twin, heading)
            found.append(_layer_measures(layer, other, leads))
    return {name: float(np.mean([layer[name] for layer in found])) for name in found[0]}


def value_measures(movies: Sequence[Movie]) -> Numbers:
    """Return the distribution of the bytes of volume and speed where there are any."""
    volume = np.concatenate([movie.volume for movie in movies])
    speed = np.concatenate([movie.speed for movie in movies])
    found = {
        "volume: mean": float(volume.mean()),
        "volume: share of 1": float((volume == 1).mean()),
    }
    found |= _quantiles("volume: {}", volume, (0.25, 0.5, 0.75, 0.95, 0.99))
    found["speed: mean"] = float(speed.mean())
    found["speed: share of 255"] = float((speed == 255).mean())
    return found | _quantiles("speed: {}", speed, (0.05, 0.25, 0.5, 0.75, 0.95, 0.99))


def file_measures(movies: Sequence[Movie], twins: Sequence[Movie], edition: Edition) -> Numbers:
    """Return what the files of an edition show, all headings together.

    Args:
        movies: Days.
        twins: The same days with other dice, or none.
        edition: Gives the encoding, the leads and the channels that count.
    """
    area = edition.height * edition.width
    seen = np.zeros(area, np.int64)
    errors = []
    for number, movie in enumerate(movies):
        key = np.unique(movie.frame.astype(np.int64) * area + movie.cell)
        seen += np.bincount(key % area, minlength=area)
        pair = [movie, *twins[number : number + 1]]
        cells = np.unique(np.concatenate([day.cell for day in pair]))
        days = [_columns(encode(day, edition), cells) for day in pair]
        for channel in range(edition.forecast_channels):
            values = [day[..., channel] for day in days]
            errors.append(_errors(values[0], values[1] if twins else None, edition.leads))
    often = seen / sum(movie.shape[0] for movie in movies)
    found = {
        "files: share of cells active": float(often.mean()),
        "files: share of cells active more than half the time": float((often > 0.5).mean()),
    }
    found |= _quantiles("files: occupancy, {}", often[often > 0], (0.5, 0.75, 0.9, 0.99))
    return found | {f"files: {name}": value for name, value in _ratios(errors).items()}


@dataclass(frozen=True, slots=True)
class _Layer:
    """One heading of a day.

    Attributes:
        shape: `(T, H, W)`.
        cell: `(N,)` cells that were ever active, rising.
        speed: `(T, N)` their speeds.
        frame: `(E,)` frame of each sighting.
        seen_in: `(E,)` its cell.
    """

    shape: tuple[int, int, int]
    cell: NDArray[np.int32]
    speed: Bytes
    frame: NDArray[np.int16]
    seen_in: NDArray[np.int32]


def _layer(movie: Movie, heading: int | None) -> _Layer:
    mine = slice(None) if heading is None else np.flatnonzero(movie.heading == heading)
    frame, seen_in = movie.frame[mine], movie.cell[mine]
    cell, column = np.unique(seen_in, return_inverse=True)
    speed = np.zeros((movie.shape[0], len(cell)), np.uint8)
    speed[frame, column] = movie.speed[mine]
    return _Layer(movie.shape, cell, speed, frame, seen_in)


def _layer_measures(layer: _Layer, twin: _Layer | None, leads: Sequence[int]) -> Numbers:
    active = layer.speed > 0
    by_frame = active.sum(1) / (layer.shape[1] * layer.shape[2])
    found = {
        "occupancy: mean": float(by_frame.mean()),
        "occupancy: emptiest frame / mean": float(by_frame.min() / by_frame.mean()),
        "occupancy: fullest frame / mean": float(by_frame.max() / by_frame.mean()),
        "occupancy: cells active in a day": len(layer.cell) / (layer.shape[1] * layer.shape[2]),
    }
    found |= _quantiles("occupancy: {}", active.mean(0), (0.25, 0.5, 0.75, 0.9, 0.95, 0.99))
    for lag in (1, 12):
        both = active[:-lag] & active[lag:]
        now = layer.speed[:-lag][both].astype(np.float64)
        then = layer.speed[lag:][both].astype(np.float64)
        found[f"persistence: active {lag} on"] = float(both.sum() / active[:-lag].sum())
        found[f"persistence: speed correlation {lag} on"] = float(np.corrcoef(now, then)[0, 1])
        found[f"persistence: speed difference {lag} on"] = float(
            np.sqrt(((now - then) ** 2).mean())
        )
    speeds = None if twin is None else _speeds_beside(layer, twin)
    errors = _ratios([_errors(layer.speed, speeds, leads)])
    return found | _variances(layer) | _neighbours(layer) | errors


def _variances(layer: _Layer) -> Numbers:
    count = (layer.speed > 0).sum(0)
    often = count >= min(SIGHTINGS, int(count.max()))
    speed, count = layer.speed[:, often].astype(np.float32), count[often]
    mean = speed.sum(0) / count
    within = (speed**2).sum(0) / count - mean**2
    return {
        "speed: variance between cells": float(mean.var()),
        "speed: variance within a cell": float(within.mean()),
    }


def _neighbours(layer: _Layer) -> Numbers:
    frames, height, width = layer.shape
    active = np.zeros((frames, height + 2, width + 2), bool)
    row, column = layer.seen_in // width + 1, layer.seen_in % width + 1
    active[layer.frame, row, column] = True
    count = -np.ones(len(row), np.int64)  # a cell is not its own neighbour
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            count += active[layer.frame, row + down, column + right]
    return {
        "space: active cells that touch another": float((count > 0).mean()),
        "space: active neighbours, of 8": float(count.mean()),
    }


def _speeds_beside(layer: _Layer, twin: _Layer) -> Bytes:
    """Return the twin's speeds: first for the cells of `layer`, then for those it has alone."""
    place = np.searchsorted(layer.cell, twin.cell)
    shared = np.isin(twin.cell, layer.cell)
    found = np.zeros((len(twin.speed), len(layer.cell) + int((~shared).sum())), np.uint8)
    found[:, place[shared]] = twin.speed[:, shared]
    found[:, len(layer.cell) :] = twin.speed[:, ~shared]
    return found


def _columns(frames: Bytes, cells: NDArray[np.int32]) -> Bytes:
    return frames.reshape(len(frames), -1, frames.shape[-1])[:, cells]


def _quantiles(name: str, values: NDArray[np.floating] | Bytes, shares: Sequence[float]) -> Numbers:
    found = np.quantile(values, shares)
    return {name.format(f"{s:.0%} quantile"): float(q) for s, q in zip(shares, found, strict=True)}


def _errors(values: Bytes, twin: Bytes | None, leads: Sequence[int]) -> Numbers:
    """Return the summed squared errors of simple forecasts on windows all over a day.

    Args:
        values: `(T, N)`.
        twin: `(T, N)` or more columns, for cells where `values` are all 0.
        leads: Frames to forecast, counted from the first one after the history.
    """
    sums = dict.fromkeys(["zeros", "copy", "mean"] + ["oracle"] * (twin is not None), 0.0)
    for start in range(0, len(values) - HISTORY - leads[-1], STRIDE):
        split = start + HISTORY
        history = values[start:split].astype(np.float32)
        mean, last = history.mean(0), history[-1]
        for lead in leads:
            truth = values[split + lead].astype(np.float32)
            forecasts = {"zeros": np.zeros_like(truth), "copy": last, "mean": mean}
            for name, forecast in forecasts.items():
                sums[name] += float(((truth - forecast) ** 2).sum(dtype=np.float64))
            if twin is not None:  # two throws differ by twice the variance of one
                other = twin[split + lead].astype(np.float64)
                alone = other[values.shape[1] :]
                twice = ((truth - other[: values.shape[1]]) ** 2).sum() + (alone**2).sum()
                sums["oracle"] += float(twice) / 2
    return sums


def _ratios(errors: Sequence[Numbers]) -> Numbers:
    """Return the errors as multiples of the window mean's, and what an oracle gains on it."""
    total = {name: sum(error[name] for error in errors) for name in errors[0]}
    found = {
        "error: zeros / mean of 12": total["zeros"] / total["mean"],
        "error: copy-last / mean of 12": total["copy"] / total["mean"],
    }
    if "oracle" in total:
        found["error: gain of an oracle on the mean of 12"] = 1.0 - total["oracle"] / total["mean"]
    return found
