"""What a recipe is: a plain call alone, a flow with tasks and artifacts when Prefect runs it.

Nothing here imports Prefect unless a Prefect flow is what calls.
"""

from __future__ import annotations

import html
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

if TYPE_CHECKING:
    import pandas as pd

P = ParamSpec("P")
R = TypeVar("R")
RETRIES = 2
RETRY_SECONDS = 10


class StoppedError(Exception):
    """A signal ended a recipe in good order; the same recipe goes on from there."""


@dataclass(slots=True)
class Outcome:
    """What a recipe has to say.

    Attributes:
        lines: For a person.
        facts: The same for a script; plain values only.
        faults: What went wrong without stopping the rest; any fault makes the run a failure.
    """

    lines: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)


def inside_a_flow() -> bool:
    """Return whether Prefect is running the caller."""
    if "prefect" not in sys.modules:
        return False
    from prefect.context import FlowRunContext

    return FlowRunContext.get() is not None


def step(function: Callable[P, R]) -> Callable[P, R]:
    """Make a function a step: a plain call alone, a task inside a Prefect flow.

    As a task it is tried again when input or output fails, and only then: a faulty file does not
    mend itself.
    """

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        if not inside_a_flow():
            return function(*args, **kwargs)
        from prefect import task
        from prefect.cache_policies import NO_CACHE

        as_task: Any = task(
            function,  # type: ignore[call-overload]  # its overloads do not know ParamSpec
            name=f"{function.__module__.rpartition('.')[2]}.{function.__name__}",
            retries=RETRIES,
            retry_delay_seconds=RETRY_SECONDS,
            retry_condition_fn=_is_io,
            cache_policy=NO_CACHE,
            persist_result=False,
        )
        result: R = as_task(*args, **kwargs)
        return result

    return run


def _is_io(task: Any, run: Any, state: Any) -> bool:
    try:
        state.result()
    except OSError:
        return True
    except Exception:  # any other kind is not worth a retry
        return False
    return False


@contextmanager
def progress(label: str, total: int) -> Iterator[Callable[[str], None]]:
    """Yield what to call as each of `total` things is done; a bar on a terminal, else silence."""
    done = count(1)
    with stages() as tick:
        yield lambda _: tick(label, next(done), total)


@contextmanager
def stages() -> Iterator[Callable[[str, int, int], None]]:
    """Yield what to call with a stage, how much of it is done and how much there is."""
    if inside_a_flow() or not sys.stderr.isatty():
        yield lambda stage, done, total: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TaskID,
        TextColumn,
        TimeElapsedColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        shown: dict[str, TaskID] = {}

        def tick(stage: str, done: int, total: int) -> None:
            if stage not in shown:
                shown[stage] = bars.add_task(stage, total=total)
            bars.update(shown[stage], completed=done, total=total)

        yield tick


def announce(event: str, run: str, facts: dict[str, Any]) -> bool:
    """Emit `t4c.<event>` of a run's data, which deployments may wait for; nothing without a flow.

    Args:
        event: What happened, e.g. `days.ingested`.
        run: Name of the data: the edition's.
        facts: Plain values that go with it.

    Returns:
        Whether there is a flow.
    """
    if not inside_a_flow():
        return False
    from prefect.events import emit_event

    resource = {"prefect.resource.id": f"t4c.run.{run}", "prefect.resource.name": run}
    emit_event(f"t4c.{event}", resource=resource, payload=facts)
    return True


def publish_table(key: str, table: pd.DataFrame, description: str) -> None:
    """Leave a table with the flow run; nothing when there is none."""
    if not inside_a_flow():
        return
    from prefect.artifacts import create_table_artifact

    whole = table.reset_index().astype(object)
    plain = whole.where(whole.notna(), None)
    rows = [dict(zip(map(str, plain.columns), row, strict=True)) for row in plain.values.tolist()]
    create_table_artifact(rows, key=_key(key), description=as_text(description))


def publish_markdown(key: str, markdown: str, description: str) -> None:
    """Leave a text with the flow run; nothing when there is none.

    Headings and lists stay what they are; HTML, links and pictures are shown as they were typed.
    """
    if not inside_a_flow():
        return
    from prefect.artifacts import create_markdown_artifact

    create_markdown_artifact(as_text(markdown), key=_key(key), description=as_text(description))


def publish_image(key: str, path: Path, description: str) -> None:
    """Leave a picture with the flow run, small enough for the server's database."""
    if not inside_a_flow():
        return
    from base64 import b64encode

    from prefect.artifacts import create_markdown_artifact

    data = b64encode(path.read_bytes()).decode()
    said = as_text(description)
    markdown = f"{said}\n\n![{said}](data:image/png;base64,{data})"
    create_markdown_artifact(markdown, key=_key(key), description=said)


def as_text(text: str) -> str:
    """Return a text that Markdown shows as it is: no tags, no links, no code of anybody's.

    What a city, a model or an edition is called is read from files, and ends up on a page. Bare
    addresses, which GitHub's Markdown makes links of, lose the sign that they are known by; a
    renderer that looks for them only after it has read the entities links them all the same.
    """
    plain = re.sub(r"[\[\]`\\]", r"\\\g<0>", html.escape(text, quote=False))
    return re.sub(r"(?i)(?<=www)\.", "&#46;", plain.replace("://", "&#58;//"))


def _key(key: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in key.lower()).strip("-")
