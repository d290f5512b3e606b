"""What a benchmark reads: sequences to learn from, to choose by, and to score."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crevnet.batch import Batch, Example, collate
from flows.benchmarking.config import BenchmarkConfig
from flows.benchmarking.footage import video_data
from flows.benchmarking.sections import Drawn, Footage, Kept
from flows.benchmarking.sequences import BenchmarkData, First
from flows.recipe import progress, step
from pipeline.errors import ConfigError
from pipeline.moving_mnist.digits import read_digits
from pipeline.moving_mnist.entry import MovingMnist, read_entry
from pipeline.moving_mnist.motion import MOTIONS
from pipeline.moving_mnist.store import check_manifest, drawn_set, keep_set
from pipeline.sources import ClipSource
from pipeline.sources.moving_mnist import DrawnSequences, StandardSequences, StoredSequences

ENDLESS = 1 << 40


def benchmark_data(config: BenchmarkConfig) -> BenchmarkData:
    """Return the sequences of a benchmark; fixed sets are drawn first, if they are not there.

    Raises:
        CatalogError: The catalogue has no such entry.
        DigitsError: Digits or a set are missing, damaged or other ones.
        VideoError: A store of videos lacks drives; they are to be ingested first.
        ConfigError: The sets do not fit each other.
    """
    drawn, digits = config.training, config.digits
    if isinstance(drawn, Footage):
        return video_data(config)
    assert isinstance(drawn, Drawn)
    assert isinstance(config.validation, Kept)
    assert isinstance(config.test, Kept)
    assert digits is not None
    entry = read_entry(config.data, config.catalog)
    (validation, chosen), (test, scored) = (
        _kept(config, entry, kept) for kept in (config.validation, config.test)
    )
    shapes = [_shape(source) for source in (validation, test)]
    if shapes[0] != shapes[1]:
        raise ConfigError(
            f"validation: sequences of (T, H, W) {shapes[0]}, but those to test are {shapes[1]}"
        )
    frames, *canvas = shapes[1]
    if not 0 < config.history < frames:
        raise ConfigError(f"history: {config.history} of {frames} frames; none is left to say")
    glyphs = read_digits(entry, "training", digits, fetch=config.fetch)
    training = DrawnSequences(
        glyphs,
        MOTIONS[drawn.motion],
        drawn.digits,
        drawn.seed,
        f"training {drawn.motion} {drawn.digits}",
        ENDLESS,
        frames,
        (canvas[0], canvas[1]),
        config.history,
    )
    try:
        training.layers(0)
    except ValueError as fault:
        raise ConfigError(f"training: {fault}") from None
    learned = {
        **drawn.model_dump(),
        "canvas": canvas,
        "frames": frames,
        "history": config.history,
        "digits_sha256": entry.training.sha256,
        "validation_digits": entry.validation_digits,
        "validation": chosen,
    }
    layers = None
    if not config.test.set.endswith(".npy"):
        layers = drawn_set(
            entry, config.test.set, digits, fetch=config.fetch, history=config.history
        )
    return BenchmarkData(
        training,
        validation,
        test,
        layers,
        frames - config.history,
        frames - config.history,
        (canvas[0], canvas[1]),
        json.dumps(learned, sort_keys=True),
        json.dumps({**scored, "history": config.history}, sort_keys=True),
    )


def _kept(
    config: BenchmarkConfig, entry: MovingMnist, kept: Kept
) -> tuple[ClipSource[int], dict[str, Any]]:
    """Return sequences that stay, and what decides them in plain values."""
    source: ClipSource[int]
    if kept.set.endswith(".npy"):
        path = Path(kept.set)
        source = StandardSequences(path, config.history)
        there = len(source)
        with path.open("rb") as file:
            facts = {"frames_sha256": hashlib.file_digest(file, "sha256").hexdigest()}
    else:
        source = draw(config, entry, kept.set)
        there = len(source)
        assert config.store is not None
        manifest = config.store / f"{kept.set}.json"
        facts = {"frames_sha256": check_manifest(manifest, entry, entry.sets[kept.set])}
    count = kept.first or there
    if count > there:
        raise ConfigError(f"{kept.set}: the first {count} sequences, but it has {there}")
    return First(source, count), {**facts, "first": count}


@step
def draw(config: BenchmarkConfig, entry: MovingMnist, name: str) -> StoredSequences:
    """Return a fixed set from the store, drawn first if it is not there."""
    assert config.digits is not None
    assert config.store is not None
    with progress(f"draw {name}", entry.sets[name].sequences if name in entry.sets else 1) as tick:
        return keep_set(
            entry,
            name,
            config.digits,
            config.store,
            fetch=config.fetch,
            history=config.history,
            progress=tick,
        )


def _shape(source: ClipSource[int]) -> tuple[int, int, int]:
    clip = source[0]
    return len(clip.history) + len(clip.future), clip.history.shape[2], clip.history.shape[3]


@dataclass(frozen=True, slots=True, eq=False)
class DrawnBatches:
    """Training batches in order: batch `n` of epoch `e` holds the sequences that come then.

    No sequence is seen twice, and each follows from its number, so a training that goes on needs no
    state of this.

    Attributes:
        source: Sequences.
        batch: Of a batch, over all processes.
        epoch: Batches that are called an epoch.
        world: Processes.
        rank: Which of them this is.
    """

    source: ClipSource[Any]
    batch: int
    epoch: int
    world: int = 1
    rank: int = 0

    def __len__(self) -> int:
        return self.epoch

    def batches(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """Yield an epoch's batches from one on."""
        for number in range(first, self.epoch):
            start = (epoch * self.epoch + number) * self.batch
            yield gather(self.source, range(start + self.rank, start + self.batch, self.world))


@dataclass(frozen=True, slots=True, eq=False)
class KeptBatches:
    """Sequences that stay, in order, the last batch as small as it is.

    Attributes:
        source: Sequences.
        batch: Of a batch, over all processes.
        world: Processes.
        rank: Which of them this is.
    """

    source: ClipSource[Any]
    batch: int
    world: int = 1
    rank: int = 0

    def __iter__(self) -> Iterator[Batch]:
        for start in range(0, len(self.source), self.batch):
            stop = min(start + self.batch, len(self.source))
            if mine := range(start + self.rank, stop, self.world):
                yield gather(self.source, mine)


def gather(source: ClipSource[Any], numbers: Sequence[int]) -> Batch:
    """Put sequences side by side."""
    clips = [source[number] for number in numbers]
    return collate(
        [Example(clip.history, clip.future, where=f"sequence {clip.where}") for clip in clips]
    )
