"""The four headings of the movies, and how the probes of a road divide into them."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from pipeline.headings import HEADINGS

__all__ = ["HEADINGS", "OPPOSITE", "bearing", "heading_shares", "normal_quantile"]
OPPOSITE = {"NE": "SW", "NW": "SE", "SE": "NW", "SW": "NE"}

Floats = NDArray[np.float64]

_MIDDLE = np.array([45.0, 315.0, 135.0, 225.0])
"""Compass bearing of the middle of each heading's quadrant, degrees."""
_Z = np.linspace(-6.0, 6.0, 2401)
_BELOW = np.array([NormalDist().cdf(z) for z in _Z])


def bearing(dy: Floats, dx: Floats, *, rotated: bool = False) -> Floats:
    """Return the compass bearing of ways over the grid, degrees clockwise from north.

    Args:
        dy: Rows gained.
        dx: Columns gained.
        rotated: Rows run from east to west and columns from north to south; else rows run from
            north to south and columns from west to east.
    """
    east, north = (-dy, -dx) if rotated else (dx, -dy)
    return np.asarray(np.degrees(np.arctan2(east, north)) % 360.0)


def heading_shares(bearings: Floats, spread: float, floor: float) -> Floats:
    """Return how probes on ways of bearings `(...)` divide into headings `(..., 4)`.

    Args:
        bearings: Degrees clockwise from north.
        spread: Standard deviation of a probe's bearing about its road's, degrees.
        floor: Least share of a heading.
    """
    off = (bearings[..., None] - _MIDDLE + 180.0) % 360.0 - 180.0
    share = _normal_share((45.0 - off) / spread) - _normal_share((-45.0 - off) / spread)
    return np.asarray(np.maximum(share, floor))


def normal_quantile(share: Floats) -> Floats:
    """Return the standard normal quantiles of shares between 0 and 1."""
    return np.asarray(np.interp(share, _BELOW, _Z))


def _normal_share(z: Floats) -> Floats:
    return np.asarray(np.interp(z, _Z, _BELOW))
