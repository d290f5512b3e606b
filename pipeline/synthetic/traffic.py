"""A day of a synthetic city: who is seen where, in which heading and how fast."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pipeline.editions import City, Edition
from pipeline.synthetic.clock import Course, day_course, local_clock
from pipeline.synthetic.movie import Movie
from pipeline.synthetic.roads import lay_roads
from pipeline.synthetic.seeds import generator
from pipeline.synthetic.streams import Streams, lay_streams
from pipeline.synthetic.style import DEFAULT_STYLE, CityStyle

FRAMES = 12
"""Frames drawn at a time: what is held at once is a few of them."""
RATE_MINUTES = 5.0

Singles = NDArray[np.float32]


def draw_day(
    edition: Edition,
    city: City,
    day: date,
    *,
    seed: int,
    style: CityStyle = DEFAULT_STYLE,
    dice: int = 0,
) -> Movie:
    """Draw one day of a city: a pure function of its arguments, in any order and any process.

    Bit for bit the same under one version of numpy on one kind of processor.

    Args:
        edition: Gives the grid and the files' clock.
        city: Gives the name, which is part of the seed, and the time people live by.
        day: Calendar day of the file.
        seed: 0 or more; another seed is another city.
        style: What the city is like.
        dice: Another number is the same day once more: the same roads, rates, drifts and jams, but
            other probes. Half the mean squared difference of two such days is the error that is
            left to a forecaster who knows everything but the dice.
    """
    streams = city_streams(edition, city, seed=seed, style=style)
    purpose = (city.name, edition.height, edition.width, "day", day.toordinal())
    weather = _weather(edition, city, day, streams, generator(seed, *purpose), style)
    rng = generator(seed, *purpose, "dice", dice)
    pieces = [
        _frames(start, streams, weather, rng, style)
        for start in range(0, edition.frames_per_day, FRAMES)
    ]
    frame, cell, heading, volume, speed = (np.concatenate(c) for c in zip(*pieces, strict=True))
    shape = (edition.frames_per_day, edition.height, edition.width)
    return Movie(shape, frame, cell, heading, volume, speed)


def city_streams(
    edition: Edition, city: City, *, seed: int, style: CityStyle = DEFAULT_STYLE
) -> Streams:
    """Return the streams of a city: the same on all its days."""
    size = (edition.height, edition.width)
    return _city_streams(city.name, size, city.rotated, seed, style)


@lru_cache(maxsize=4)
def _city_streams(
    name: str, size: tuple[int, int], rotated: bool, seed: int, style: CityStyle
) -> Streams:
    rng = generator(seed, name, *size, "map")
    return lay_streams(lay_roads(*size, rng, style), size, rng, style, rotated=rotated)


@dataclass(frozen=True, slots=True)
class _Weather:
    """What is fixed for a day before the dice fall.

    Attributes:
        course: Traffic of the day's kind by frame, scaled to the length of a frame.
        drift: `(T, R)` each road's departure from it, a factor.
        jam: `(T, J)` share of the speed lost to jams at every place that can jam.
        segment_jam: `(S,)` the place in `jam` that stands for a segment; the last is never jammed.
    """

    course: Course
    drift: Singles
    jam: Singles
    segment_jam: NDArray[np.int32]


def _weather(
    edition: Edition,
    city: City,
    day: date,
    streams: Streams,
    rng: np.random.Generator,
    style: CityStyle,
) -> _Weather:
    hours, weekdays = local_clock(edition, city, day)
    length = edition.bin_minutes / RATE_MINUTES
    course = day_course(hours, weekdays, rng, style)
    drift = _drift(len(hours), int(streams.road[-1]) + 1, edition.bin_minutes, rng, style)
    jam = _jams(course, edition.bin_minutes, streams.chains, rng, style)
    middle = (streams.first[:-1] + streams.first[1:]) // 2
    place = streams.jam_place[middle]
    scaled = Course(course.plateau * length, course.morning * length, course.evening * length)
    return _Weather(scaled, drift, jam, np.where(place < 0, jam.shape[1] - 1, place))


def _drift(
    frames: int, roads: int, minutes: int, rng: np.random.Generator, style: CityStyle
) -> Singles:
    """Return a first-order autoregression for every road, as a factor of mean about 1."""
    keep = np.exp(-minutes / style.drift_minutes)
    fresh = np.sqrt(1.0 - keep**2)
    drift = np.empty((frames, roads), np.float32)
    drift[0] = rng.standard_normal(roads, np.float32)
    for frame in range(1, frames):
        drift[frame] = keep * drift[frame - 1] + fresh * rng.standard_normal(roads, np.float32)
    of_day = style.road_day_variety * rng.standard_normal(roads, np.float32)
    spread = style.drift**2 + style.road_day_variety**2
    return np.exp(style.drift * drift + of_day - spread / 2).astype(np.float32)


def _jams(
    course: Course,
    minutes: int,
    chains: NDArray[np.int64],
    rng: np.random.Generator,
    style: CityStyle,
) -> Singles:
    """Return the depth `(T, J + 1)` of the jams: each moves up its road, grows and dissolves."""
    frames, places = len(course.plateau), int(chains[-1])
    jam = np.zeros((frames, places + 1), np.float32)
    demand = course.total**2
    count = rng.poisson(style.jams * places / 1000 * min(1.0, float(course.total.mean())))
    for _ in range(count):
        start = int(rng.choice(frames, p=demand / demand.sum()))
        life = max(2, round(rng.uniform(*style.jam_minutes) / minutes))
        head, half = float(rng.uniform(0, places)), rng.uniform(*style.jam_cells)
        depth = rng.uniform(*style.jam_depth)
        chain = int(np.searchsorted(chains, head, side="right")) - 1
        along = np.arange(chains[chain], chains[chain + 1])
        for frame in range(start, min(start + life, frames)):
            age = (frame - start + 0.5) / life
            middle = head - style.jam_drift * (frame - start) * minutes / RATE_MINUTES
            shape = np.exp(-(((along - middle) / half) ** 4))
            strength = depth * np.sin(np.pi * age) ** 0.5
            here = jam[frame, chains[chain] : chains[chain + 1]]
            np.maximum(here, strength * shape, out=here)
    return jam


def _frames(
    start: int, streams: Streams, weather: _Weather, rng: np.random.Generator, style: CityStyle
) -> tuple[NDArray[np.generic], ...]:
    """Return the columns of `Movie` for a few frames."""
    stop = min(start + FRAMES, len(weather.course.plateau))
    now = slice(start, stop)
    jam = weather.jam[now]
    busy = _demand(now, streams, weather, style)
    busy *= 1.0 + style.jam_crowding * jam[:, weather.segment_jam]
    most = np.maximum.reduceat(streams.rate, streams.first[:-1]) / np.float32(style.catch)
    # a trace passes when a waiting time falls below its rate: P = 1 - exp(-rate)
    frame, segment = np.nonzero(rng.standard_exponential(busy.shape, np.float32) < most * busy)
    busy_now = busy[frame, segment]

    cells = (streams.first[1:] - streams.first[:-1])[segment]
    trace = np.repeat(np.arange(len(segment)), cells)
    before = np.cumsum(cells) - cells
    stream = np.arange(len(trace)) + (streams.first[segment] - before)[trace]
    seen = -np.expm1(-streams.rate[stream] * busy_now[trace])
    passed = -np.expm1(-most[segment] * busy_now)
    kept = rng.random(len(trace), np.float32) * passed[trace] < seen
    trace, stream = trace[kept], stream[kept]

    shared = rng.standard_normal((2, len(segment)), np.float32)[:, trace]
    own = rng.standard_normal((2, len(trace)), np.float32)
    noise = np.sqrt(style.shared_noise) * shared + np.sqrt(1.0 - style.shared_noise) * own
    rush = np.minimum(busy_now / (1.0 + style.rush), 1.5) ** 2
    speed = streams.speed[stream] * (1.0 - style.congestion * streams.crowd[segment] * rush)[trace]
    speed *= 1.0 - jam[frame[trace], streams.jam_place[stream]]
    alone = 1.0 / (1.0 + streams.rate[stream])  # where many pass, a byte is a mean of many
    speed += style.speed_noise * np.sqrt(alone) * noise[0]
    crawl = rng.random(len(trace), np.float32) / (streams.stop[stream] * alone)
    speed *= np.minimum(crawl, 1.0)
    volume = np.exp(streams.volume[stream] + style.volume_noise * noise[1])
    return (
        (frame[trace] + start).astype(np.int16),
        streams.cell[stream],
        streams.heading[stream],
        np.clip(volume, 1, 255).astype(np.uint8),
        np.clip(np.rint(speed), 1, 255).astype(np.uint8),
    )


def _demand(now: slice, streams: Streams, weather: _Weather, style: CityStyle) -> Singles:
    """Return traffic `(T, S)` of every segment, as a share of its mean on a weekday."""
    one_way = style.tilt * streams.inward
    busy = weather.course.plateau[now, None].astype(np.float32)
    busy = busy + weather.course.morning[now, None].astype(np.float32) * (1.0 + one_way)
    busy += weather.course.evening[now, None].astype(np.float32) * (1.0 - one_way)
    return np.asarray(busy * weather.drift[now][:, streams.road], np.float32)
