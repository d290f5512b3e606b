"""Verbs to look at forecasts: films, the report, and the blind study."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.command import DEMO, AsJson, Config, Overrides, app, finish, run

study = typer.Typer(
    help="A blind study: can a person tell truth from forecast?", no_args_is_help=True
)
app.add_typer(study, name="study")


@app.command()
def report(config: Config = DEMO, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Write one page: the ladder, the maps, where it fails, how it was made."""
    from flows.report import report as recipe

    run(recipe, config, overrides, as_json)


@app.command()
def film(
    config: Config = DEMO,
    city: Annotated[str | None, typer.Option(help="The run's first, if not given.")] = None,
    day: Annotated[str | None, typer.Option(help="The first validation day, if none.")] = None,
    at: Annotated[str, typer.Option(help="Local time of the first frame forecast.")] = "17:00",
    model: Annotated[str | None, typer.Option(help="The last of maps.models, if none.")] = None,
    channel: Annotated[str | None, typer.Option(help="speed, or the first, if none.")] = None,
    zoom: Annotated[int, typer.Option(min=1, max=8, help="Pixels for a cell.")] = 2,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Film one window: input, truth, forecast and error; GIF, and MP4 where ffmpeg is."""
    from flows.films import film as recipe

    run(
        lambda read: recipe(
            read, city=city, day=day, at=at, model=model, channel=channel, zoom=zoom
        ),
        config,
        overrides,
        as_json,
    )


@study.command("make")
def make_study(
    config: Config = DEMO,
    model: Annotated[
        list[str] | None,
        typer.Option("--model", help="Whose forecasts; those of the maps, if none."),
    ] = None,
    pairs: Annotated[int, typer.Option(min=1, max=1000, help="Of each model.")] = 20,
    seed: Annotated[int, typer.Option(min=0, help="Of what is drawn, and of the sides.")] = 0,
    channel: Annotated[str | None, typer.Option(help="speed, or the first, if none.")] = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Write the page for judges, and apart from it the key."""
    from flows.study import make

    finish(
        lambda: make(
            config, overrides, models=model or (), pairs=pairs, seed=seed, channel=channel
        ),
        as_json,
    )


@study.command("score")
def score_study(
    config: Config,
    answers: Annotated[list[Path], typer.Argument(help="Judges' files.")],
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Say how often the judges found the truth."""
    from flows.study import score

    finish(lambda: score(config, overrides, answers), as_json)
