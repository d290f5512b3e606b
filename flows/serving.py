"""Put the plan of `prefect.yaml` on a server: for workers of a pool, or to be served from here."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.recipe import Outcome
from flows.serving_plan import DEFAULT_PLAN, Plan, Planned, read_plan
from flows.serving_pools import (
    SILENT_SECONDS,
    ZOMBIES,
    crash_the_silent,
    make_pool,
    make_queue,
    stop_others,
)
from flows.serving_settings import client_settings
from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from prefect import Flow
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.actions import DeploymentScheduleCreate
    from prefect.client.schemas.objects import ConcurrencyLimitConfig
    from prefect.events import DeploymentTriggerTypes, TriggerTypes


def deploy(
    configs: Sequence[str] = (),
    *,
    plan: Path = DEFAULT_PLAN,
    silent: float = SILENT_SECONDS,
) -> Outcome:
    """Register the plan with a running server; registered again, it is brought up to date.

    That is: work pools of kind `process`, their queues (one run at a time on `gpu`), the automation
    that turns runs without a heartbeat into Crashed, and every deployment with its schedules and
    triggers. The server holds the schema of the configurations, and refuses bad ones. Deployments
    tagged `t4c` that the plan has no more are paused, and nothing triggers them.

    Args:
        configs: As for `read_plan`.
        plan: The file.
        silent: Seconds without a heartbeat after which a run counts as crashed.

    Raises:
        ConfigError: The plan or a configuration is faulty, or there is no server.
    """
    os.environ.update(client_settings())  # before `read_plan`, which imports Prefect
    found = read_plan(plan, configs)
    with _server() as client:
        for pool in sorted({planned.work_pool.name for planned in found.deployments}):
            make_pool(client, pool)
        for name, queue in sorted(
            {(one.work_pool.name, one.work_pool.work_queue_name) for one in found.deployments}
        ):
            make_queue(client, name, queue)
        crash_the_silent(client, silent)
        facts = {one.name: str(_register(client, one, found)) for one in found.deployments}
        stopped = stop_others(client, {*facts.values()})
    lines = [_said(planned) for planned in found.deployments]
    lines += [*found.left_out, *(f"{name}: not planned any more, paused" for name in stopped)]
    lines += [f"crashed after {silent:g} s without a heartbeat: {ZOMBIES!r}"]
    return Outcome(lines, {"deployments": facts, "left_out": found.left_out, "paused": stopped})


def serve(configs: Sequence[str] = (), *, plan: Path = DEFAULT_PLAN, limit: int = 1) -> Outcome:
    """Run the plan's deployments from this process until it is stopped; no pool, no worker.

    Args:
        configs: As for `read_plan`.
        plan: The file.
        limit: Runs at a time, of all deployments: with one, the GPU is never shared.

    Raises:
        ConfigError: As for `deploy`.
    """
    os.environ.update(client_settings())  # before `read_plan`, which imports Prefect
    found = read_plan(plan, configs)
    with _server() as client:
        crash_the_silent(client, SILENT_SECONDS)
    from prefect import serve as serve_all
    from prefect.deployments.runner import RunnerDeployment

    serve_all(
        *(
            RunnerDeployment.from_entrypoint(
                planned.entrypoint,
                planned.name,
                schedules=_schedules(planned),
                parameters=_checked(planned),
                triggers=_triggers(planned),
                description=planned.description,
                tags=[*planned.tags],
                concurrency_limit=_limit(planned),
            )
            for planned in found.deployments
        ),
        limit=limit,
        print_starting_message=True,
    )
    return Outcome(["stopped; schedules are paused until the next `t4c serve`"])


@contextmanager
def _server() -> Iterator[SyncPrefectClient]:
    """Yield a client of the running server; our settings are in the environment by now."""
    from httpx import HTTPError
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        fault = client.api_healthcheck()
        if fault is not None:
            url = os.environ["PREFECT_API_URL"]
            raise ConfigError(f"{url}: no server answers ({fault}); `t4c server` starts one")
        try:
            yield client
        except HTTPError as refused:
            said = getattr(refused, "response", None)
            raise ConfigError(f"the server refused: {said.text if said else refused}") from None


def _register(client: SyncPrefectClient, planned: Planned, plan: Plan) -> Any:
    from prefect.client.schemas.objects import ConcurrencyOptions
    from prefect.utilities.callables import parameter_schema

    flow, limit = _flow(planned), _limit(planned)
    strategy = ConcurrencyOptions(collision_strategy=limit.collision_strategy) if limit else None
    deployment = client.create_deployment(
        client.create_flow_from_name(flow.name),
        planned.name,
        version=flow.version,
        schedules=_schedules(planned),
        concurrency_limit=limit.limit if limit else None,
        concurrency_options=strategy,
        paused=False,  # it may have been out of the plan for a while
        parameters=_checked(planned),
        description=planned.description or flow.description,
        work_queue_name=planned.work_pool.work_queue_name,
        work_pool_name=planned.work_pool.name,
        tags=[*planned.tags],
        entrypoint=planned.entrypoint,
        parameter_openapi_schema=parameter_schema(flow).model_dump(exclude_unset=True),
        pull_steps=[*plan.pull],
        enforce_parameter_schema=True,
    )
    client.delete_resource_owned_automations(f"prefect.deployment.{deployment}")
    for trigger in _triggers(planned):
        trigger.set_deployment_id(deployment)
        client.create_automation(trigger.as_automation())
    return deployment


def _flow(planned: Planned) -> Flow[..., Any]:
    from flows import deployments

    name = planned.entrypoint.rpartition(".")[2]
    flow: Flow[..., Any] | None = getattr(deployments, name, None)
    if flow is None:
        raise ConfigError(f"{planned.name}: flows.deployments has no flow {name!r}")
    return flow


def _checked(planned: Planned) -> dict[str, Any]:
    from prefect.exceptions import ParameterTypeError

    try:
        _flow(planned).validate_parameters(planned.parameters)
    except ParameterTypeError as fault:
        raise ConfigError(f"{planned.name}: {fault}") from None
    return planned.parameters


def _limit(planned: Planned) -> ConcurrencyLimitConfig | None:
    from prefect.client.schemas.objects import ConcurrencyLimitConfig

    limit = planned.concurrency_limit
    return None if limit is None else ConcurrencyLimitConfig(**limit.model_dump())


def _schedules(planned: Planned) -> list[DeploymentScheduleCreate]:
    from prefect.client.schemas.actions import DeploymentScheduleCreate
    from prefect.client.schemas.schedules import CronSchedule

    try:
        return [
            DeploymentScheduleCreate(schedule=CronSchedule(**when.model_dump()), active=True)
            for when in planned.schedules
        ]
    except ValueError as fault:
        raise ConfigError(f"{planned.name}: schedules: {fault}") from None


def _triggers(planned: Planned) -> list[DeploymentTriggerTypes | TriggerTypes]:
    from prefect.events import DeploymentEventTrigger

    return [
        DeploymentEventTrigger(
            name=f"{planned.name} after {' or '.join(trigger.expect)}",
            expect={*trigger.expect},
            match=trigger.match,
        )
        for trigger in planned.triggers
    ]


def _said(planned: Planned) -> str:
    when = [f"{at.cron} {at.timezone}" for at in planned.schedules]
    when += [f"after {' or '.join(trigger.expect)}" for trigger in planned.triggers]
    queue = planned.work_pool
    return f"{planned.name}: {'; '.join(when)} -> {queue.name}/{queue.work_queue_name}"
