"""`t4c VERB [CONFIG]`: starts at once; what a verb needs is imported when it runs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from flows.config import RunConfig
    from flows.recipe import Outcome

app = typer.Typer(
    name="t4c",
    help="Forecast city traffic movies: ingest, score, submit, map.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Config = Annotated[
    Path, typer.Argument(help="A run's YAML file, or the name of a shipped one.", show_default=True)
]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", help="Override, e.g. stride=12 or submit.gzip=9.")
]
AsJson = Annotated[bool, typer.Option("--json", help="End with one JSON object on stdout.")]
SubmissionArgument = Annotated[
    Path | None, typer.Option("--submission", help="A zip or folder of forecasts.")
]
DEMO = Path("demo")


@app.command()
def demo(config: Config = DEMO, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Draw a synthetic city, then ingest, train, score, submit, check and map it."""
    from flows.demo import demo as recipe

    _run(recipe, config, overrides, as_json)


@app.command()
def synth(config: Config = DEMO, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Draw a synthetic release: training, validation, blanked test days, and the truth."""
    from flows.synth import synth as recipe

    _run(recipe, config, overrides, as_json)


@app.command()
def realism(config: Config = DEMO, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Print how lifelike the synthetic city is beside the measured targets."""
    from flows.synth import realism as recipe

    _run(recipe, config, overrides, as_json)


@app.command()
def rasterise(config: Config, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Turn GPS points into day files: a city of your own."""
    from flows.rasterise import rasterise as recipe

    _run(recipe, config, overrides, as_json)


@app.command()
def ingest(
    config: Config = DEMO,
    overrides: Overrides = None,
    as_json: AsJson = False,
    verify: Annotated[bool, typer.Option(help="Compare checksums of every file.")] = False,
) -> None:
    """Bring the store up to date with the release."""
    from flows.ingest import ingest as recipe

    _run(lambda run: recipe(run, verify=verify), config, overrides, as_json)


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

    _run(lambda run: recipe(run, models=model or ()), config, overrides, as_json)


@app.command()
def compare(config: Config, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Train models with equal budgets and score them on the same windows."""
    from flows.compare import compare as recipe

    _run(recipe, config, overrides, as_json)


@app.command()
def benchmark(
    config: Config,
    model: Annotated[
        list[str] | None, typer.Option("--model", help="One of its models; all, if none.")
    ] = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Train and score models on Moving MNIST, beside the paper's figures."""

    def work() -> Outcome:
        from flows.benchmark import benchmark as recipe
        from flows.benchmarking.config import BenchmarkConfig
        from flows.config import read_as

        return recipe(read_as(BenchmarkConfig, config, overrides), models=model or ())

    _finish(work, as_json)


@app.command()
def score(
    config: Config = DEMO,
    submission: SubmissionArgument = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Score the ladder on validation windows, or a submission on the truth."""
    from flows.score import score as recipe

    _run(lambda run: recipe(run, submission=submission), config, overrides, as_json)


@app.command()
def submit(config: Config = DEMO, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Forecast the test days and write the submission zip."""
    from flows.submit import submit as recipe

    _run(recipe, config, overrides, as_json)


@app.command()
def check(
    config: Config = DEMO,
    submission: SubmissionArgument = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Hold a submission against every rule."""
    from flows.submit import check as recipe

    _run(lambda run: recipe(run, submission=submission), config, overrides, as_json)


@app.command()
def maps(config: Config = DEMO, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Draw where each city is hard."""
    from flows.maps import maps as recipe

    _run(recipe, config, overrides, as_json)


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

    _finish(work, as_json)


@app.command()
def inspect(
    file: Annotated[Path, typer.Argument(help="An HDF5 file of frames.")], as_json: AsJson = False
) -> None:
    """Say what a file of frames holds, after every check of the reader."""
    from flows.inspect import inspect as recipe

    _finish(lambda: recipe(file), as_json)


def main() -> None:
    """Run the command line."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # torch's threads rest where cores are few
    app()


def _run(
    recipe: Callable[[RunConfig], Outcome],
    config: Path,
    overrides: list[str] | None,
    as_json: bool,
) -> None:
    def work() -> Outcome:
        from flows.config import read_config

        return recipe(read_config(config, overrides))

    _finish(work, as_json)


def _finish(work: Callable[[], Outcome], as_json: bool) -> None:
    """Print what was said; exit 0 if all is well, 1 if anything is faulty."""
    from flows.recipe import Outcome, StoppedError
    from pipeline.errors import PipelineError

    try:
        outcome = work()
    except (PipelineError, OSError) as fault:
        outcome = Outcome(faults=str(fault).splitlines() or [repr(fault)])
    except (KeyboardInterrupt, StoppedError) as stop:
        what = str(stop) or "interrupted; the same command goes on from here"
        _print(f"error: {what}", sys.stderr)
        raise typer.Exit(130) from None
    for line in outcome.lines:
        _print(line)
    for fault_line in outcome.faults:
        _print(f"error: {fault_line}", sys.stderr)
    if as_json:
        facts: dict[str, Any] = {"ok": not outcome.faults, **outcome.facts}
        _print(json.dumps(facts | {"faults": outcome.faults}, default=str, allow_nan=False))
    if outcome.faults:
        raise typer.Exit(1)


def _print(line: str, stream: Any = None) -> None:
    (stream or sys.stdout).write(line + "\n")
    (stream or sys.stdout).flush()
