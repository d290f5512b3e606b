"""Average precision by KITTI's rules, at 11 recalls as until October 2019 and at 40 as since.

Precision is read at up to 41 scores, chosen so that recall rises by about 1/40 from one to the
next, and never falls with rising recall read backwards (Pascal VOC). AP11 is the mean of readings
0, 4, ..., 40, so a single sure hit is worth 1/11; AP40 the mean of readings 1 to 40. A class needs
41 labels or more for its readings to reach a recall of 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.errors import LabelError
from pipeline.kitti.labels import KittiObject, read_detections, read_labels
from pipeline.kitti.matching import Scene, scene
from pipeline.kitti.rules import DIFFICULTIES, RULES, ClassName

READINGS = 41
Image = tuple[Sequence[KittiObject], Sequence[KittiObject]]
"""Labels, and detections with scores."""


@dataclass(frozen=True, slots=True)
class AveragePrecision:
    """What detections of a class are worth at a difficulty.

    Attributes:
        ap11: Percent; none where no label must be found.
        ap40: Percent; none where no label must be found.
        wanted: Labels that must be found.
        found: Of them those found at any score.
        precision: `(41,)`, the readings.
    """

    ap11: float | None
    ap40: float | None
    wanted: int
    found: int
    precision: NDArray[np.float64]


def average_precision(
    images: Sequence[Image], kind: ClassName, difficulty: str
) -> AveragePrecision:
    """Return a class's average precision over images."""
    rule, limits = RULES[kind], DIFFICULTIES[difficulty]
    scenes = [scene(labels, found, kind, rule, limits) for labels, found in images]
    wanted = sum(one.wanted for one in scenes)
    scores = [score for one in scenes for score in one.found_scores()]
    precision = np.zeros(READINGS)
    said = [one for one in scenes if one.scores]
    for place, threshold in enumerate(recall_thresholds(scores, wanted)):
        precision[place] = _precision(said, threshold)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    if not wanted:
        return AveragePrecision(None, None, 0, 0, precision)
    return AveragePrecision(
        100 * float(precision[::4].mean()),
        100 * float(precision[1:].mean()),
        wanted,
        len(scores),
        precision,
    )


def recall_thresholds(scores: Iterable[float], wanted: int) -> list[float]:
    """Return the scores to read precision at, falling; at most 41.

    Args:
        scores: Of all true detections.
        wanted: Labels that must be found.
    """
    ranked = sorted(scores, reverse=True)
    chosen: list[float] = []
    recall = 0.0
    for place, score in enumerate(ranked, 1):
        here, last = place / wanted, place == len(ranked)
        if not last and (place + 1) / wanted - recall < recall - here:
            continue  # the next one is nearer to the recall that is looked for
        chosen.append(score)
        recall += 1 / (READINGS - 1)
    return chosen


def evaluate(images: Sequence[Image]) -> pd.DataFrame:
    """Return AP of all classes and difficulties, and their mean, a row each."""
    rows = []
    for kind in RULES:
        for difficulty in DIFFICULTIES:
            found = average_precision(images, kind, difficulty)
            rows.append(
                {
                    "class": kind,
                    "difficulty": difficulty,
                    "AP11": found.ap11,
                    "AP40": found.ap40,
                    "labels": found.wanted,
                    "found": found.found,
                }
            )
    table = pd.DataFrame(rows).set_index(["class", "difficulty"])
    return table.astype({"AP11": float, "AP40": float})


def read_images(truth: Path, detections: Path) -> dict[str, Image]:
    """Return labels and detections of every image; the truth decides which there are.

    Args:
        truth: Folder of labels.
        detections: Folder of detections: a file for each of labels, empty where there are none.

    Raises:
        LabelError: Files are missing or unexpected, or faulty; lists all that are.
    """
    wanted, found = (_names(folder) for folder in (truth, detections))
    if wanted != found:
        missing, beyond = sorted(wanted - found), sorted(found - wanted)
        raise LabelError(
            f"{detections}: {len(missing)} files are missing {missing[:10]}, "
            f"{len(beyond)} unexpected {beyond[:10]}"
        )
    images: dict[str, Image] = {}
    faults: list[str] = []
    for name in sorted(wanted):
        try:
            images[name] = read_labels(truth / name), read_detections(detections / name)
        except LabelError as fault:
            faults.append(str(fault))
    if faults:
        raise LabelError("\n".join(faults))
    return images


def as_detections(
    images: Mapping[str, Sequence[KittiObject]], score: float = 1.0
) -> dict[str, list[KittiObject]]:
    """Return labels as if a detector had said them: the test that must give 100."""
    return {
        name: [
            KittiObject(one.kind, one.box, score=score)
            for one in labels
            if one.kind.lower() != "dontcare"
        ]
        for name, labels in images.items()
    }


def _names(folder: Path) -> set[str]:
    if not folder.is_dir():
        raise LabelError(f"{folder}: no such folder")
    names = {path.name for path in folder.glob("*.txt")}
    if not names:
        raise LabelError(f"{folder}: no .txt files")
    return names


def _precision(scenes: Sequence[Scene], threshold: float) -> float:
    counts = np.array([one.count(threshold) for one in scenes]).sum(0)
    return float(counts[0] / counts.sum()) if counts.sum() else 0.0
