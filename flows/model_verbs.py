"""Verbs that make and judge forecasts: train, compare, score, detect, submit, check."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.command import DEMO, AsJson, Config, Overrides, SubmissionArgument, app, finish, run

if TYPE_CHECKING:
    from flows.recipe import Outcome


@app.command()
def train(
    config: Config = DEMO,
    model: Annotated[
        list[str] | None, typer.Option("--model", help="One of the run's models; all, if none.")
    ] = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Train the run's networks, from where each was left."""
    from flows.train import train as recipe

    run(lambda read: recipe(read, models=model or ()), config, overrides, as_json)


@app.command()
def promote(config: Config = DEMO, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Train a network on the days there are; put it in use if it beats the one that is."""
    from flows.promotion import promote as recipe

    run(recipe, config, overrides, as_json)


@app.command()
def compare(config: Config, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Train models with equal budgets and score them on the same windows."""
    from flows.compare import compare as recipe

    run(recipe, config, overrides, as_json)


@app.command()
def benchmark(
    config: Config,
    model: Annotated[
        list[str] | None, typer.Option("--model", help="One of its models; all, if none.")
    ] = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Train and score models on Moving MNIST or videos, beside the paper's figures."""

    def work() -> Outcome:
        from flows.benchmark import benchmark as recipe
        from flows.benchmarking.config import BenchmarkConfig
        from flows.config import read_as

        return recipe(read_as(BenchmarkConfig, config, overrides), models=model or ())

    finish(work, as_json)


@app.command()
def score(
    config: Config = DEMO,
    submission: SubmissionArgument = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Score the ladder on validation windows, or a submission on the truth."""
    from flows.score import score as recipe

    run(lambda read: recipe(read, submission=submission), config, overrides, as_json)


@app.command("kitti-ap")
def kitti_ap(
    truth: Annotated[Path, typer.Argument(help="Folder of KITTI labels.")],
    detections: Annotated[Path, typer.Argument(help="Folder of detections, a file for each.")],
    as_json: AsJson = False,
) -> None:
    """Score detections in 2D by KITTI's rules: easy, moderate, hard; at 11 and 40 recalls."""
    from flows.kitti_ap import kitti_ap as recipe

    finish(lambda: recipe(truth, detections), as_json)


@app.command()
def detect(
    config: Config,
    head: Annotated[
        list[str] | None, typer.Option("--head", help="One of its heads; all, if none.")
    ] = None,
    train: Annotated[
        bool, typer.Option(help="Train heads that are not done; else take them as they are.")
    ] = True,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Train detection heads on a frozen CrevNet and find objects in KITTI's pictures."""

    def work() -> Outcome:
        from flows.config import read_as
        from flows.detect import detect as recipe
        from flows.detection.config import DetectionConfig

        return recipe(read_as(DetectionConfig, config, overrides), heads=head or (), train=train)

    finish(work, as_json)


@app.command()
def submit(config: Config = DEMO, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Forecast the test days and write the submission zip."""
    from flows.submit import submit as recipe

    run(recipe, config, overrides, as_json)


@app.command()
def check(
    config: Config = DEMO,
    submission: SubmissionArgument = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Hold a submission against every rule."""
    from flows.submit import check as recipe

    run(lambda read: recipe(read, submission=submission), config, overrides, as_json)


@app.command()
def maps(config: Config = DEMO, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Draw where each city is hard."""
    from flows.maps import maps as recipe

    run(recipe, config, overrides, as_json)


@app.command()
def models(
    config: Annotated[
        Path | None, typer.Argument(help="A run's YAML file: count on its edition's grid.")
    ] = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """List the models there are: parameters, multiply-accumulates, memory for training."""

    def work() -> Outcome:
        from flows.config import read_config
        from flows.list_models import list_models

        return list_models(read_config(config, overrides) if config else None)

    finish(work, as_json)
