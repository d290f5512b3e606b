"""Errors by hour, lead, channel and weekday, with their spread over days; the worst windows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import NDArray

from pipeline.clock import local_minutes
from pipeline.error_tables import Errors
from pipeline.maps.canvas import new_figure, save
from pipeline.maps.scales import Theme
from pipeline.maps.sums import WEEKDAYS, ModelSums

PARTS = ("hour", "lead", "channel", "weekday")


def timed_rows(errors: Errors) -> pd.DataFrame:
    """Return the rows of errors with `hour`, `weekday` and `time` of each frame, local."""
    rows = errors.rows.copy()
    edition = errors.edition
    keys = rows[["city", "day", "slot", "lead"]].drop_duplicates()
    clocks = {}
    for city, day in keys[["city", "day"]].drop_duplicates().itertuples(index=False):
        clocks[city, day] = local_minutes(edition, edition.city(city), day)
    told = []
    for city, day, slot, lead in keys.itertuples(index=False):
        weekday, minute = (values[slot + lead] for values in clocks[city, day])
        first = int(clocks[city, day][1][slot])
        told.append((int(minute) // 60, int(weekday), f"{first // 60:02d}:{first % 60:02d}"))
    keys[["hour", "weekday", "time"]] = told
    return rows.merge(keys, on=["city", "day", "slot", "lead"])


def error_curve(errors: Errors, part: str, rows: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return a row a model and part: `mse` over all days, and `low`, `high` and `days` of them.

    Args:
        errors: Of models on the same windows.
        part: One of `PARTS`.
        rows: What `timed_rows` returned of them, if it is at hand.
    """
    table = timed_rows(errors) if rows is None else rows
    order = ["model", part]
    scale = errors.edition.score_scale**2
    sums = table.groupby(order, sort=False)[["sse", "cells"]].sum()
    daily = table.groupby([*order, "day"], sort=False)[["sse", "cells"]].sum()
    by_day = (daily["sse"] / daily["cells"] / scale).groupby(order, sort=False)
    found = pd.DataFrame(
        {
            "mse": sums["sse"] / sums["cells"] / scale,
            "low": by_day.min(),
            "high": by_day.max(),
            "days": by_day.size(),
        }
    ).reset_index()
    places: dict[str, Sequence[object]] = {
        "hour": range(24),
        "weekday": range(7),
        "lead": sorted(table["lead"].unique()),
        "channel": list(errors.edition.channels),
    }
    rank = {value: place for place, value in enumerate(places[part])}
    found = found.sort_values(part, key=lambda column: column.map(rank), kind="stable")
    return found.reset_index(drop=True)


