"""Verbs that make and look at data: draw, rasterise, ingest, rehearse, inspect, convert."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.command import DEMO, AsJson, Config, Overrides, app, finish, run

if TYPE_CHECKING:
    from flows.recipe import Outcome


@app.command()
def demo(config: Config = DEMO, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Draw a synthetic city, then ingest, train, score, submit, check and map it."""
    from flows.demo import demo as recipe

    run(recipe, config, overrides, as_json)


@app.command()
def synth(
    config: Config = DEMO,
    edition: Annotated[str | None, typer.Option(help="2020, 2021, 2021_extended, ...")] = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Draw a synthetic release: training and validation days, test files, and the truth."""
    from flows.synth import synth as recipe

    chosen = config if edition is None else Path(f"traffic4cast{edition}")
    run(recipe, chosen, overrides, as_json)


@app.command()
def realism(config: Config = DEMO, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Print how lifelike the synthetic city is beside the measured targets."""
    from flows.synth import realism as recipe

    run(recipe, config, overrides, as_json)


@app.command()
def rasterise(config: Config, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Turn GPS points into day files: a city of your own."""
    from flows.rasterise import rasterise as recipe

    run(recipe, config, overrides, as_json)


@app.command()
def ingest(
    config: Config = DEMO,
    overrides: Overrides = None,
    as_json: AsJson = False,
    verify: Annotated[bool, typer.Option(help="Compare checksums of every file.")] = False,
) -> None:
    """Bring the store up to date with the release."""
    from flows.ingest import ingest as recipe

    run(lambda read: recipe(read, verify=verify), config, overrides, as_json)


@app.command("ingest-video")
def ingest_video(
    config: Config,
    overrides: Overrides = None,
    as_json: AsJson = False,
    verify: Annotated[bool, typer.Option(help="Compare checksums of every picture.")] = False,
) -> None:
    """Cut the drives of a benchmark's videos into their stores."""

    def work() -> Outcome:
        from flows.benchmarking.config import BenchmarkConfig
        from flows.config import read_as
        from flows.ingest_video import ingest_video as recipe

        return recipe(read_as(BenchmarkConfig, config, overrides), verify=verify)

    finish(work, as_json)


@app.command("prepare-test")
def prepare_test(config: Config, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Cut a private test set and its truth from days whose future is known."""
    from flows.prepare_test import prepare_test as recipe

    run(recipe, config, overrides, as_json)


@app.command()
def inspect(
    file: Annotated[Path, typer.Argument(help="An HDF5 file of frames.")], as_json: AsJson = False
) -> None:
    """Say what a file of frames holds, after every check of the reader."""
    from flows.inspect import inspect as recipe

    finish(lambda: recipe(file), as_json)


@app.command()
def convert(
    file: Annotated[Path, typer.Argument(help="An HDF5 file of frames, 3, 8 or 9 channels.")],
    out: Annotated[Path, typer.Option("--out", help="The file to write.")],
    as_json: AsJson = False,
) -> None:
    """Turn frames of 2019 (volume, speed, heading) into volumes and speeds by heading, or back."""
    from flows.convert import convert as recipe

    finish(lambda: recipe(file, out), as_json)
