"""What all verbs of the command line share: their arguments, and how they run and end."""

from __future__ import annotations

import json
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


def run(
    recipe: Callable[[RunConfig], Outcome],
    config: Path,
    overrides: list[str] | None,
    as_json: bool,
) -> None:
    """Read a run's configuration and run a recipe on it; see `finish`."""

    def work() -> Outcome:
        from flows.config import read_config

        return recipe(read_config(config, overrides))

    finish(work, as_json)


def finish(work: Callable[[], Outcome], as_json: bool) -> None:
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
