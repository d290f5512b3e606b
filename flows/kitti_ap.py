"""Score detections in 2D by KITTI's rules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from flows.recipe import Outcome, publish_table
from pipeline.benchmark_table import as_markdown
from pipeline.kitti.average_precision import evaluate, read_images


def kitti_ap(truth: Path, detections: Path) -> Outcome:
    """Return a table of AP by class and difficulty, and mean AP.

    Args:
        truth: Folder of labels.
        detections: Folder of detections: a file for each of labels, empty where there are none.

    Raises:
        LabelError: Files are missing, unexpected or faulty; lists all.
    """
    images = read_images(truth, detections)
    table = evaluate([*images.values()])
    table.index = pd.Index([" ".join(key) for key in table.index], name="class")
    publish_table("kitti-ap", table, f"KITTI AP of {detections}")
    means = {name: table[name].mean() if table[name].notna().all() else None
             for name in ("AP11", "AP40")}  # fmt: skip
    said = ", ".join(
        f"m{name} {'–' if value is None else f'{value:.3f}'}" for name, value in means.items()
    )
    plain = table.astype(object).where(table.notna(), None).to_dict(orient="index")
    rows: dict[str, Any] = {str(name): row for name, row in plain.items()}
    few = [name for name, row in rows.items() if row["labels"] < 41]
    lines = [f"{len(images)} images", "", *as_markdown(table).splitlines(), "", said]
    if few:
        lines.append(f"fewer than 41 labels, so 100 is out of reach: {', '.join(few)}")
    return Outcome(lines, {"images": len(images), "rows": rows, **means})
