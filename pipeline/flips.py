"""Mirrored traffic: cells change places, and what drove north-east now drives another way.

A mirror is right for frames as they were measured. It cannot be right for a *mean* over heading
codes, as the 2019 editions have them: the code of a mean heading is not the mean of the codes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.context import OF_VALUES
from pipeline.editions import City, Edition
from pipeline.errors import ConfigError

Value = TypeVar("Value", bound=np.generic)
Axis = Literal["rows", "columns"]
AXES: tuple[Axis, ...] = ("rows", "columns")
CODED = "heading"
"""The channel that `Edition.headings` gives the codes of."""
COMPASS = re.compile(r"[NESW]{1,2}")
OF_A_HEADING = re.compile(r"(.*[_ -])(NE|NW|SE|SW|ne|nw|se|sw)")
SWAP_NORTH_SOUTH = str.maketrans("NSns", "SNsn")
SWAP_EAST_WEST = str.maketrans("EWew", "WEwe")


@dataclass(frozen=True, slots=True, eq=False)
class Mirror:
    """A flip of rows, columns or both, headings turned with it; its own inverse.

    Attributes:
        axes: What is reversed.
        order: Where each channel comes from, `(C,)`.
        coded: Place of the channel of heading codes, if there is one.
        codes: What each of its bytes becomes, `(256,)` uint8.
    """

    axes: tuple[Axis, ...]
    order: tuple[int, ...]
    coded: int | None
    codes: NDArray[np.uint8]

    def frames(self, frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return measured frames `(..., C, H, W)` uint8 mirrored."""
        mirrored = self.planes(frames, self.order)
        if self.coded is not None:
            mirrored[..., self.coded, :, :] = self.codes[mirrored[..., self.coded, :, :]]
        return mirrored

    def means(self, values: NDArray[np.floating]) -> NDArray[np.floating]:
        """Return means or forecasts `(..., C, H, W)` mirrored.

        Raises:
            ConfigError: A channel holds codes of headings, whose mean has no mirror image.
        """
        if self.coded is not None:
            raise ConfigError(
                "flips: a mean of heading codes cannot be mirrored; only measured frames can"
            )
        return self.planes(values, self.order)

    def planes(self, planes: NDArray[Value], order: Sequence[int]) -> NDArray[Value]:
        """Return planes `(..., S, H, W)` with cells, and planes by `order`, changed round."""
        turned = planes[..., list(order), :, :]
        rows = -1 if "rows" in self.axes else 1
        columns = -1 if "columns" in self.axes else 1
        return np.ascontiguousarray(turned[..., ::rows, ::columns])


def mirror(edition: Edition, city: City, axes: Sequence[Axis]) -> Mirror:
    """Return the mirror of a city's frames; a rotated city's rows run from east to west.

    Raises:
        ConfigError: The edition does not say what its headings are, or one has no counterpart.
    """
    turns = {
        "rows": SWAP_EAST_WEST if city.rotated else SWAP_NORTH_SOUTH,
        "columns": SWAP_NORTH_SOUTH if city.rotated else SWAP_EAST_WEST,
    }
    tables = [turns[axis] for axis in dict.fromkeys(axes)]
    coded = edition.channels.index(CODED) if CODED in edition.channels else None
    return Mirror(
        tuple(dict.fromkeys(axes)),
        tuple(_source(edition, place, tables) for place in range(len(edition.channels))),
        coded,
        _codes(edition, tables) if coded is not None else np.arange(256, dtype=np.uint8),
    )


def combined(axes: Sequence[Axis]) -> list[tuple[Axis, ...]]:
    """Return every way to reverse some of the axes, reversing none left out."""
    chosen = [axis for axis in AXES if axis in axes]
    return [some for count in (1, 2) for some in combinations(chosen, count)]


def forecast_mirrors(edition: Edition, city: City, axes: Sequence[Axis]) -> tuple[Mirror, ...]:
    """Return all mirrors of some axes that a forecast can be mirrored back by.

    Raises:
        ConfigError: The edition keeps headings as codes, or one has no counterpart.
    """
    if axes and CODED in edition.channels:
        raise ConfigError(
            f"forecasting.flips: {edition.name} keeps headings as codes, and a forecast is a mean "
            "of codes, which has no mirror image"
        )
    return tuple(mirror(edition, city, some) for some in combined(axes))


def check_flips(edition: Edition, base: str, inputs: Sequence[str]) -> None:
    """Refuse flips in a training that also looks at means over heading codes.

    Args:
        edition: What the frames are.
        base: What the network corrects: "none", "window_mean", "climatology" or "mix".
        inputs: Names of its extra planes.

    Raises:
        ConfigError: The means cannot be mirrored, or the edition's headings are not told.
    """
    for city in edition.cities:
        for axis in AXES:
            mirror(edition, city, (axis,))
    means = [f"base {base}"] if base in {"climatology", "mix"} else []
    means += [f"input {name}" for name in inputs if name in OF_VALUES]
    if CODED in edition.channels and means:
        raise ConfigError(
            f"flips: {edition.name} keeps headings as codes, and {' and '.join(means)} are means "
            "of codes, which have no mirror image; train without flips, or with base none or "
            "window_mean and without these inputs"
        )


def _source(edition: Edition, place: int, tables: Sequence[dict[int, int]]) -> int:
    """Return which channel a mirrored channel comes from."""
    name = edition.channels[place]
    split = OF_A_HEADING.fullmatch(name)
    if not split:
        return place
    wanted = split[1] + _turned(split[2], tables)
    if wanted not in edition.channels:
        raise ConfigError(f"flips: {edition.name} has a channel {name}, but no {wanted}")
    return edition.channels.index(wanted)


def _codes(edition: Edition, tables: Sequence[dict[int, int]]) -> NDArray[np.uint8]:
    """Return what each byte of the heading channel becomes; bytes that are no code stay."""
    code_of = {name: code for code, name in edition.headings.items() if COMPASS.fullmatch(name)}
    if not code_of:
        raise ConfigError(f"flips: {edition.name} does not say what its heading codes mean")
    codes = np.arange(256, dtype=np.uint8)
    for name, code in code_of.items():
        wanted = _turned(name, tables)
        if wanted not in code_of:
            raise ConfigError(f"flips: {edition.name} has a heading {name}, but no {wanted}")
        codes[code] = code_of[wanted]
    return codes


def _turned(heading: str, tables: Sequence[dict[int, int]]) -> str:
    for table in tables:
        heading = heading.translate(table)
    return heading
