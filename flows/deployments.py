"""The recipes as Prefect flows, for schedules; `t4c` runs the same recipes without a server.

Each flow takes a whole `RunConfig`, so a server refuses a bad one before a run exists. Name them as
module entrypoints, e.g. `flows.deployments.ingest`. Annotations here are objects, not text: Prefect
builds the parameters' schema from them. Trainings are processes of their own: `flows.apart`.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger

from flows import benchmark as _benchmark
from flows import compare as _compare
from flows import demo as _demo
from flows import detect as _detect
from flows import films as _films
from flows import ingest as _ingest
from flows import ingest_video as _ingest_video
from flows import kitti_ap as _kitti_ap
from flows import maps as _maps
from flows import prepare_test as _prepare_test
from flows import promotion as _promotion
from flows import rasterise as _rasterise
from flows import report as _report
from flows import score as _score
from flows import submit as _submit
from flows import synth as _synth
from flows import train as _train
from flows.benchmarking.config import BenchmarkConfig
from flows.config import RunConfig
from flows.detection.config import DetectionConfig
from flows.recipe import Outcome
from flows.unheard import outlive_the_worker


class RecipeError(RuntimeError):
    """A recipe ended with faults; the message lists them all."""


def _run(recipe: Callable[[], Outcome]) -> dict[str, Any]:
    outlive_the_worker()
    outcome = recipe()
    for line in outcome.lines:
        get_run_logger().info(line)
    if outcome.faults:
        raise RecipeError("\n".join(outcome.faults))
    return outcome.facts


@flow
def demo(config: RunConfig) -> dict[str, Any]:
    """Draw a synthetic city, then ingest, score, submit and map it."""
    return _run(partial(_demo.demo, config))


@flow
def synth(config: RunConfig) -> dict[str, Any]:
    """Draw a synthetic release."""
    return _run(partial(_synth.synth, config))


@flow
def rasterise(config: RunConfig) -> dict[str, Any]:
    """Turn GPS points into day files."""
    return _run(partial(_rasterise.rasterise, config))


@flow
def ingest(config: RunConfig, verify: bool = False) -> dict[str, Any]:
    """Bring the store up to date with the release."""
    return _run(partial(_ingest.ingest, config, verify=verify))


@flow
def ingest_video(config: BenchmarkConfig, verify: bool = False) -> dict[str, Any]:
    """Cut the drives of a benchmark's videos into their stores."""
    return _run(partial(_ingest_video.ingest_video, config, verify=verify))


@flow
def kitti_ap(truth: Path, detections: Path) -> dict[str, Any]:
    """Score detections in 2D by KITTI's rules."""
    return _run(partial(_kitti_ap.kitti_ap, truth, detections))


@flow
def detect(
    config: DetectionConfig, heads: list[str] | None = None, train: bool = True
) -> dict[str, Any]:
    """Train detection heads on a frozen CrevNet and find objects in KITTI's pictures."""
    return _run(partial(_detect.detect, config, heads=heads or (), train=train))


@flow
def train(config: RunConfig, models: list[str] | None = None) -> dict[str, Any]:
    """Train the run's networks, from where each was left."""
    return _run(partial(_train.train, config, models=models or ()))


@flow
def promote(config: RunConfig) -> dict[str, Any]:
    """Train a network on the days there are; put it in use if it beats the one that is."""
    return _run(partial(_promotion.promote, config))


@flow
def compare(config: RunConfig) -> dict[str, Any]:
    """Train models with equal budgets and score them on the same windows."""
    return _run(partial(_compare.compare, config))


@flow
def benchmark(config: BenchmarkConfig, models: list[str] | None = None) -> dict[str, Any]:
    """Train and score models on Moving MNIST or videos, beside the paper's figures."""
    return _run(partial(_benchmark.benchmark, config, models=models or ()))


@flow
def score(config: RunConfig, submission: Path | None = None) -> dict[str, Any]:
    """Score the ladder on validation windows, or a submission on the truth."""
    return _run(partial(_score.score, config, submission=submission))


@flow
def submit(config: RunConfig) -> dict[str, Any]:
    """Write the submission and check it."""
    return _run(partial(_submit.submit, config))


@flow
def check(config: RunConfig, submission: Path | None = None) -> dict[str, Any]:
    """Hold a submission against every rule."""
    return _run(partial(_submit.check, config, submission=submission))


@flow
def realism(config: RunConfig) -> dict[str, Any]:
    """Compare the synthetic city with what was measured on real ones."""
    return _run(partial(_synth.realism, config))


@flow
def prepare_test(config: RunConfig) -> dict[str, Any]:
    """Cut a private test set and its truth."""
    return _run(partial(_prepare_test.prepare_test, config))


@flow
def maps(config: RunConfig) -> dict[str, Any]:
    """Draw the error maps."""
    return _run(partial(_maps.maps, config))


@flow
def report(config: RunConfig) -> dict[str, Any]:
    """Write the page of what was found."""
    return _run(partial(_report.report, config))


@flow
def film(
    config: RunConfig,
    city: str | None = None,
    day: str | None = None,
    at: str = "17:00",
    model: str | None = None,
    channel: str | None = None,
) -> dict[str, Any]:
    """Film one window."""
    recipe = partial(_films.film, config, city=city, day=day, at=at, model=model, channel=channel)
    return _run(recipe)
