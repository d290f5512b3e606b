"""Tables of a benchmark: best first, the published figures beside, as CSV, JSON and Markdown."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.atomic import whole_file, write_text
from pipeline.kitti.rules import DIFFICULTIES, RULES

DIGITS = {
    "frame_sse": 2,
    "error": 2,
    "frame_sae": 2,
    "psnr": 2,
    "sees": 0,
    "M parameters": 3,
    "GMAC": 2,
    "MB kept": 1,
    "MB kept, frugal": 1,
    "MB at the peak": 1,
    "paper MSE": 1,
    "paper MB": 0,
    "steps": 0,
    "sequences": 0,
    "CPU-s of training": 0,
    "labels": 0,
    "found": 0,
    "PSNR +1": 2,
    **{f"{kind} {level}": 2 for kind in RULES for level in DIFFICULTIES},
    "mAP": 2,
    "FPS": 2,
}
"""Digits after the point in Markdown; others have three. CSV and JSON have all."""


def write_tables(stem: Path, table: pd.DataFrame, title: str) -> str:
    """Write `stem.csv`, `.json` and `.md`, each whole; return the Markdown."""
    write_text(stem.with_suffix(".csv"), table.to_csv())
    named = table.astype(object).where(table.notna(), None).to_dict(orient="index")
    text = json.dumps({"title": title, "rows": named}, indent=1, default=_plain, allow_nan=False)
    write_text(stem.with_suffix(".json"), text + "\n")
    markdown = f"{title}\n\n{as_markdown(table)}\n"
    write_text(stem.with_suffix(".md"), markdown)
    return markdown


def as_markdown(table: pd.DataFrame) -> str:
    """Return a table as Markdown; what is not known is a dash."""
    head = [str(table.index.name or ""), *map(str, table.columns)]
    lines = [_row(head), _row(["---"] * len(head))]
    for name, row in table.iterrows():
        lines.append(_row([str(name), *(_cell(str(key), value) for key, value in row.items())]))
    return "\n".join(lines)


def draw_leads(path: Path, curves: Mapping[str, list[float]], label: str) -> Path:
    """Draw a metric against the lead, a line a model."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.add_subplot()
    for name, values in curves.items():
        dashed = "--" if name in ("copy_last", "zeros") else "-"
        axes.plot(range(1, len(values) + 1), values, dashed, marker=".", label=name)
    axes.set_xlabel("frames ahead")
    axes.set_ylabel(label)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    with whole_file(path) as partial:
        figure.savefig(partial, dpi=120, format="png", metadata={"Software": None})
    return path


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(key: str, value: Any) -> str:
    if value is None or (isinstance(value, float) and pd.isna(value)):
        return "–"
    if isinstance(value, int | float):
        return f"{value:.{DIGITS.get(key, 3)}f}"
    return str(value)


def _plain(value: Any) -> Any:
    return value.item()  # of numpy
