"""Train detection heads on a frozen CrevNet, find objects, write them as KITTI does, score them."""

from __future__ import annotations

from collections.abc import Sequence

from flows.detection.config import DetectionConfig
from flows.recipe import Outcome
from pipeline.errors import ConfigError


def detect(config: DetectionConfig, *, heads: Sequence[str] = (), train: bool = True) -> Outcome:
    """Train every head from where it was left, search the pictures, score, draw.

    Args:
        config: What, on which network.
        heads: Which of its heads; all, if none is named.
        train: Whether to train; else heads are taken as they are.

    Raises:
        ConfigError: There is no such head or picture to draw, or a setting is impossible.
        LabelError: Labels are missing or faulty.
        ModelError: The network or a head is missing, damaged, or not the other's.
        StoppedError: A signal asked a training to stop; its state is saved.
        VideoError: Pictures, or frames before them, are missing or faulty.
    """
    from flows.detection.find import Found, are_labelled, find_objects, keep_labels
    from flows.detection.report import report
    from flows.detection.train import TrainedHead, settings_of, train_head

    if unknown := [name for name in heads if name not in config.heads]:
        raise ConfigError(f"heads: no {unknown}; there are {[*config.heads]}")
    names = [name for name in config.heads if not heads or name in heads]
    numbers, labelled = config.test.numbers(), are_labelled(config)
    config.test.folder.check(numbers, labelled=labelled)
    if strange := [number for number in config.draw.images if number not in numbers]:
        raise ConfigError(f"draw.images: {strange} are not among the pictures to test")
    for name in names if train else ():
        settings_of(config, name)
    trained: dict[str, TrainedHead] = {}
    for name in names if train else ():
        trained[name] = train_head(config, name)  # outside a flow, several processes go on together
    if not all(one.mine for one in trained.values()):  # and then the first one tells
        return Outcome()
    if labelled:
        keep_labels(config)
    found: dict[str, Found] = {name: find_objects(config, name) for name in names}
    return report(config, found, trained, labelled)
