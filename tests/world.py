"""A lawful tiny world in which no two axis sizes are equal, so a swapped axis cannot hide.

48 frames of 30 minutes, 11 rows, 7 columns, 3 channels; 2 slots, 4 leads, 5 frames of history of
the 9 that a test day gives.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.catalog import day_path
from pipeline.editions import City, Edition
from pipeline.heatmaps import write_frames

HISTORY = 5
NORTH_UP = City("Aal", 47.0, 47.011, 9.0, 9.007, test_slots=(14, 30), time_zone="Europe/Zurich")
ROTATED = City("Bex", 46.0, 46.007, 7.0, 7.011, rotated=True, test_slots=(10, 40))
TINY = Edition(
    name="tiny",
    title="A tiny edition",
    height=11,
    width=7,
    channels=("volume", "speed", "heading"),
    cities=(NORTH_UP, ROTATED),
    bin_minutes=30,
    leads=(0, 1, 2, 4),
    test_history=9,
    headings={0: "none", 1: "NW", 85: "NE", 170: "SW", 255: "SE"},
)
TRAINING = ("20180101", "20180102", "20180104")
VALIDATION = ("20180103", "20180106")
TEST = ("20180105", "20180107")
CATALOG = """
tiny:
  title: A tiny edition
  height: 11
  width: 7
  channels: [volume, speed, heading]
  bin_minutes: 30
  leads: [0, 1, 2, 4]
  test_history: 9
  headings: {0: none, 1: NW, 85: NE, 170: SW, 255: SE}
  cities:
    Aal: {lat_min: 47.0, lat_max: 47.011, lon_min: 9.0, lon_max: 9.007,
          test_slots: [14, 30], time_zone: Europe/Zurich}
    Bex: {lat_min: 46.0, lat_max: 46.007, lon_min: 7.0, lon_max: 7.011,
          rotated: true, test_slots: [10, 40]}
"""


def draw_day(city: City, day: str) -> np.ndarray:
    """A day `(48, 11, 7, 3)`: cells with rates of their own, busier at noon."""
    place = np.random.default_rng(len(city.name) + ord(city.name[0]))
    rate = place.beta(0.4, 1.2, TINY.frame_shape[:2])
    speed = place.integers(20, 200, TINY.frame_shape[:2])
    rng = np.random.default_rng([int(day), ord(city.name[0])])
    noon = 0.3 + 0.7 * np.sin(np.linspace(0, np.pi, TINY.frames_per_day))[:, None, None]
    active = rng.random(TINY.day_shape[:3]) < rate * noon
    frames = np.stack(
        [
            rng.geometric(0.2, active.shape).clip(1, 255),
            (speed + rng.integers(-20, 20, active.shape)).clip(1, 255),
            rng.choice([1, 85, 170, 255], active.shape),
        ],
        axis=-1,
    )
    return (frames * active[..., None]).astype(np.uint8)


def blank(city: City, frames: np.ndarray) -> np.ndarray:
    """A test day: zero but for the input blocks."""
    blanked = np.zeros_like(frames)
    for slot in city.test_slots:
        block = np.s_[slot - TINY.test_history : slot]
        blanked[block] = frames[block]
    return blanked


def truth_of(city: City, frames: np.ndarray) -> np.ndarray:
    """What follows each slot, `(2, 4, 11, 7, 3)`."""
    return np.stack([[frames[slot + lead] for lead in TINY.leads] for slot in city.test_slots])


@dataclass(frozen=True)
class World:
    """A release and its truth on disk, and a configuration that names them."""

    root: Path

    @property
    def release(self) -> Path:
        return self.root / "release"

    @property
    def truth(self) -> Path:
        return self.root / "truth"

    @property
    def store(self) -> Path:
        return self.root / "store"

    @property
    def out(self) -> Path:
        return self.root / "out"

    @property
    def config(self) -> Path:
        return self.root / "run.yaml"


def build_world(root: Path, workers: int = 0) -> World:
    """Write the release, the truth, the catalogue and the configuration under a folder."""
    world = World(root)
    for city in TINY.cities:
        for split, days in (("training", TRAINING), ("validation", VALIDATION), ("test", TEST)):
            for day in days:
                frames = draw_day(city, day)
                if split == "test":
                    write_frames(
                        world.truth / TINY.layout.submission.format(city=city.name, day=day),
                        truth_of(city, frames),
                    )
                    frames = blank(city, frames)
                write_frames(day_path(world.release, TINY, city, split, day), frames)
    (root / "catalog.yaml").write_text(CATALOG)
    world.config.write_text(
        f"edition: tiny\ncatalog: {root}/catalog.yaml\nrelease: {world.release}\n"
        f"store: {world.store}\nout: {world.out}\ntruth: {world.truth}\n"
        f"history: {HISTORY}\nstride: 3\nworkers: {workers}\n"
    )
    return world
