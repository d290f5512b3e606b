"""Pairs of truth and forecast of a benchmark's sequences, for a blind study."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from flows.benchmarking.config import NAIVE, BenchmarkConfig
from flows.benchmarking.data import benchmark_data
from flows.benchmarking.scores import read_pictures, score_naive, score_run
from flows.benchmarking.sights import looked_at
from flows.benchmarking.train import is_trained
from pipeline.errors import ConfigError, StudyError
from pipeline.study.pairs import Pair


def sequence_pairs(
    config: BenchmarkConfig, names: Sequence[str], count: int, seed: int
) -> list[Pair]:
    """Return pairs of the sequences that `pictures.sequences` names, for each model.

    Forecasts are those that scoring keeps; a model that was not scored on them is, now.

    Raises:
        ConfigError: A name is no trained model and no naive forecast.
        StudyError: `pictures.sequences` are too few.
    """
    trained = [run for run in config.runs() if is_trained(config, run)]
    if unknown := [name for name in names if name not in {*trained, *NAIVE}]:
        raise ConfigError(f"--model {unknown}: trained are {trained}, and there are {[*NAIVE]}")
    data = benchmark_data(config)
    numbers = looked_at(config, data)
    if count > len(numbers):
        raise StudyError(f"{count} pairs, but pictures.sequences and .hard are {len(numbers)}")
    rng = np.random.default_rng(seed)
    pairs = []
    for name in names or trained:
        scorer = score_naive if name in NAIVE else score_run
        scorer(config, data, name)
        said = np.rint(np.clip(read_pictures(config, name), 0, 1) * 255).astype(np.uint8)
        for place in sorted(rng.choice(len(numbers), count, replace=False)):
            clip = data.test[numbers[place]]
            movies = clip.history[:, 0], clip.future[:, 0], said[place, :, 0]
            pairs.append(Pair(name, f"sequence {numbers[place]}", *movies))
    return pairs
