"""A blind study of any benchmark: pairs of truth and forecast, and what judges made of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from flows.config import RunConfig, read_as, read_config, shipped
from flows.films import upright
from flows.models import build_models, checked
from flows.recipe import Outcome, progress, step
from flows.score import validation_source
from pipeline.atomic import write_json
from pipeline.editions import City
from pipeline.errors import ConfigError, StudyError
from pipeline.layout import to_heatmap, to_model
from pipeline.study.judging import judge
from pipeline.study.pairs import Pair, make_study, read_key
from pipeline.yaml_files import read_yaml


def make(
    path: Path,
    overrides: list[str] | None,
    *,
    models: Sequence[str] = (),
    pairs: int = 20,
    seed: int = 0,
    channel: str | None = None,
) -> Outcome:
    """Write the page for judges and, apart, the key.

    Args:
        path: A run's YAML file, or a benchmark's.
        overrides: Of its values.
        models: Whose forecasts; `maps.models` of a run, all trained ones of a benchmark, if none.
        pairs: Of each model, over all cities.
        seed: Of what is drawn, in which order and on which sides.
        channel: Of a city; `speed`, or the first one, if not given.

    Raises:
        ConfigError: There is no such model or channel.
        StudyError: There are fewer windows or sequences than pairs.
    """
    if _is_run(path, overrides):
        config = read_config(path, overrides)
        chosen = checked(config, models or config.maps.models)
        cities = config.chosen_cities()
        shares = [len(part) for part in np.array_split(np.arange(pairs), len(cities))]
        asked = [
            pair
            for place, (city, count) in enumerate(zip(cities, shares, strict=True))
            for pair in city_pairs(config, city, chosen, count, seed + place, channel)
        ]
        title, out = config.read_edition().title, config.out
    else:
        from flows.benchmarking.config import BenchmarkConfig
        from flows.benchmarking.study import sequence_pairs

        benchmark = read_as(BenchmarkConfig, path, overrides)
        asked = sequence_pairs(benchmark, models, pairs, seed)
        title, out = benchmark.title, benchmark.out
    page, key = make_study(out / "study", f"Which is real? {title}", asked, seed)
    size = page.stat().st_size
    return Outcome(
        [
            f"page for judges: {page} ({len(asked)} pairs, {size / 1e6:.1f} MB)",
            f"key, not for judges: {key}",
        ],
        {"page": str(page), "key": str(key), "pairs": len(asked), "bytes": size},
    )


def score(path: Path, overrides: list[str] | None, answers: Sequence[Path]) -> Outcome:
    """Say how often judges found the truth, per model and per judge.

    Args:
        path: The configuration that the study was made with.
        overrides: Of its values.
        answers: The judges' files.
    """
    if _is_run(path, overrides):
        out = read_config(path, overrides).out
    else:
        from flows.benchmarking.config import BenchmarkConfig

        out = read_as(BenchmarkConfig, path, overrides).out
    found = judge(read_key(out / "study" / "key.json"), answers)
    facts = {
        "models": found.models.to_dict("index"),
        "judges": found.judges.to_dict("index"),
        "warnings": found.warnings,
    }
    write_json(out / "study" / "result.json", facts)
    digits = "{:.3f}".format
    return Outcome(
        [
            "how often the truth was found (0.5 is guessing), with exact 95 % intervals:",
            *found.models.to_string(float_format=digits).splitlines(),
            "by judge:",
            *found.judges.to_string(float_format=digits).splitlines(),
            *(f"warning: {warning}" for warning in found.warnings),
        ],
        facts,
    )


@step
def city_pairs(
    config: RunConfig,
    city: City,
    names: Sequence[str],
    count: int,
    seed: int,
    channel: str | None,
) -> list[Pair]:
    """Return pairs of a city's validation windows, drawn anew for each model."""
    source = validation_source(config, city)
    edition = source.store.edition
    channels = edition.channels[: edition.forecast_channels]
    shown = channel or ("speed" if "speed" in channels else channels[0])
    if shown not in channels:
        raise ConfigError(f"--channel {shown}: no such channel; there are {list(channels)}")
    place = edition.channels.index(shown)
    if count > len(source):
        raise StudyError(f"{count} pairs, but {city.name} has {len(source)} windows")
    rng = np.random.default_rng(seed)
    pairs = []
    models = build_models(config, source.store, names)
    with progress(f"pairs of {city.name}", count * len(models)) as tick:
        for name, model in models.items():
            for index in sorted(rng.choice(len(source), count, replace=False)):
                clip = source[int(index)]
                history = to_model(np.moveaxis(clip.history, -3, -1))[None]
                said = to_heatmap(model.forecast(history, [clip.where])[0])[..., place]
                movies = (clip.history[:, place], clip.future[:, place], said)
                window = f"{city.name} {clip.where.day} {clip.where.split}"
                pairs.append(Pair(name, window, *(upright(movie, city) for movie in movies)))
                tick(name)
    return pairs


def _is_run(path: Path, overrides: list[str] | None) -> bool:
    """Return whether a file is a run of cities, and not a benchmark of sequences."""
    found = read_yaml(shipped(path), ConfigError)
    return "edition" in found or any((o or "").startswith("edition=") for o in overrides or ())
