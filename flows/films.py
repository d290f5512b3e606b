"""A film of one window: what was seen, what came, what was forecast, and by how much it was off."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from flows.config import RunConfig
from flows.maps import in_a_name
from flows.models import build_models, checked
from flows.recipe import Outcome, step
from pipeline.clock import local_minutes
from pipeline.editions import City
from pipeline.errors import ConfigError
from pipeline.films import FilmedWindow, film_frames, save_gif, save_mp4
from pipeline.layout import to_heatmap, to_model
from pipeline.sources.traffic import read_window
from pipeline.store import Store
from pipeline.windows import Window


def film(
    config: RunConfig,
    *,
    city: str | None = None,
    day: str | None = None,
    at: str = "17:00",
    model: str | None = None,
    channel: str | None = None,
    zoom: int = 2,
) -> Outcome:
    """Film a window of a validation or training day.

    Args:
        config: The run.
        city: Which; the run's first, if not given.
        day: As the release writes it; the first validation day, if not given.
        at: Local time of the first frame that is forecast, HH:MM.
        model: Whose forecast; the last of `maps.models`, if not given.
        channel: Which; `speed`, or the first one, if not given.
        zoom: Pixels for a cell.

    Raises:
        ConfigError: There is no such city, day, time, model or channel.
    """
    cities = {one.name: one for one in config.chosen_cities()}
    if city is not None and city not in cities:
        raise ConfigError(f"--city {city}: no such city; there are {[*cities]}")
    chosen = checked(config, [model or config.maps.models[-1]])[0]
    place = cities[city] if city is not None else next(iter(cities.values()))
    return film_window(config, place, day, at, chosen, channel, zoom)


@step
def film_window(
    config: RunConfig,
    city: City,
    day: str | None,
    at: str,
    model: str,
    channel: str | None,
    zoom: int,
) -> Outcome:
    """Forecast one window and write its film."""
    store = Store.open(config.store, config.read_edition(), city)
    edition = store.edition
    days = [*store.days("validation"), *store.days("training")]
    if day is None and days:
        day = days[0]
    if day is None or day not in days:
        raise ConfigError(f"--day {day}: {city.name} has {sorted(days)}")
    channels = edition.channels[: edition.forecast_channels]
    shown = channel or ("speed" if "speed" in channels else channels[0])
    if shown not in channels:
        raise ConfigError(f"--channel {shown}: no such channel; there are {list(channels)}")
    _, minute = local_minutes(edition, city, day)
    window = Window(city.name, day, _frame(at, minute), config.history, edition.leads)
    window = replace(window, start=window.start - window.history)
    if window.start < 0 or window.stop > edition.frames_per_day:
        raise ConfigError(
            f"--at {at}: leaves no room in {day} for {window.history} frames before it and "
            f"{edition.leads[-1] + 1} from it on"
        )
    frames = read_window(store, window)
    history = frames[: window.history]
    forecaster = build_models(config, store, [model])[model]
    said = to_heatmap(forecaster.forecast(to_model(history)[None], [window])[0])
    place = edition.channels.index(shown)
    steps = [*range(window.start, window.split), *window.future]
    times = [f"{minute[frame] // 60:02d}:{minute[frame] % 60:02d}" for frame in steps]
    filmed = FilmedWindow(
        f"{city.name} {day}, {model}, {shown}",
        upright(history[..., place], city),
        upright(frames[window.history :, ..., place], city),
        upright(said[..., place], city),
        times,
    )
    name = f"{in_a_name(city.name)}_{day}_{at.replace(':', '')}_{in_a_name(model)}_{shown}"
    path = config.out / "films" / f"{name}.gif"
    drawn = film_frames(filmed, zoom)
    made = [save_gif(path, drawn), save_mp4(path.with_suffix(".mp4"), drawn)]
    files = [str(file) for file in made if file is not None]
    lines = [f"film: {file}" for file in files]
    if made[1] is None:
        lines.append("no MP4: there is no ffmpeg")
    return Outcome(lines, {"films": files, "frames": len(drawn)})


def _frame(at: str, minute: NDArray[np.int64]) -> int:
    """Return the frame that a local time falls into."""
    if not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", at):
        raise ConfigError(f"--at {at}: expected HH:MM")
    wanted = int(at[:2]) * 60 + int(at[3:])
    away = (wanted - minute) % (24 * 60)
    return int(away.argmin())


def upright(frames: NDArray[np.uint8], city: City) -> NDArray[np.uint8]:
    """Return `(T, H, W)` with north up and west left; rotated cities are turned back."""
    return frames.transpose(0, 2, 1)[..., ::-1] if city.rotated else frames
