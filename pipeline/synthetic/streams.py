"""From roads to streams: the traffic of one cell in one heading, its rate and its speed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.synthetic.headings import HEADINGS, bearing, heading_shares, normal_quantile
from pipeline.synthetic.land import Floats
from pipeline.synthetic.roads import Roads
from pipeline.synthetic.style import CityStyle, Kind

Whole = NDArray[np.int64]
FORWARD, BACKWARD = 0, 1
"""The two carriageways of a road."""
HARDSHIP = (0.5, 0.8, 1.0, 0.9)
"""How much a road suffers from rush hours, by kind."""


@dataclass(frozen=True, slots=True)
class Streams:
    """The streams `(N,)` of a city, ordered by the segment they belong to.

    A segment is a few cells in a row of one carriageway in one heading: whoever passes is seen in
    several of them.

    Attributes:
        cell: Row times width plus column, int32; no pair of cell and heading is given twice.
        heading: Index into `HEADINGS`, uint8.
        rate: Expected sightings in five minutes of a mean weekday, float32.
        speed: Free speed, bytes, float32.
        stop: Share of sightings that stand or crawl, float32.
        volume: Log volume of a sighting, float32.
        jam_place: Place along the carriageways that can jam, -1 for none, int32.
        first: `(S + 1,)`: segment `s` holds the streams from `first[s]` to `first[s + 1]`, int64.
        road: `(S,)` number of the segment's road, int32, rising from 0 without a gap.
        backward: `(S,)` whether it is the road's second carriageway, bool.
        inward: `(S,)` cosine between its way and the way to the centre, float32.
        crowd: `(S,)` how much it suffers from rush hours, 0 to 1, float32.
        chains: `(J + 1,)` first place of every carriageway that can jam, then their end, int64.
    """

    cell: NDArray[np.int32]
    heading: NDArray[np.uint8]
    rate: NDArray[np.float32]
    speed: NDArray[np.float32]
    stop: NDArray[np.float32]
    volume: NDArray[np.float32]
    jam_place: NDArray[np.int32]
    first: Whole
    road: NDArray[np.int32]
    backward: NDArray[np.bool_]
    inward: NDArray[np.float32]
    crowd: NDArray[np.float32]
    chains: Whole


@dataclass(frozen=True, slots=True)
class _Claims:
    """Roads' claims `(M,)` on pairs of cell and heading: which point, which way, how strong."""

    point: Whole
    backward: Whole
    heading: Whole
    cell: Whole
    score: Floats

    def take(self, index: Whole) -> _Claims:
        return _Claims(
            self.point[index],
            self.backward[index],
            self.heading[index],
            self.cell[index],
            self.score[index],
        )


def lay_streams(
    roads: Roads,
    size: tuple[int, int],
    rng: np.random.Generator,
    style: CityStyle,
    *,
    rotated: bool = False,
) -> Streams:
    """Put traffic on the roads of a city.

    Rates go by rank: whatever the map, the streams of a city spread over the same distribution.

    Args:
        roads: The map.
        size: Rows and columns.
        rng: Source of chance.
        style: What the city is like.
        rotated: Row 0 is the east edge and column 0 the north edge.
    """
    claims = _strongest(_claims(roads, size, rng, style, rotated))
    score = claims.score + rng.normal(0.0, style.cell_variety, len(claims.score))
    room = style.stream_share * size[0] * size[1] * len(HEADINGS)
    busiest = np.argsort(-score, kind="stable")[: int(room)]
    above = 1.0 - (np.arange(len(busiest), dtype=np.float64) + 0.5) / room
    log_rate = float(np.log(style.rate_median)) + style.rate_spread * normal_quantile(above)
    log_rate -= np.log1p(np.exp(log_rate) / style.rate_limit)

    claims = claims.take(busiest)
    road, way = roads.road[claims.point], roads.position[claims.point]
    piece = (way / style.trace_cells).astype(np.int64)
    order = np.lexsort((way, piece, claims.heading, claims.backward, road))
    claims, log_rate, road, way = claims.take(order), log_rate[order], road[order], way[order]
    keys = (piece[order], claims.heading, claims.backward, road)
    starts = np.flatnonzero(np.any([np.diff(key, prepend=-1) != 0 for key in keys], 0))

    kind = roads.kind[claims.point]
    volume = style.volume_scale + style.volume_by_rate * log_rate
    volume += rng.normal(0.0, style.volume_variety, len(volume))
    jam_place, chains = _chains(road, kind, claims.backward, way)
    begin, backward = claims.point[starts], claims.backward[starts] == BACKWARD
    return Streams(
        cell=claims.cell.astype(np.int32),
        heading=claims.heading.astype(np.uint8),
        rate=np.exp(log_rate).astype(np.float32),
        speed=_speed(road, kind, log_rate, rng, style).astype(np.float32),
        stop=np.take(style.stop_share, kind).astype(np.float32),
        volume=volume.astype(np.float32),
        jam_place=jam_place,
        first=np.append(starts, len(road)),
        road=np.unique(road[starts], return_inverse=True)[1].astype(np.int32),
        backward=backward,
        inward=(roads.inward[begin] * np.where(backward, -1.0, 1.0)).astype(np.float32),
        crowd=(roads.density[begin] ** 0.5 * np.take(HARDSHIP, kind[starts])).astype(np.float32),
        chains=chains,
    )


