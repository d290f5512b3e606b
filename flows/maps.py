"""Where each city is hard: error maps of the validation days."""

from __future__ import annotations

from flows.config import RunConfig
from flows.models import build_models
from flows.recipe import Outcome, progress, publish_image, step
from flows.score import validation_source
from pipeline.editions import City
from pipeline.error_maps import ErrorMap, draw_maps, map_errors, save_map


def maps(config: RunConfig) -> Outcome:
    """Map the errors of the chosen models over every city, on one colour scale."""
    made = [one for city in config.chosen_cities() for one in map_city(config, city)]
    folder = config.out / "maps"
    pictures = draw_maps(folder, made)
    for errors in made:
        save_map(folder / f"{errors.grid.city.name}_{errors.model}.nc", errors)
    for picture in pictures:
        publish_image(f"error-map-{picture.stem}", picture, f"Error map: {picture.stem}")
    facts = {
        picture.stem: {"picture": str(picture), "data": str(picture.with_suffix(".nc"))}
        for picture in pictures
    }
    return Outcome([f"map: {picture}" for picture in pictures], {"maps": facts})


@step
def map_city(config: RunConfig, city: City) -> list[ErrorMap]:
    """Map the errors of one city, a map a model."""
    source = validation_source(config, city)
    models = build_models(config, source.store, config.maps.models)
    with progress(f"map {city.name}", len(models) * len(source)) as tick:
        return [map_errors(source, model, name, progress=tick) for name, model in models.items()]
