"""The world that the nights befall: a tiny release that grows by a day a night."""

from __future__ import annotations

import os

# No threads before a fork. The other modules of the nights import this one before any with numpy.
os.environ["OMP_NUM_THREADS"] = "1"

from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import cached_property
from pathlib import Path

import numpy as np

from flows.config import RunConfig, read_config
from pipeline.catalog import day_path
from pipeline.editions import Edition
from pipeline.heatmaps import write_frames

FIRST_DAY = date(2018, 1, 1)
KNOWN_DAYS = 6
CATALOG = """
nights:
  title: A tiny edition
  height: 11
  width: 7
  channels: [volume, speed, heading]
  bin_minutes: 30
  leads: [0, 1, 2, 4]
  test_history: 9
  headings: {0: none, 1: NW, 85: NE, 170: SW, 255: SE}
  cities:
    Aal: {lat_min: 47.0, lat_max: 47.011, lon_min: 9.0, lon_max: 9.007, test_slots: [14, 30]}
    Bex: {lat_min: 46.0, lat_max: 46.007, lon_min: 7.0, lon_max: 7.011, rotated: true,
          test_slots: [10, 40]}
"""
CONFIG = """
edition: nights
catalog: {root}/catalog.yaml
release: {root}/release
store: {root}/store
out: {root}/out
history: 5
stride: 12
workers: 0
ensembles: {{both: {{members: [mix, window_mean], held_out: 1}}}}
submit: {{model: mix}}
"""


@dataclass
class World:
    """A release that grows by a day a night, and what is made of it."""

    root: Path
    mounted: bool = False
    clock: float = 0.0
    nights: int = 0
    truncated: dict[Path, bytes] = field(default_factory=dict)

    @property
    def config(self) -> RunConfig:
        """The run's; every fifth night submits a model that is fitted, every tenth a costly one."""
        model = "window_mean" if self.nights % 5 else "both" if self.nights % 10 == 0 else "mix"
        return self._configs[model]

    @cached_property
    def _configs(self) -> dict[str, RunConfig]:
        path = self.root / "run.yaml"
        models = ("window_mean", "mix", "both")
        return {model: read_config(path, [f"submit.model={model}"]) for model in models}

    @cached_property
    def edition(self) -> Edition:
        return self.config.read_edition()

    def build(self) -> None:
        (self.root / "catalog.yaml").write_text(CATALOG)
        (self.root / "run.yaml").write_text(CONFIG.format(root=self.root))
        (self.root / "tmp").mkdir()
        for number in range(KNOWN_DAYS):
            self.arrive(number, "test" if number % 3 == 2 else "training")

    def arrive(self, number: int, split: str) -> list[Path]:
        """A day of each city is there, dated by the world's clock."""
        day, paths = (FIRST_DAY + timedelta(days=number)).strftime("%Y%m%d"), []
        for place, city in enumerate(self.edition.cities):
            path = day_path(self.root / "release", self.edition, city, split, day)
            self.draw(path, [number, place, 0])
            paths.append(path)
        return paths

    def draw(self, path: Path, seed: list[int]) -> None:
        rng = np.random.default_rng(seed)
        frames = rng.integers(0, 256, (48, 11, 7, 3), np.uint8)
        frames[..., 2] = rng.choice([1, 85, 170, 255], frames.shape[:3])
        write_frames(path, frames * (rng.random((48, 11, 7, 1)) < 0.1), gzip=1)
        os.utime(path, (self.clock, self.clock))
