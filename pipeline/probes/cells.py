"""Fixes that count to the bytes of a day: volume, speed and heading of every cell and frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.editions import Edition
from pipeline.errors import CatalogError
from pipeline.probes.settings import Rasterising
from pipeline.probes.steps import QUADRANTS

CHANNELS = ("volume", "speed", "heading")


@dataclass(frozen=True, slots=True)
class Marks:
    """Where and when a vehicle was, how fast and which way. All arrays are `(N,)`.

    Attributes:
        frame: Frame of the day.
        row: Row of the grid.
        column: Column of the grid.
        kmh: Speed.
        quadrant: Heading, an index of `QUADRANTS`.
    """

    frame: NDArray[np.int64]
    row: NDArray[np.int64]
    column: NDArray[np.int64]
    kmh: NDArray[np.float64]
    quadrant: NDArray[np.int64]

    def of(self, chosen: NDArray[np.bool_]) -> Marks:
        """Return some of the marks."""
        return Marks(
            self.frame[chosen],
            self.row[chosen],
            self.column[chosen],
            self.kmh[chosen],
            self.quadrant[chosen],
        )

    @classmethod
    def none(cls) -> Marks:
        """Return no marks."""
        whole, real = np.empty(0, np.int64), np.empty(0)
        return cls(whole, whole, whole, real, whole)

    @classmethod
    def joined(cls, parts: Sequence[Marks]) -> Marks:
        """Return the marks of several, one after the other."""
        return cls(
            np.concatenate([part.frame for part in parts]),
            np.concatenate([part.row for part in parts]),
            np.concatenate([part.column for part in parts]),
            np.concatenate([part.kmh for part in parts]),
            np.concatenate([part.quadrant for part in parts]),
        )


@dataclass(frozen=True, slots=True)
class Picture:
    """A day as drawn.

    Attributes:
        frames: `(T, H, W, 3)` uint8.
        active: Cells of frames with a volume.
        capped: Of these, those at the cap.
    """

    frames: NDArray[np.uint8]
    active: int
    capped: int


def draw(marks: Marks, edition: Edition, settings: Rasterising) -> Picture:
    """Return a day drawn from its marks.

    Volume is the number of marks, scaled, rounded and capped, at least 1. Speed is the mean of
    theirs, rounded, at least 1. Heading is the code of the quadrant that most of them have.
    """
    frames = np.zeros(edition.day_shape, np.uint8)
    if not len(marks.frame):
        return Picture(frames, 0, 0)
    place = (marks.frame * edition.height + marks.row) * edition.width + marks.column
    order = np.argsort(place, kind="stable")
    place = place[order]
    starts = np.flatnonzero(np.append(True, place[1:] != place[:-1]))
    count = np.diff(starts, append=len(place))
    kmh = np.add.reduceat(marks.kmh[order], starts) / count
    heads = marks.quadrant[order]
    votes = np.stack([np.add.reduceat(heads == q, starts, dtype=np.int64) for q in range(4)])
    volume = np.clip(np.rint(count * settings.volume_per_fix), 1, settings.volume_cap)
    flat, cell = frames.reshape(-1, 3), place[starts]
    flat[cell, 0] = volume
    flat[cell, 1] = np.clip(np.rint(kmh * (255 / settings.speed_full_scale_kmh)), 1, 255)
    flat[cell, 2] = heading_codes(edition)[votes.argmax(axis=0)]
    return Picture(frames, len(cell), int((volume == settings.volume_cap).sum()))


def heading_codes(edition: Edition) -> NDArray[np.uint8]:
    """Return the code of each of `QUADRANTS`, `(4,)`.

    Raises:
        CatalogError: The edition does not have these channels, or a quadrant has no code.
    """
    if edition.channels != CHANNELS:
        raise CatalogError(
            f"{edition.name}: channels {list(edition.channels)}, expected {list(CHANNELS)} "
            "where days are drawn from points"
        )
    codes = {name: code for code, name in edition.headings.items()}
    missing = [name for name in QUADRANTS if not 0 < codes.get(name, 0) <= 255]
    if missing:
        raise CatalogError(
            f"{edition.name}: headings {edition.headings}, expected a code from 1 to 255 "
            f"for {', '.join(missing)}"
        )
    return np.array([codes[name] for name in QUADRANTS], np.uint8)
