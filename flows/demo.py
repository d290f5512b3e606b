"""The main job, end to end, on a city drawn from a seed."""

from __future__ import annotations

from flows.config import RunConfig
from flows.ingest import ingest
from flows.maps import maps
from flows.recipe import Outcome
from flows.score import score
from flows.submit import submit
from flows.synth import synth


def demo(config: RunConfig) -> Outcome:
    """Draw, ingest, score, submit, score the submission, and map."""
    outcome = Outcome()
    for recipe in (synth, ingest, score, submit):
        outcome.add(recipe(config))
    outcome.add(score(config, submission=config.out / config.submit.file))
    outcome.add(maps(config))
    return outcome
