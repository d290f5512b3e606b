"""The shipped editions since 2020 on a tiny grid, drawn, ingested and answered once.

48 frames of 30 minutes, 23 rows, 17 columns, 8 or 9 channels, 9 frames of input, 6 leads, 7 slots
of a 2021 test file: no two axes of a file are equally long.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from flows.cli import app
from flows.config import RunConfig, read_config
from pipeline.catalog import DEFAULT_CATALOG
from pipeline.editions import Edition
from pipeline.errors import CatalogError
from pipeline.yaml_files import read_yaml

GRID = (23, 17)
HISTORY, SLOTS = 9, 7
CITIES = {
    "traffic4cast2020": ["BERLIN", "MOSCOW"],
    "traffic4cast2021": ["CHICAGO", "MELBOURNE", "ANTWERP"],
    "traffic4cast2021_extended": ["NEWYORK", "VIENNA"],
    "traffic4cast2022": ["London", "Madrid"],
}
DAYS = {
    "traffic4cast2020": (2, 1, 3),
    "traffic4cast2021": (2, 2, 3),
    "traffic4cast2021_extended": (0, 0, 3),
    "traffic4cast2022": (1, 1, 0),
}


def t4c(*arguments: object) -> Result:
    """Run the command line."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def facts(result: Result) -> dict[str, Any]:
    """Return what a verb said with --json; it must have ended well."""
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return found


@dataclass(frozen=True)
class EditionWorld:
    """An edition's release, truth, store and submission on disk."""

    root: Path
    name: str

    @property
    def config(self) -> Path:
        return self.root / "run.yaml"

    @property
    def release(self) -> Path:
        return self.root / "release"

    @property
    def truth(self) -> Path:
        return self.root / "truth"

    @property
    def submission(self) -> Path:
        return self.root / "out" / "submission.zip"

    @property
    def run(self) -> RunConfig:
        return read_config(self.config)

    @property
    def edition(self) -> Edition:
        return self.run.chosen_edition()


def tiny_entry(name: str) -> dict[str, Any]:
    """Return the shipped entry of an edition with smaller sizes and fewer cities."""
    entry = read_yaml(DEFAULT_CATALOG, CatalogError)[name]
    entry |= {"height": GRID[0], "width": GRID[1], "bin_minutes": 30, "test_history": HISTORY}
    if "slots_per_test" in entry:
        entry["slots_per_test"] = SLOTS
    entry["cities"] = {city: dict(entry["cities"][city]) for city in CITIES[name]}
    return dict(entry)


def build(root: Path, name: str) -> EditionWorld:
    """Write the catalogue and the configuration; nothing is drawn yet."""
    world = EditionWorld(root, name)
    root.mkdir(parents=True, exist_ok=True)
    entry = json.loads(json.dumps(tiny_entry(name), default=str))
    (root / "catalog.yaml").write_text(json.dumps({name: entry}))
    shipped = read_config(Path(name))
    training, validation, test = DAYS[name]
    synth = {"seed": 7, "first_day": str(shipped.synth.first_day), "gzip": 1}
    synth |= {"training": training, "validation": validation, "test": test}
    config = {
        "edition": name,
        "catalog": str(root / "catalog.yaml"),
        "release": str(world.release),
        "truth": str(world.truth),
        "store": str(root / "store"),
        "out": str(root / "out"),
        "workers": 0,
        "history": HISTORY,
        "stride": 6,
        "ladder": ["zeros", "persistence", "window_mean"],
        "synth": synth,
        "submit": {"model": "persistence", "gzip": 1},
    }
    world.config.write_text(json.dumps(config))
    return world
