"""Street lines to draw below errors, read from GeoJSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import CatalogError

MOST_BYTES = 512 * 2**20
Line = NDArray[np.float64]


def read_streets(path: Path) -> list[Line]:
    """Return lines `(N, 2)` of longitude and latitude in degrees; single points are left out.

    A feature is a LineString, a MultiLineString or, as some extracts have it, bare `coordinates`.

    Raises:
        CatalogError: The file is not that; says where.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise CatalogError(
                f"{path}: {path.stat().st_size} bytes, expected {MOST_BYTES} at most"
            )
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as fault:
        raise CatalogError(f"{path}: {fault.strerror}") from None
    except (ValueError, RecursionError) as fault:
        raise CatalogError(f"{path}: no GeoJSON: {fault}") from None
    features = found.get("features") if isinstance(found, dict) else None
    if not isinstance(features, list):
        raise CatalogError(f"{path}: no list of `features`")
    lines = []
    for number, feature in enumerate(features):
        for points in _parts(feature):
            try:
                line = np.array([point[:2] for point in points], np.float64)
            except (TypeError, ValueError, IndexError, KeyError):
                line = np.empty((0, 0))
            if line.ndim != 2 or line.shape[1] != 2 or not np.isfinite(line).all():
                raise CatalogError(f"{path}: feature {number} is no line of longitude, latitude")
            if len(line) > 1:
                lines.append(line)
    return lines


def _parts(feature: Any) -> Iterator[Any]:
    """Yield each line of a feature, as lists of points."""
    shape = feature.get("geometry", feature) if isinstance(feature, dict) else None
    points = shape.get("coordinates") if isinstance(shape, dict) else None
    kind = shape.get("type") if isinstance(shape, dict) else None
    if kind == "MultiLineString" and isinstance(points, list):
        yield from points
    elif kind in {None, "Feature", "LineString"}:
        yield points
