"""Verbs that let it run by itself: a server, a worker, what they are to do, and a way to ask."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.command import AsJson, app, finish
from flows.serving_settings import LOOPBACK, PORT, client_settings, server_settings

if TYPE_CHECKING:
    from flows.recipe import Outcome

Configs = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[[ID=]CONFIG]...",
        help="Configurations instead of those that the plan names; ID is `run`, if not given.",
    ),
]
PlanFile = Annotated[
    Path | None, typer.Option("--plan", help="Another file than the prefect.yaml built in.")
]


@app.command()
def server(
    port: Annotated[int, typer.Option(min=1, max=65535)] = PORT,
    host: Annotated[str, typer.Option(help="Beyond loopback only with a password.")] = LOOPBACK,
) -> None:
    """Start Prefect's server for this folder: loopback, no foreign origins, no telemetry."""
    settings: dict[str, str] = {}

    def work() -> Outcome:
        from flows.recipe import Outcome

        settings.update(server_settings(port, host))
        if (port, host) == (PORT, LOOPBACK):
            return Outcome()
        return Outcome([f"elsewhere: export PREFECT_API_URL={settings['PREFECT_API_URL']}"])

    finish(work, as_json=False)
    _become(["server", "start"], settings)


@app.command()
def worker(
    pool: Annotated[str, typer.Option(help="Whose runs.")] = "t4c",
    queue: Annotated[
        list[str] | None, typer.Option(help="Of these queues alone, e.g. gpu.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Runs at a time.")] = None,
) -> None:
    """Start a worker: it runs what is due, in this folder, until it is stopped."""
    ask = ["worker", "start", "--pool", pool, "--type", "process", "--install-policy", "never"]
    for name in queue or []:
        ask += ["--work-queue", name]
    _become([*ask, *(["--limit", str(limit)] if limit else [])], client_settings())


@app.command()
def deploy(configs: Configs = None, plan: PlanFile = None, as_json: AsJson = False) -> None:
    """Register what prefect.yaml plans with the running server, for workers to run."""

    def work() -> Outcome:
        from flows.serving import deploy as recipe
        from flows.serving_plan import DEFAULT_PLAN

        return recipe(configs or (), plan=plan or DEFAULT_PLAN)

    finish(work, as_json)


@app.command()
def serve(
    configs: Configs = None,
    plan: PlanFile = None,
    limit: Annotated[int, typer.Option(min=1, help="Runs at a time.")] = 1,
) -> None:
    """Run what prefect.yaml plans from this process: one machine, no pool, no worker."""

    def work() -> Outcome:
        from flows.serving import serve as recipe
        from flows.serving_plan import DEFAULT_PLAN

        return recipe(configs or (), plan=plan or DEFAULT_PLAN, limit=limit)

    finish(work, as_json=False)


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    add_help_option=False,
)
def prefect(context: typer.Context) -> None:
    """Run any command of Prefect's own under our settings, e.g. `t4c prefect flow-run ls`."""
    _become(context.args, client_settings())


def _become(arguments: list[str], settings: dict[str, str]) -> None:
    """Turn this process into Prefect's command line; signals go straight to it."""
    command = [sys.executable, "-m", "prefect", *arguments]
    os.execve(command[0], command, {**os.environ, **settings})