def worst_windows(
    errors: Errors, model: str, count: int = 10, rows: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Return the windows with the largest error of a model, worst first.

    Columns:
        city, day, weekday: Where and when; time: local start of the first frame forecast; mse;
        times: how often the model's mean over all windows that is.
    """
    table = timed_rows(errors) if rows is None else rows
    mine = table[table["model"] == model]
    grouped = mine.groupby(["city", "day", "slot"], sort=False)
    sums = grouped[["sse", "cells"]].sum()
    mse = sums["sse"] / sums["cells"] / errors.edition.score_scale**2
    mean = mine["sse"].sum() / mine["cells"].sum() / errors.edition.score_scale**2
    found = pd.DataFrame(
        {
            "weekday": grouped["weekday"].first().map(lambda number: WEEKDAYS[number]),
            "time": grouped["time"].first(),
            "mse": mse,
            "times": mse / mean,
        }
    )
    worst = found.sort_values("mse", ascending=False, kind="stable").head(count)
    return worst.reset_index().drop(columns="slot")


def worst_days(errors: Errors, model: str) -> pd.DataFrame:
    """Return each day's error of a model, worst first: `city`, `day`, `weekday`, `mse`."""
    scores = errors.files().reset_index()
    files = scores[scores["model"] == model].copy()
    edition = errors.edition
    files["weekday"] = [WEEKDAYS[edition.day_of(day).weekday()] for day in files["day"]]
    worst: pd.DataFrame = files.sort_values("mse", ascending=False)
    return worst[["city", "day", "weekday", "mse"]]


def draw_error_curves(
    path: Path, errors: Errors, models: Sequence[str], theme: Theme, rows: pd.DataFrame
) -> Path:
    """Draw the errors of models by hour, lead, channel and weekday; bars are the range of days."""
    figure = new_figure(11, 6.4, theme)
    scaled = errors.edition.score_scale > 1
    factor = 1e3 if scaled else 1.0
    for axes, part in zip(figure.subplots(2, 2).ravel(), PARTS, strict=True):
        curve = error_curve(errors, part, rows)
        curve = curve[curve["model"].isin(models)]
        labels = list(curve[part].unique())
        for place, model in enumerate(models):
            mine = curve[curve["model"] == model]
            x = np.array([labels.index(value) for value in mine[part]], float)
            x += (place - (len(models) - 1) / 2) * 0.13
            y = mine["mse"].to_numpy() * factor
            ends = [y - mine["low"].to_numpy() * factor, mine["high"].to_numpy() * factor - y]
            axes.errorbar(
                x,
                y,
                yerr=np.maximum(ends, 0),
                fmt="o-" if part in {"hour", "lead"} else "o",
                color=theme.lines[place % len(theme.lines)],
                label=model,
                markersize=3.5,
                linewidth=1.1,
                elinewidth=0.8,
            )
        axes.set_xticks(range(len(labels)), [_label(errors, part, value) for value in labels])
        axes.set_title(f"by {'local hour' if part == 'hour' else part}", fontsize=10)
        axes.set_ylabel("MSE × 10⁻³" if scaled else "MSE, bytes²", fontsize=9)
        _dress(axes, theme)
        if part == "channel":
            axes.set_yscale("log")
        if part == "hour":
            axes.tick_params(axis="x", labelsize=7)
            axes.legend(fontsize=8, frameon=False, labelcolor=theme.ink)
    days = rows["day"].nunique()
    figure.suptitle(f"bars: lowest and highest of {days} days", color=theme.ink, fontsize=9)
    return save(path, figure)


def reliability(sums: ModelSums, least: int = 50) -> NDArray[np.float64]:
    """Return `(N, 3)`: a byte forecast for the first channel, share active, and of how many.

    Bytes that were said fewer than `least` times are left out.
    """
    said = np.flatnonzero(sums.said >= least)
    return np.stack([said, sums.came[said] / sums.said[said], sums.said[said]], axis=1)


def draw_reliability(
    path: Path, curves: dict[str, NDArray[np.float64]], channel: str, theme: Theme
) -> Path:
    """Draw how often a cell was active by the byte that was forecast for it."""
    figure = new_figure(6.4, 4, theme)
    axes = figure.add_subplot()
    for place, (model, curve) in enumerate(curves.items()):
        colour = theme.lines[place % len(theme.lines)]
        axes.plot(curve[:, 0], curve[:, 1], ".-", color=colour, label=model, linewidth=1)
    axes.set_xscale("symlog", linthresh=1)
    axes.set_ylim(0, 1)
    axes.set_xlabel(f"{channel} that was forecast, byte", fontsize=9)
    axes.set_ylabel("share of cells and frames active", fontsize=9)
    axes.legend(fontsize=8, frameon=False, labelcolor=theme.ink)
    _dress(axes, theme)
    return save(path, figure)


def _label(errors: Errors, part: str, value: object) -> str:
    if part == "lead":
        return f"{(int(str(value)) + 1) * errors.edition.bin_minutes} min"
    return WEEKDAYS[int(str(value))] if part == "weekday" else str(value)


def _dress(axes: Axes, theme: Theme) -> None:
    axes.set_facecolor(theme.paper)
    axes.tick_params(colors=theme.ink, labelsize=8)
    axes.grid(axis="y", color=theme.blank, linewidth=0.8)
    for label in (axes.title, axes.xaxis.label, axes.yaxis.label):
        label.set_color(theme.ink)
    for side, spine in axes.spines.items():
        spine.set_visible(side in {"left", "bottom"})
        spine.set_color(theme.street)
