"""What a synthetic release was drawn from: written down at its root, and held to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pipeline.atomic import write_json
from pipeline.catalog import day_files
from pipeline.editions import SPLITS, Edition
from pipeline.errors import CatalogError

RECORD = "synthetic.json"
"""What a release was drawn from; stands at its root."""


def claim_folder(root: Path, edition: Edition, origin: dict[str, Any]) -> None:
    """Write down what a release is drawn from, or see that it is the same as before.

    Raises:
        CatalogError: It is not, or the folder holds days of another origin.
    """
    record = root / RECORD
    origin = json.loads(json.dumps(origin))
    if record.is_file():
        found = json.loads(record.read_text(encoding="utf-8"))
        other = [key for key in {**found, **origin} if found.get(key) != origin.get(key)]
        if other:
            raise CatalogError(
                f"{record}: another {', '.join(other)} than now; expected the same or a new folder"
            )
        return
    for city in edition.cities:
        for split in SPLITS:
            if held := day_files(root, edition, city, split):
                raise CatalogError(f"{held[0].path}: not a synthetic day; expected a new folder")
    write_json(record, origin)
