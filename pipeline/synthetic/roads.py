"""The map of a synthetic city: radials, rings, chords, and districts of side streets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.synthetic.land import Floats, Land, cell_middles
from pipeline.synthetic.style import CityStyle, Kind

STEP = 0.5
"""Distance of the points along a road, cells."""
BLOCK = 6.0
"""Length over which a side street is either there or missing, cells."""


@dataclass(frozen=True, slots=True)
class Roads:
    """Points along the middle of all roads, `(P,)` each, in the order of the way.

    Attributes:
        y: Row, cells from the upper edge.
        x: Column, cells from the left edge.
        dy: Rows gained by a unit step forward.
        dx: Columns gained by it.
        road: Number of the road, int32, rising.
        kind: `Kind` of the road, uint8.
        position: Way from the road's first point, cells.
        density: How built-up the place is, 0 to 1.
        inward: Cosine of the angle between forward and the way to the centre.
    """

    y: Floats
    x: Floats
    dy: Floats
    dx: Floats
    road: NDArray[np.int32]
    kind: NDArray[np.uint8]
    position: Floats
    density: Floats
    inward: Floats


@dataclass(frozen=True, slots=True)
class _Line:
    """A road before it is bent: places `(P, 2)`, and which of them are built."""

    points: Floats
    kind: Kind
    built: NDArray[np.bool_]


def lay_roads(height: int, width: int, rng: np.random.Generator, style: CityStyle) -> Roads:
    """Draw the roads of a city on a grid of `height` x `width` cells."""
    land = Land(height, width, rng, style)
    lines = [*_trunks(land, rng, style), *_streets(land, rng, style)]
    lengths = [len(line.points) for line in lines]
    road = np.repeat(np.arange(len(lines), dtype=np.int32), lengths)
    kind = np.repeat(np.array([line.kind for line in lines], np.uint8), lengths)
    points = land.bend(np.concatenate([line.points for line in lines]))
    step, position = _way(points, road)
    keep = np.concatenate([line.built for line in lines]) & land.inside(points)
    points, step = points[keep], step[keep]
    row, column = points.astype(np.int64).T
    home = land.centre - points
    inward = (home * step).sum(-1) / np.maximum(np.hypot(*home.T), 1.0)
    return Roads(
        y=points[:, 0],
        x=points[:, 1],
        dy=step[:, 0],
        dx=step[:, 1],
        road=road[keep],
        kind=kind[keep],
        position=position[keep],
        density=land.density[row, column],
        inward=inward,
    )


def _way(points: Floats, road: NDArray[np.int32]) -> tuple[Floats, Floats]:
    """Return the unit steps `(P, 2)` of all roads, and the way `(P,)` from each road's start."""
    index = np.arange(len(points))
    after = np.minimum(index + 1, len(points) - 1)
    before = np.maximum(index - 1, 0)
    after = np.where(road[after] == road, after, index)
    before = np.where(road[before] == road, before, index)
    step = points[after] - points[before]
    step /= np.maximum(np.hypot(*step.T), 1e-9)[:, None]
    way = np.cumsum(np.hypot(*(points - points[before]).T))
    start = np.searchsorted(road, road)
    return step, way - way[start]


