"""Which sequences to look at: those asked for, and the extremely hard ones."""

from __future__ import annotations

from flows.benchmarking.config import BenchmarkConfig
from flows.benchmarking.kept import digest, read_kept
from flows.benchmarking.sequences import BenchmarkData
from pipeline.atomic import write_json
from pipeline.errors import ConfigError
from pipeline.moving_mnist.hard import hardest


def looked_at(config: BenchmarkConfig, data: BenchmarkData) -> list[int]:
    """Return the numbers of the sequences to look at: those asked for, then the hardest.

    Raises:
        ConfigError: There is no such sequence.
    """
    count = len(data.test)
    if beyond := [number for number in config.pictures.sequences if not 0 <= number < count]:
        raise ConfigError(f"pictures.sequences: {beyond}, but {count} are scored, from 0")
    hard = [number for number, _ in hard_sequences(config, data)[: config.pictures.hard]]
    return list(dict.fromkeys([*config.pictures.sequences, *hard]))


def hard_sequences(config: BenchmarkConfig, data: BenchmarkData) -> list[tuple[int, float]]:
    """Return scored sequences whose digits overlap through the warm-up, hardest first, kept."""
    path = config.out / "hard.json"
    key = digest(data.scored)
    kept = read_kept(path, key)
    if kept is not None:
        return [(int(number), float(share)) for number, share in kept["sequences"]]
    found = [] if data.layers is None else hardest(data.layers, len(data.test), 20)
    write_json(path, {"key": key, "sequences": found})
    return found
