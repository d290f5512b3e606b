"""Where each city is hard: error maps of the validation days."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from flows.config import RunConfig
from flows.models import build_models
from flows.recipe import Outcome, progress, publish_image, step
from flows.score import validation_source
from pipeline.editions import City
from pipeline.errors import CatalogError
from pipeline.maps.dataset import model_maps, open_maps, pair_maps, save_maps
from pipeline.maps.drawing import Painter
from pipeline.maps.scales import THEMES, Scales, common_scales
from pipeline.maps.streets import Line, read_streets
from pipeline.maps.sums import CitySums, sum_errors

if TYPE_CHECKING:
    import xarray as xr


def maps(config: RunConfig) -> Outcome:
    """Map the errors of the chosen models over every city, on one colour scale."""
    folder = config.out / "maps"
    made = [(city, save_city(config, map_city(config, city))) for city in config.chosen_cities()]
    scales = scales_of(config, [path for _, paths in made for path in paths])
    facts: dict[str, dict[str, str]] = {}
    pictures: list[Path] = []
    for city, paths in made:
        streets, credit = city_streets(config, city)
        for name in config.maps.themes:
            painter = Painter(THEMES[name], scales, streets, credit)
            ending = "" if name == "light" else f"_{name}"
            for path in paths:
                with open_maps(path) as found:
                    pictures += draw(painter, folder, path.stem, ending, found, config)
        for path in paths:
            picture = path.with_name(f"{path.stem}{_ending(config)}.png")
            facts[path.stem] = {"picture": str(picture), "data": str(path)}
            publish_image(f"error-map-{path.stem}", picture, f"Error map: {path.stem}")
    lines = [f"map: {picture}" for picture in pictures]
    chosen = {k: v for k, v in facts.items() if "_against_" not in k}
    return Outcome(
        [*lines, *(f"data: {fact['data']}" for fact in facts.values())],
        {
            "maps": chosen,
            "differences": {k: v for k, v in facts.items() if k not in chosen},
            "pictures": list(map(str, pictures)),
        },
    )


@step
def map_city(config: RunConfig, city: City) -> CitySums:
    """Sum the errors of the models, and of the baseline, over one city's windows."""
    source = validation_source(config, city)
    models = build_models(config, source.store, mapped_models(config))
    with progress(f"map {city.name}", len(source)) as tick:
        return sum_errors(source, models, progress=tick)


def save_city(config: RunConfig, sums: CitySums) -> list[Path]:
    """Write the maps of a city's models and pairs of models; return the files, models first."""
    folder, city, choice = config.out / "maps", sums.city.name, config.maps
    paths = [
        save_maps(folder / f"{city}_{in_a_name(name)}.nc", model_maps(sums, name, choice.baseline))
        for name in choice.models
    ]
    return paths + [
        save_maps(
            folder / f"{city}_{in_a_name(one)}_against_{in_a_name(other)}.nc",
            pair_maps(sums, one, other, choice.false_discovery),
        )
        for one, other in sums.pairs
    ]


def scales_of(config: RunConfig, paths: Sequence[Path]) -> Scales:
    """Return the scales that all maps share."""
    from contextlib import ExitStack

    with ExitStack() as stack:
        found = [stack.enter_context(open_maps(path)) for path in paths]
        models = [maps for maps in found if "mse" in maps]
        pairs = [maps for maps in found if "difference" in maps]
        return common_scales(models, pairs, errors=config.maps.scale)


def draw(
    painter: Painter, folder: Path, stem: str, ending: str, found: xr.Dataset, config: RunConfig
) -> Iterator[Path]:
    """Draw all pictures of one file of maps; yield them as they are done."""
    if "difference" in found:
        yield painter.difference(folder / f"{stem}{ending}.png", found)
        return
    yield painter.errors(folder / f"{stem}{ending}.png", found)
    yield painter.bias(folder / f"{stem}_bias{ending}.png", found)
    if "skill" in found and found.attrs["model"] != found.attrs["baseline"]:
        yield painter.skill(folder / f"{stem}_skill{ending}.png", found)
    yield painter.activity(folder / f"{stem}_activity{ending}.png", found)
    for axis in config.maps.parts:
        yield painter.parts(folder / f"{stem}_by_{axis}{ending}.png", found, axis)


def mapped_models(config: RunConfig) -> list[str]:
    """Return whose errors are summed: the baseline first, if there is one."""
    baseline = config.maps.baseline
    return list(dict.fromkeys([*([baseline] if baseline else []), *config.maps.models]))


def city_streets(config: RunConfig, city: City) -> tuple[list[Line], str]:
    """Return a city's street lines and whose they are; none where the catalogue's file is not.

    Raises:
        CatalogError: The file is there and holds no street lines.
    """
    streets = config.read_edition().streets
    if streets is None or not streets.path(city.name).is_file():
        return [], ""
    lines = read_streets(streets.path(city.name))
    if not lines:
        raise CatalogError(f"{streets.path(city.name)}: no line has two points")
    return lines, streets.credit


def in_a_name(model: str) -> str:
    """Return a model's name as part of a file's name: of a file, its stem."""
    return re.sub(r"[^A-Za-z0-9_@-]+", "-", Path(model).name.removesuffix(".safetensors"))


def _ending(config: RunConfig) -> str:
    first = config.maps.themes[0]
    return "" if first == "light" else f"_{first}"