def _trunks(land: Land, rng: np.random.Generator, style: CityStyle) -> Iterator[_Line]:
    """Yield radials, rings and chords across the city."""
    turn = 2 * np.pi
    reach = float(land.size.mean())
    motorways = max(1, min(style.radials // 2, round(reach / 100)))
    first = rng.uniform(0.0, turn)
    for number in range(style.radials):
        angle = first + (number + rng.uniform(-0.25, 0.25)) * turn / style.radials
        bow, edge = rng.uniform(-0.35, 0.35), rng.uniform(0.5, 0.7)
        outside = Kind.MOTORWAY if number in range(0, 2 * motorways, 2) else Kind.ARTERIAL
        for low, high, kind in ((0.04, edge, Kind.ARTERIAL), (edge, 2.2, outside)):
            radii = np.linspace(low, high, 400)
            yield _around(land, angle + bow * radii, radii, kind)
    ring = min(0.65, 0.15 + reach / 800)  # the outer ring is a motorway in part
    for away, share in ((0.22, 1.0), (0.55, ring)):
        start, wobble = rng.uniform(0.0, turn), rng.uniform(0.0, turn)
        for low, high in ((0.0, share), (share, 1.0)):
            angles = start + turn * np.linspace(low, high, 800)
            radii = away * (1.0 + 0.1 * np.sin(2 * angles + wobble))
            kind = Kind.MOTORWAY if low == 0.0 and share < 1.0 else Kind.ARTERIAL
            yield _around(land, angles, radii, kind)
    for _ in range(max(2, round(reach / 22))):
        offset, angle = rng.uniform(-0.85, 0.85), rng.uniform(0.0, np.pi)
        ends = np.sort(rng.uniform(-1.8, 1.8, 2))
        along = np.linspace(float(ends[0]), float(ends[1]), 600)
        sideways = offset + rng.uniform(-0.15, 0.15) * np.cos(along * rng.uniform(1.0, 2.5))
        way = np.array([np.sin(angle), np.cos(angle)])
        side = np.array([way[1], -way[0]])
        points = land.centre + (along[:, None] * way + sideways[:, None] * side) * land.half
        yield _line(points, Kind.ARTERIAL if abs(offset) < 0.5 else Kind.COLLECTOR)


def _around(land: Land, angle: Floats, away: Floats, kind: Kind) -> _Line:
    ways = np.stack([np.sin(angle), np.cos(angle)], -1)
    return _line(land.centre + away[:, None] * ways * land.half, kind)


def _line(points: Floats, kind: Kind) -> _Line:
    """Return a line through `points`, with points of its own `STEP` apart."""
    way = np.append(0.0, np.cumsum(np.hypot(*np.diff(points, axis=0).T)))
    even = np.arange(0.0, way[-1] + STEP, STEP)
    points = np.stack([np.interp(even, way, points[:, axis]) for axis in (0, 1)], -1)
    return _Line(points, kind, np.ones(len(points), bool))


def _streets(land: Land, rng: np.random.Generator, style: CityStyle) -> Iterator[_Line]:
    """Yield the side streets and collectors: a grid of its own in every district."""
    count = max(3, round(float(land.size.prod()) / style.district_cells**2))
    middles = rng.uniform(0.0, 1.0, (count, 2)) * land.size
    district, reach = _districts(land, middles)
    for number, middle in enumerate(middles):
        turn = rng.uniform(0.0, np.pi / 2)
        for angle in (turn, turn + np.pi / 2):
            way = np.array([np.sin(angle), np.cos(angle)])
            side = np.array([way[1], -way[0]])
            gap, every = rng.uniform(*style.block_cells), int(rng.integers(3, 6))
            along = np.arange(-reach[number], reach[number] + STEP, STEP)[:, None]
            for rank in range(-int(reach[number] / gap), int(reach[number] / gap) + 1):
                kind = Kind.STREET if rank % every else Kind.COLLECTOR
                points = middle + along * way + rank * gap * side
                points = points[land.inside(points)]
                if len(points):
                    row, column = points.astype(np.int64).T
                    built = (district[row, column] == number) & _is_built(
                        land.density[row, column], land.open[row, column], kind, rng
                    )
                    yield _Line(points, kind, built)


def _districts(land: Land, middles: Floats) -> tuple[NDArray[np.int32], Floats]:
    """Return the nearest middle of every cell `(H, W)`, and how far its cells lie at most."""
    places = cell_middles(*land.density.shape)
    nearest = np.full(land.density.shape, np.inf)
    district = np.zeros(land.density.shape, np.int32)
    for number, middle in enumerate(middles):
        distance = ((places - middle) ** 2).sum(-1)
        closer = distance < nearest
        district[closer], nearest[closer] = number, distance[closer]
    reach = [nearest[district == number].max(initial=1.0) for number in range(len(middles))]
    return district, np.sqrt(reach)


def _is_built(
    density: Floats, is_open: NDArray[np.bool_], kind: Kind, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Return where a street is there: where it is built up, and not in water or a park."""
    block = (np.arange(len(density)) * STEP / BLOCK).astype(np.int64)
    blocks = int(block[-1]) + 1
    if kind is Kind.STREET:
        wanted = np.where(rng.random(blocks) < 0.1, np.inf, rng.uniform(0.03, 0.5, blocks))
        bridge = False
    else:
        wanted = np.full(blocks, rng.uniform(0.01, 0.3))
        bridge = bool(rng.random() < 0.3)
    return np.asarray((density > wanted[block]) & (bridge | ~is_open))
