"""Train and score a list of models on Moving MNIST or videos, beside the paper's figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from flows.benchmarking.config import NAIVE, BenchmarkConfig
from flows.recipe import Outcome, inside_a_flow
from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from flows.benchmarking.sequences import BenchmarkData


def benchmark(config: BenchmarkConfig, *, models: Sequence[str] = ()) -> Outcome:
    """Train every model under the schedule, score it, and write all tables and pictures anew.

    What is done already is found and not done again: sets, trainings, scores, costs. A run that was
    killed goes on inside the training it was in.

    Args:
        config: The benchmark.
        models: Which of its models; all, if none is named. The table holds all that were scored.

    Raises:
        ConfigError: There is no such model, or a setting is impossible.
        DigitsError: Digits or a set are missing, damaged or other ones.
        ModelError: A network cannot be built or trained.
        VideoError: A video's drives are not in its store.
    """
    from flows.benchmarking.data import benchmark_data
    from flows.benchmarking.scores import device_of
    from flows.benchmarking.train import check_models, train_run

    if unknown := [name for name in models if name not in config.models]:
        raise ConfigError(f"models: no {unknown}; there are {[*config.models]}")
    wanted = [run for run, (name, _) in config.runs().items() if not models or name in models]
    device_of(config)
    data = benchmark_data(config)
    check_models(config, wanted, data.trained_horizon)
    outcome = tell(config, data)
    for run in wanted:
        trained = train_run(config, run)
        together = trained.processes > 1 and not inside_a_flow()
        if not together:  # several that go on to the next one together tell in the end
            outcome = tell(config, data)
    if wanted and together:
        outcome = tell(config, data) if trained.mine else Outcome()
    return outcome


def tell(config: BenchmarkConfig, data: BenchmarkData) -> Outcome:
    """Score what is trained and not scored yet, and report on all of it."""
    from flows.benchmarking.costs import cost_of
    from flows.benchmarking.report import report
    from flows.benchmarking.scores import score_naive, score_run
    from flows.benchmarking.train import is_trained

    done = [run for run in config.runs() if is_trained(config, run)]
    scores = [score_naive(config, data, name) for name in NAIVE]
    scores += [score_run(config, data, run) for run in done]
    trained = dict.fromkeys(config.runs()[run][0] for run in done)
    return report(config, data, scores, {name: cost_of(config, data, name) for name in trained})
