"""Static maps of a synthetic city, in the layers of the edition."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.editions import City, Edition
from pipeline.static_maps import FINE
from pipeline.synthetic.seeds import generator
from pipeline.synthetic.style import CityStyle
from pipeline.synthetic.traffic import city_streams

NEIGHBOURS = {
    "N": (-1, 0),
    "NE": (-1, 1),
    "E": (0, 1),
    "SE": (1, 1),
    "S": (1, 0),
    "SW": (1, -1),
    "W": (0, -1),
    "NW": (-1, -1),
}
"""Rows and columns to a neighbour, where rows run from north to south."""
PLACES = 0.05
"""Share of road cells with a shop, a hospital, ... in the layers that count such places."""


def draw_static(edition: Edition, city: City, *, seed: int, style: CityStyle) -> NDArray[np.uint8]:
    """Return a static map: layers last as 2020's files, or first as those since.

    A layer `roads` is a grey map of road density; `connects_*` is 255 where a road goes on to that
    neighbour; any other counts places along the roads.
    """
    grey = road_density(edition, city, seed=seed, style=style)
    rng = generator(seed, city.name, edition.height, edition.width, "static")
    layers = [_layer(name, grey, rng) for name in edition.static_layers]
    return np.stack(layers, axis=0 if edition.layout.chunks == "row" else -1)


def draw_high_res(
    edition: Edition, city: City, *, seed: int, style: CityStyle
) -> NDArray[np.uint8]:
    """Return a street map `(10 H, 10 W)`: each road cell's middle, and the ways to others."""
    grey = road_density(edition, city, seed=seed, style=style)
    fine = np.zeros((FINE * edition.height, FINE * edition.width), np.uint8)
    middle = FINE // 2
    for dy, dx in NEIGHBOURS.values():
        rows, columns = np.nonzero(_connects(grey, dy, dx))
        for step in range(middle + 1):
            y, x = FINE * rows + middle + dy * step, FINE * columns + middle + dx * step
            inside = (y >= 0) & (y < fine.shape[0]) & (x >= 0) & (x < fine.shape[1])
            fine[y[inside], x[inside]] = 255
    return fine


def road_density(edition: Edition, city: City, *, seed: int, style: CityStyle) -> NDArray[np.uint8]:
    """Return how much road there is in each cell `(H, W)`; 0 where there is none."""
    streams = city_streams(edition, city, seed=seed, style=style)
    size = edition.height * edition.width
    rate = np.bincount(streams.cell, np.sqrt(streams.rate), size)
    grey = np.ceil(255 * rate / max(float(rate.max()), 1e-9)).clip(0, 255).astype(np.uint8)
    return grey.reshape(edition.height, edition.width)


def _layer(name: str, grey: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    if name == "roads":
        return grey
    if name.startswith("connects_"):
        return 255 * _connects(grey, *NEIGHBOURS[name.removeprefix("connects_")]).astype(np.uint8)
    found = np.zeros_like(grey)
    here = (grey > 0) & (rng.random(grey.shape) < PLACES)
    found[here] = rng.integers(1, 256, int(here.sum()))
    return found


def _connects(grey: NDArray[np.uint8], dy: int, dx: int) -> NDArray[np.bool_]:
    """Return the road cells `(H, W)` whose neighbour that way is one too."""
    road = np.pad(grey > 0, 1)
    there = np.roll(road, (-dy, -dx), axis=(0, 1))
    return np.asarray((road & there)[1:-1, 1:-1])