def _claims(
    roads: Roads, size: tuple[int, int], rng: np.random.Generator, style: CityStyle, rotated: bool
) -> _Claims:
    """Return all that may become a stream; the score is a log flow."""
    of_road = rng.standard_normal(int(roads.road.max()) + 1)[roads.road]
    flow = np.take(style.importance, roads.kind) + style.central_importance * roads.density
    flow += np.take(style.road_variety, roads.kind) * of_road
    gap = np.take(style.carriageway_gap, roads.kind)
    found = []
    for side, sign in ((FORWARD, 1.0), (BACKWARD, -1.0)):
        dy, dx = sign * roads.dy, sign * roads.dx
        bearings = bearing(dy, dx, rotated=rotated)
        shares = heading_shares(bearings, style.heading_spread, style.heading_floor)
        for beside, loss in ((0, 0.0), (1, style.flank), (-1, style.flank)):
            away = gap + beside * style.flank_cells
            # people keep right: of (dy, dx), where rows run downwards, that is (dx, -dy)
            row = np.floor(roads.y + dx * away).astype(np.int64)
            column = np.floor(roads.x - dy * away).astype(np.int64)
            on_grid = (row >= 0) & (row < size[0]) & (column >= 0) & (column < size[1])
            point = np.flatnonzero(on_grid)
            cell = row[point] * size[1] + column[point]
            for heading in range(len(HEADINGS)):
                score = flow[point] + np.log(shares[point, heading]) + loss
                same = np.full(len(point), side), np.full(len(point), heading)
                found.append((point, *same, cell, score))
    return _Claims(*(np.concatenate(column) for column in zip(*found, strict=True)))


def _strongest(claims: _Claims) -> _Claims:
    """Return the strongest claim on each pair of cell and heading; of equals, the first."""
    key = claims.cell * len(HEADINGS) + claims.heading
    best = np.full(int(key.max()) + 1, -np.inf)
    np.maximum.at(best, key, claims.score)
    winner = np.flatnonzero(claims.score == best[key])
    return claims.take(winner[np.unique(key[winner], return_index=True)[1]])


def _chains(
    road: NDArray[np.int32], kind: NDArray[np.uint8], backward: Whole, way: Floats
) -> tuple[NDArray[np.int32], Whole]:
    """Return each stream's place along the carriageways that can jam, and where those start.

    Places are counted in the direction of travel, a cell each.
    """
    chain = np.where(kind >= Kind.ARTERIAL, road * 2 + backward, -1)
    place = np.full(len(road), -1, np.int32)
    starts, end = [], 0
    for number in np.unique(chain[chain >= 0]):
        mine = np.flatnonzero(chain == number)
        along = -way[mine] if number % 2 == BACKWARD else way[mine]
        starts.append(end)
        place[mine] = end + (along - along.min()).astype(np.int32)
        end = int(place[mine].max()) + 1
    return place, np.array([*starts, end])


def _speed(
    road: NDArray[np.int32],
    kind: NDArray[np.uint8],
    log_rate: Floats,
    rng: np.random.Generator,
    style: CityStyle,
) -> Floats:
    """Return the free speed of every stream, bytes."""
    of_road = np.zeros(int(road.max()) + 1)
    for each in Kind:  # by rank: the same spread in a city of few roads as in one of many
        mine, first, cells = np.unique(road[kind == each], return_inverse=True, return_counts=True)
        traffic = np.bincount(first, log_rate[kind == each]) / cells
        fast = style.fast_roads * _scores(traffic)
        fast += np.sqrt(1.0 - style.fast_roads**2) * rng.standard_normal(len(mine))
        of_road[mine] = _scores(fast)
    speed = np.log(style.speed)[kind] + np.take(style.speed_variety, kind) * of_road[road]
    speed += rng.normal(0.0, style.cell_speed_variety, len(kind))
    return np.asarray(np.exp(speed + style.busy_speed * (log_rate + 1.0)))


def _scores(values: Floats) -> Floats:
    """Return the normal quantiles of the ranks of values `(N,)`."""
    rank = np.argsort(np.argsort(values, kind="stable"), kind="stable").astype(np.float64)
    return normal_quantile((rank + 0.5) / max(1, len(values)))
