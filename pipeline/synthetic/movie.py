"""A day by heading, and its two encodings: three channels as in 2019, eight as since 2020."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.editions import Edition
from pipeline.errors import CatalogError
from pipeline.headings import HEADING_CODES, HEADINGS, TIE_ORDER

CHANNELS_2019 = ("volume", "speed", "heading")
CHANNELS_2020 = tuple(f"{what}_{way}" for way in HEADINGS for what in ("volume", "speed"))
INCIDENTS = "incidents"
CHANNELS_2020_NINE = (*CHANNELS_2020, INCIDENTS)
_FRAMES = 12


@dataclass(frozen=True, slots=True)
class Movie:
    """What the probes of one city's day showed, `(E,)`; cells without a sighting are left out.

    Attributes:
        shape: `(T, H, W)`: frames, rows, columns.
        frame: Frame, int16, rising.
        cell: Row times width plus column, int32.
        heading: Index into `HEADINGS`, uint8; no triple of frame, cell and heading is given twice.
        volume: Normalised count, 1 to 255, uint8.
        speed: 1 to 255, where 255 is 120 km/h, uint8.
        by_heading: False when it was read from three channels, where a cell shows one heading.
    """

    shape: tuple[int, int, int]
    frame: NDArray[np.int16]
    cell: NDArray[np.int32]
    heading: NDArray[np.uint8]
    volume: NDArray[np.uint8]
    speed: NDArray[np.uint8]
    by_heading: bool = True


def encode(movie: Movie, edition: Edition) -> NDArray[np.uint8]:
    """Return a day `(T, H, W, C)` in the channels of an edition; incidents are left empty.

    Raises:
        CatalogError: The edition's channels are neither those of 2019 nor those of 2020.
    """
    check_channels(edition)
    if edition.channels != CHANNELS_2019:
        return encode_2020(movie, len(edition.channels))
    return encode_2019(movie, heading_codes(edition))


def check_channels(edition: Edition) -> None:
    """Raise a CatalogError unless `encode` can draw the channels of an edition."""
    if edition.channels not in (CHANNELS_2019, CHANNELS_2020, CHANNELS_2020_NINE):
        raise CatalogError(
            f"{edition.name}: no synthetic city has channels {list(edition.channels)}, "
            f"expected {list(CHANNELS_2019)} or {list(CHANNELS_2020)}"
        )


def heading_codes(edition: Edition) -> dict[str, int]:
    """Return the byte of each heading in an edition's `heading` channel.

    Raises:
        CatalogError: The edition gives codes, but not one for every heading.
    """
    codes = {way: code for code, way in edition.headings.items() if way in HEADINGS}
    if edition.headings and len(codes) < len(HEADINGS):
        raise CatalogError(
            f"{edition.name}: headings {edition.headings}, expected a code for each of {HEADINGS}"
        )
    return codes or dict(HEADING_CODES)


def encode_2019(movie: Movie, codes: Mapping[str, int] = HEADING_CODES) -> NDArray[np.uint8]:
    """Return a day `(T, H, W, 3)`: volume, speed, heading of all probes of a cell together.

    Volumes are added and capped at 255; the speed is their weighted mean, rounded; the heading is
    that of the largest volume, ties in `TIE_ORDER`.
    """
    frames = np.zeros((*movie.shape, len(CHANNELS_2019)), np.uint8)
    area = movie.shape[1] * movie.shape[2]
    for start, stop, events in _blocks(movie):
        key = (movie.frame[events] - np.int64(start)) * area + movie.cell[events]
        volume = movie.volume[events].astype(np.int64)
        count = (stop - start) * area
        total = np.bincount(key, volume, count)
        place = np.flatnonzero(total)
        travelled = np.bincount(key, volume * movie.speed[events], count)[place]
        total = total[place]
        index = np.zeros(count, np.int32)
        index[place] = np.arange(len(place), dtype=np.int32)
        code, most = np.zeros(len(place), np.uint8), np.zeros(len(place), np.int64)
        for way in TIE_ORDER:
            mine = movie.heading[events] == HEADINGS.index(way)
            here = np.zeros(len(place), np.int64)
            here[index[key[mine]]] = volume[mine]
            code[here > most] = codes[way]
            most = np.maximum(most, here)
        block = frames[start:stop].reshape(count, len(CHANNELS_2019))
        block[place, 0] = np.minimum(total, 255)
        block[place, 1] = np.rint(travelled / total)
        block[place, 2] = code
    return frames


def encode_2020(movie: Movie, channels: int = len(CHANNELS_2020)) -> NDArray[np.uint8]:
    """Return a day `(T, H, W, 8)`: volume and speed of each heading in the order of `HEADINGS`.

    More channels than eight follow them, empty.
    """
    frames = np.zeros((*movie.shape, channels), np.uint8)
    flat = frames.reshape(-1, channels)
    key = movie.frame.astype(np.int64) * (movie.shape[1] * movie.shape[2]) + movie.cell
    flat[key, 2 * movie.heading] = movie.volume
    flat[key, 2 * movie.heading + 1] = movie.speed
    return frames


def decode(frames: NDArray[np.uint8], edition: Edition) -> Movie:
    """Return the movie that frames `(T, H, W, C)` of an edition show.

    Exact for eight channels. Three channels tell one heading of a cell and keep the others' volume
    under it. Cells without volume are left out, and a speed of 0 becomes 1.

    Raises:
        CatalogError: The edition's channels are neither those of 2019 nor those of 2020, or the
            heading channel holds a byte without a meaning.
    """
    check_channels(edition)
    size = (frames.shape[0], frames.shape[1], frames.shape[2])
    flat = frames.reshape(size[0], size[1] * size[2], frames.shape[3])
    if edition.channels != CHANNELS_2019:
        frame, cell, heading = np.nonzero(flat[..., 0 : len(CHANNELS_2020) : 2])
        volume, speed = flat[frame, cell, 2 * heading], flat[frame, cell, 2 * heading + 1]
    else:
        frame, cell = np.nonzero(flat[..., 0])
        volume, speed, code = np.moveaxis(flat[frame, cell], -1, 0)
        heading = _headings(code, edition)
    return Movie(
        size,
        frame.astype(np.int16),
        cell.astype(np.int32),
        heading.astype(np.uint8),
        volume,
        np.maximum(speed, 1).astype(np.uint8),
        by_heading=edition.channels != CHANNELS_2019,
    )


def _headings(code: NDArray[np.uint8], edition: Edition) -> NDArray[np.intp]:
    codes = heading_codes(edition)
    known: Sequence[int] = [codes[way] for way in HEADINGS]
    unknown = np.setdiff1d(code, known)
    if len(unknown):
        raise CatalogError(
            f"{edition.name}: heading bytes {unknown[:10].tolist()} where there is volume, "
            f"expected {sorted(known)}"
        )
    table = np.zeros(256, np.intp)
    table[known] = np.arange(len(known))
    return table[code]


def _blocks(movie: Movie) -> Iterator[tuple[int, int, slice]]:
    """Yield first frame, end and events of a few frames at a time: memory stays small."""
    for start in range(0, movie.shape[0], _FRAMES):
        stop = min(start + _FRAMES, movie.shape[0])
        first, end = np.searchsorted(movie.frame, (start, stop))
        yield start, stop, slice(int(first), int(end))
