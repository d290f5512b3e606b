"""What a server needs besides deployments: pools, queues, and an end for what is over."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING

from flows.serving_settings import HEARTBEAT_SECONDS

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

ONE_AT_A_TIME = "gpu"
"""The work queue whose runs have the GPU to themselves."""
ZOMBIES = "Runs that fell silent have crashed"
SILENT_SECONDS = 6 * HEARTBEAT_SECONDS
OURS = "t4c"
"""The tag of every deployment of ours."""
PAGE = 200
"""Deployments that the server tells of at once, at most."""


def make_pool(client: SyncPrefectClient, name: str) -> None:
    """Make a pool of local processes, if it is not there."""
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectAlreadyExists
    from prefect.workers.process import ProcessWorker

    template = ProcessWorker.get_default_base_job_template()
    with suppress(ObjectAlreadyExists):
        client.create_work_pool(
            WorkPoolCreate(name=name, type="process", base_job_template=template)
        )


def make_queue(client: SyncPrefectClient, pool: str, name: str) -> None:
    """Make a queue of a pool, if it is not there; runs of `gpu` come one at a time."""
    from prefect.exceptions import ObjectAlreadyExists

    with suppress(ObjectAlreadyExists):
        client.create_work_queue(name, work_pool_name=pool)
    if name == ONE_AT_A_TIME:
        queue = client.read_work_queue_by_name(name, work_pool_name=pool)
        client.update_work_queue(queue.id, concurrency_limit=1)


def stop_others(client: SyncPrefectClient, planned: Collection[str]) -> list[str]:
    """Pause the deployments of ours that are not planned, and take their triggers away.

    Args:
        client: Of the server.
        planned: Ids of those that are.

    Returns:
        Names of those that were running until now.
    """
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags

    ours = DeploymentFilter(tags=DeploymentFilterTags(all_=[OURS]))
    found = client.read_deployments(deployment_filter=ours, limit=PAGE)
    others = [one for one in found if str(one.id) not in planned and not one.paused]
    for other in others:
        client.delete_resource_owned_automations(f"prefect.deployment.{other.id}")
        client.pause_deployment(other.id)
    return sorted(other.name for other in others)


def crash_the_silent(client: SyncPrefectClient, seconds: float) -> None:
    """Have the server call a run crashed that was alive and says so no more.

    Worker and run may die together, and nobody is left to report it.
    """
    from prefect.client.schemas.objects import StateType
    from prefect.events import Automation, AutomationCore, ChangeFlowRunState, EventTrigger, Posture

    alive = "prefect.flow-run.heartbeat"
    ended = {f"prefect.flow-run.{how}" for how in ("Completed", "Failed", "Cancelled", "Crashed")}
    wanted = AutomationCore(
        name=ZOMBIES,
        description="Set up by `t4c deploy`.",
        trigger=EventTrigger(
            after={alive},
            expect={alive, *ended},
            match={"prefect.resource.id": "prefect.flow-run.*"},
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=seconds),
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED,
                name="Crashed",
                message=f"Nothing heard of it for {seconds:g} s; the next run goes on from there.",
            )
        ],
    )
    found: list[Automation] = client.read_automations_by_name(ZOMBIES)
    for automation in found[1:]:
        client.delete_automation(automation.id)
    if found:
        client.update_automation(found[0].id, wanted)
    else:
        client.create_automation(wanted)
