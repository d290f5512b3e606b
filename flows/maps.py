"""Where each city is hard: error maps of the validation days."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flows.config import RunConfig
from flows.models import build_models
from flows.recipe import Outcome, progress, publish_image, step
from flows.score import validation_source
from pipeline.cluster import in_order
from pipeline.editions import City
from pipeline.error_curves import reliability
from pipeline.errors import CatalogError
from pipeline.maps.dataset import model_maps, open_maps, pair_maps, save_maps
from pipeline.maps.drawing import Painter
from pipeline.maps.scales import THEMES, Scales, ThemeName, common_scales
from pipeline.maps.streets import Line, read_streets
from pipeline.maps.sums import AXES, CitySums, sum_errors

KINDS = ("mse", "bias", "skill", "activity", "difference", *(f"by_{axis}" for axis in AXES))


@dataclass(slots=True, eq=False)
class CityMaps:
    """The maps of a city on disk.

    Attributes:
        city: Its name.
        models: netCDF files by model.
        pairs: netCDF files by two models, the second one being what the first is held against.
        reliable: What `reliability` returns, by model.
        streets: Lines to draw below.
        credit: Whose they are.
        pictures: PNG by netCDF file, kind and theme.
    """

    city: str
    models: dict[str, Path]
    pairs: dict[tuple[str, str], Path]
    reliable: dict[str, NDArray[np.float64]]
    streets: list[Line]
    credit: str
    pictures: dict[tuple[Path, str, ThemeName], Path] = field(default_factory=dict)


def maps(config: RunConfig) -> Outcome:
    """Map the errors of the chosen models over every city, on one colour scale."""
    kinds = {kind for kind in KINDS if not kind.startswith("by_")}
    kinds |= {f"by_{axis}" for axis in config.maps.parts}
    made = make_maps(config, config.maps.themes, kinds)
    first = config.maps.themes[0]
    facts: dict[str, dict[str, dict[str, str]]] = {"maps": {}, "differences": {}}
    for city in made:
        for where, what, paths in (
            ("maps", "mse", city.models.values()),
            ("differences", "difference", city.pairs.values()),
        ):
            for path in paths:
                picture = city.pictures[path, what, first]
                facts[where][path.stem] = {"picture": str(picture), "data": str(path)}
                publish_image(f"error-map-{path.stem}", picture, f"Error map: {path.stem}")
    pictures = [str(picture) for city in made for picture in city.pictures.values()]
    data = [fact["data"] for part in facts.values() for fact in part.values()]
    lines = [*(f"data: {path}" for path in data), *(f"map: {picture}" for picture in pictures)]
    return Outcome(lines, {**facts, "pictures": pictures})


def make_maps(
    config: RunConfig, themes: Sequence[ThemeName], kinds: Collection[str]
) -> list[CityMaps]:
    """Write the maps of every city, and draw some kinds of pictures, all on one scale."""
    made = [*in_order(map_and_save, jobs_of(config), workers=1, cluster=config.cluster)]
    scales = common(config, made)
    for city in made:
        for theme in themes:
            draw_city(city, theme, scales, kinds)
    return made


def jobs_of(config: RunConfig) -> list[tuple[Any, ...]]:
    """Return what to map: each city a job of its own, which asks no cluster itself."""
    alone = config.model_copy(update={"cluster": None})
    return [(alone, city) for city in config.chosen_cities()]


def map_and_save(config: RunConfig, city: City) -> CityMaps:
    """Write one city's maps, here or on a worker of a cluster; what is passed on is paths."""
    return save_city(config, map_city(config, city))


@step
def map_city(config: RunConfig, city: City) -> CitySums:
    """Sum the errors of the models, and of the baseline, over one city's windows."""
    source = validation_source(config, city)
    models = build_models(config, source.store, mapped_models(config))
    with progress(f"map {city.name}", len(source)) as tick:
        return sum_errors(source, models, progress=tick)


def mapped_models(config: RunConfig) -> list[str]:
    """Return whose errors are summed: the baseline first, if there is one."""
    baseline = config.maps.baseline
    return list(dict.fromkeys([*([baseline] if baseline else []), *config.maps.models]))


def save_city(config: RunConfig, sums: CitySums) -> CityMaps:
    """Write the maps of a city's models, and of every two of them."""
    choice, city = config.maps, sums.city.name
    stem = config.out / "maps" / in_a_name(city)
    models = {
        name: save_maps(
            stem.with_name(f"{stem.name}_{in_a_name(name)}.nc"),
            model_maps(sums, name, choice.baseline),
        )
        for name in choice.models
    }
    pairs = {
        (one, other): save_maps(
            stem.with_name(f"{stem.name}_{in_a_name(one)}_against_{in_a_name(other)}.nc"),
            pair_maps(sums, one, other, choice.false_discovery),
        )
        for one, other in sums.pairs
    }
    said = {name: reliability(one) for name, one in sums.models.items()}
    return CityMaps(city, models, pairs, said, *city_streets(config, sums.city))


def common(config: RunConfig, made: Sequence[CityMaps]) -> Scales:
    """Return the scales that the maps of all cities share."""
    with ExitStack() as stack:
        models, pairs = (
            [stack.enter_context(open_maps(path)) for path in paths]
            for paths in (
                [path for city in made for path in city.models.values()],
                [path for city in made for path in city.pairs.values()],
            )
        )
        return common_scales(models, pairs, errors=config.maps.scale)


def draw_city(city: CityMaps, theme: ThemeName, scales: Scales, kinds: Collection[str]) -> None:
    """Draw a city's maps beside their files, `_dark` behind the names of those on dark paper."""
    painter = Painter(THEMES[theme], scales, city.streets, city.credit)
    ending = "" if theme == "light" else f"_{theme}"
    for path in [*city.models.values(), *city.pairs.values()]:
        with open_maps(path) as found:
            for kind in (kind for kind in KINDS if kind in kinds and painter.knows(kind, found)):
                middle = "" if kind in {"mse", "difference"} else f"_{kind}"
                target = path.with_name(f"{path.stem}{middle}{ending}.png")
                city.pictures[path, kind, theme] = painter.draw(kind, target, found)


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
    return re.sub(r"[^\w@-]+", "-", Path(model).name.removesuffix(".safetensors"))
