"""Learning curves: from a training's CSV to a picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from pipeline.atomic import whole_file
from pipeline.errors import ModelError

COLUMNS = ("step", "cpu_seconds", "loss", "held_out_mse")


def read_curve(folder: Path) -> pd.DataFrame:
    """Return the rows of a training's `curve.csv`.

    Raises:
        ModelError: There is none, or it lacks a column.
    """
    path = folder / "curve.csv"
    try:
        curve = pd.read_csv(path)
    except (OSError, pd.errors.ParserError, pd.errors.EmptyDataError) as fault:
        raise ModelError(f"{path}: no learning curve: {fault}") from None
    missing = [name for name in COLUMNS if name not in curve]
    if missing:
        raise ModelError(f"{path}: columns {list(curve)}, expected {missing} too")
    return curve


def draw_curves(path: Path, curves: Mapping[str, pd.DataFrame], base: float | None = None) -> Path:
    """Draw held-out error (or, without any, training loss) against CPU-seconds, one line a model.

    Args:
        path: The PNG.
        curves: From `read_curve`, by name.
        base: Error of the base alone, as a line to stay below.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    highest, lowest = [], []
    for name, curve in curves.items():
        scored = curve.dropna(subset="held_out_mse")
        column = "held_out_mse" if len(scored) else "loss"
        rows = scored if len(scored) else curve
        values = rows[column] * 1e3
        axes.plot(rows["cpu_seconds"], values, marker=".", label=name)
        later = values.iloc[len(values) // 8 :]  # the first steps would squeeze all the rest
        if len(later):
            highest.append(later.max())
            lowest.append(later.min())
    if base is not None:
        axes.axhline(base * 1e3, color="0.4", linestyle="--", linewidth=1, label="base alone")
        highest.append(base * 1e3)
        lowest.append(base * 1e3)
    if highest and max(highest) > min(lowest):
        room = (max(highest) - min(lowest)) * 0.08
        axes.set_ylim(min(lowest) - room, max(highest) + room)
    scored_any = any(curve["held_out_mse"].notna().any() for curve in curves.values())
    axes.set_ylabel(f"{'held-out MSE' if scored_any else 'training loss'}, 10⁻³")
    axes.set_xlabel("CPU-seconds")
    axes.grid(alpha=0.3)
    axes.legend()
    with whole_file(path) as partial:
        figure.savefig(partial, dpi=120, format="png")
    return path
