"""The lie of the land: the centre, the suburbs, the river, the parks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.synthetic.style import CityStyle

Floats = NDArray[np.float64]


def cell_middles(height: int, width: int) -> Floats:
    """Return the places `(H, W, 2)` of the cells' middles: row and column, in cells."""
    rows, columns = np.mgrid[0:height, 0:width]
    return np.stack([rows, columns], -1) + 0.5


class Land:
    """What a city is built on.

    Attributes:
        size: `(2,)` rows and columns.
        half: Half of it.
        centre: `(2,)` row and column of the city's middle.
        density: `(H, W)` how built-up each cell is, 0 to 1.
        open: `(H, W)` which cells are water or park.
    """

    def __init__(self, height: int, width: int, rng: np.random.Generator, style: CityStyle) -> None:
        self.size = np.array([height, width])
        self.half = self.size / 2.0
        self.centre = self.half * (1.0 + rng.uniform(-0.12, 0.12, 2))
        self._waves(rng)
        places = cell_middles(height, width)
        self.density = self._density(places, rng, style)
        self.open = self._open(places, rng)

    def inside(self, points: Floats) -> NDArray[np.bool_]:
        """Return which places `(..., 2)` lie on the grid."""
        return np.asarray(((points >= 0) & (points < self.size)).all(-1))

    def bend(self, points: Floats) -> Floats:
        """Return where places `(..., 2)` come to lie once straight lines are gently bent."""
        phase = (points @ self._wave_way) * (2 * np.pi / self._wave_length) + self._wave_phase
        return np.asarray(points + (np.sin(phase) * self._wave_height) @ self._wave_side.T)

    def _waves(self, rng: np.random.Generator) -> None:
        reach = float(self.size.mean())
        self._wave_length = np.array([0.9, 0.45, 0.2, 0.11]) * max(reach, 60.0)
        self._wave_height = np.array([0.035, 0.035, 0.03, 0.02]) * self._wave_length
        angle = rng.uniform(0.0, 2 * np.pi, 4)
        self._wave_way = np.stack([np.sin(angle), np.cos(angle)])
        self._wave_side = np.stack([np.cos(angle), -np.sin(angle)])
        self._wave_phase = rng.uniform(0.0, 2 * np.pi, 4)

    def _density(self, places: Floats, rng: np.random.Generator, style: CityStyle) -> Floats:
        away = (places - self.centre) / self.half / style.built_up
        density = np.exp(-(away**2).sum(-1))
        for _ in range(max(3, round(float(self.size.mean()) / 30))):
            suburb, reach = rng.uniform(0.03, 0.97, 2) * self.size, rng.uniform(0.05, 0.12)
            near = (places - suburb) / self.half / reach
            density = np.maximum(density, 0.5 * np.exp(-(near**2).sum(-1)))
        return np.asarray(density)

    def _open(self, places: Floats, rng: np.random.Generator) -> NDArray[np.bool_]:
        reach = float(self.size.mean())
        angle = rng.uniform(0.0, np.pi)
        along = (places - self.centre) @ np.array([np.cos(angle), np.sin(angle)])
        across = (places - self.centre) @ np.array([-np.sin(angle), np.cos(angle)])
        meander = np.sin(along / (0.13 * reach) + rng.uniform(0, 6)) * 0.04 * reach
        found = np.abs(across - meander - 0.1 * reach) < max(0.6, 0.006 * reach)
        for _ in range(max(2, round(reach / 30))):
            park = rng.uniform(0.0, 1.0, 2) * self.size
            radii = reach * rng.uniform(0.015, 0.05, 2)
            found |= (((places - park) / radii) ** 2).sum(-1) < 1.0
        return np.asarray(found)
