"""The main job, end to end, on a city drawn from a seed."""

from __future__ import annotations

from collections.abc import Callable

from flows.config import RunConfig
from flows.ingest import ingest
from flows.maps import maps
from flows.recipe import Outcome
from flows.score import score
from flows.submit import submit
from flows.synth import synth
from flows.train import train


def demo(config: RunConfig) -> Outcome:
    """Draw, ingest, train, score, submit, score the submission, and map."""
    outcome = Outcome()
    steps: dict[str, Callable[[RunConfig], Outcome]] = {
        "synth": synth,
        "ingest": ingest,
        **({"train": train} if config.models else {}),
        "score": score,
        "submit": submit,
        "score_submission": _score_submission,
        "maps": maps,
    }
    for name, recipe in steps.items():
        part = recipe(config)
        outcome.lines += part.lines
        outcome.faults += part.faults
        outcome.facts[name] = part.facts
        if part.faults:
            break
    return outcome


def _score_submission(config: RunConfig) -> Outcome:
    return score(config, submission=config.out / config.submit.file)
