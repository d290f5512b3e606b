"""What was found beside what is there: AP, the paper's figures, pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from flows.detection.config import DetectionConfig
from flows.detection.find import Found, labels_folder, name_of
from flows.detection.train import TrainedHead
from flows.recipe import Outcome, publish_image, publish_table, step
from pipeline.benchmark_table import write_tables
from pipeline.kitti.average_precision import as_detections, evaluate, read_images
from pipeline.kitti.drawing import Scene, draw_boxes
from pipeline.kitti.labels import read_detections
from pipeline.kitti.rules import DIFFICULTIES, RULES

CEILING = "the labels themselves"
COLUMNS = [f"{kind} {level}" for kind in RULES for level in DIFFICULTIES]


def report(
    config: DetectionConfig,
    found: Mapping[str, Found],
    trained: Mapping[str, TrainedHead],
    labelled: bool,
) -> Outcome:
    """Write tables and pictures; return what to say.

    Args:
        config: What was asked for.
        found: Of each head.
        trained: Of each head that was trained now.
        labelled: Whether the pictures that were searched have labels.

    Raises:
        LabelError: A file of detections or labels is not what was written.
    """
    numbers = config.test.numbers()
    outcome = Outcome(facts={"pictures": len(numbers), "heads": {}})
    outcome.lines.append(_about(config, numbers, outcome.facts))
    for name, one in trained.items():
        outcome.lines.append(
            f"{name}: {one.steps} steps, {one.cpu_seconds:.0f} CPU-seconds, loss "
            f"{one.losses[0]:.3f} -> {one.losses[1]:.3f}; CrevNet's weights before and after "
            f"{one.weights[:16]}"
        )
    for name, of_head in found.items():
        outcome.lines.append(
            f"{name}: {of_head.boxes} boxes -> {of_head.folder}; {of_head.fps:.2f} pictures a "
            f"second on {of_head.device}, {of_head.threads} threads, {of_head.cpu_seconds:.2f} "
            "CPU-seconds each, one at a time, from the bytes of four frames to boxes"
        )
        facts = asdict(of_head) | {"fps": of_head.fps, "folder": str(of_head.folder)}
        if name in trained:
            facts |= {"trained": asdict(trained[name]) | {"path": str(trained[name].path)}}
        outcome.facts["heads"][name] = facts
    if labelled:
        _score(config, found, outcome)
    for name, of_head in found.items():
        if config.draw.images:
            path = draw(config, name, of_head.folder, labelled)
            publish_image(f"detections-{name}", path, f"{name}: found and labelled")
            outcome.lines.append(f"{path}: boxes of scores above {config.draw.least:g}")
    return outcome


def _about(config: DetectionConfig, numbers: Sequence[int], facts: dict[str, Any]) -> str:
    """Say what the figures are of: learned from or not, stills or not."""
    same = config.training.root.resolve() == config.test.root.resolve()
    learned = {*config.training.numbers()} if same else set()
    seen = sum(number in learned for number in numbers)
    stills = sum(config.test.folder.is_still(number) for number in numbers)
    facts |= {"learned_from": seen, "stills": stills}
    said = f"{config.title}: {len(numbers)} pictures"
    if seen:
        said += f", {seen} of them those that were learned from: no measure of detection elsewhere"
    if stills:
        said += f"; {stills} are stills, the picture itself standing for the frames before it"
    return said


def _score(config: DetectionConfig, found: Mapping[str, Found], outcome: Outcome) -> None:
    truth = labels_folder(config)
    rows: dict[str, dict[str, Any]] = {}
    forty: dict[str, dict[str, Any]] = {}
    images: dict[str, Any] = {}
    for name, of_head in found.items():
        images = read_images(truth, of_head.folder)
        table = evaluate([*images.values()])
        table.index = pd.Index([" ".join(key) for key in table.index], name="class")
        write_tables(config.out / f"ap_{name}", table, f"KITTI AP of {name}: {outcome.lines[0]}")
        rows[name], forty[name] = (_row(table[ap]) for ap in ("AP11", "AP40"))
        rows[name]["FPS"] = of_head.fps
    labels = {name: labels for name, (labels, _) in images.items()}
    best = [(labels[name], said) for name, said in as_detections(labels).items()]
    ceiling = evaluate(best)
    ceiling.index = pd.Index([" ".join(key) for key in ceiling.index])
    rows[CEILING] = _row(ceiling["AP11"])
    outcome.facts["AP11"], outcome.facts["AP40"] = rows.copy(), forty
    for name, published in config.published.items():
        values = (*published.car, *published.pedestrian, *published.cyclist)
        quoted = dict(zip(COLUMNS, values, strict=True))
        rows[f"{name} (published)"] = _row(pd.Series(quoted))
    table = pd.DataFrame.from_dict(rows, orient="index", columns=[*COLUMNS, "mAP", "FPS"])
    table.index.name = "AP11"
    publish_table("detection", table, config.title)
    title = f"{outcome.lines[0]}. Published figures are of other pictures"
    outcome.lines += ["", *write_tables(config.out / "table", table, title).splitlines()[2:], ""]
    outcome.lines += [f"t4c kitti-ap {truth} {of_head.folder}" for of_head in found.values()]


def _row(values: pd.Series[Any]) -> dict[str, Any]:
    """Return AP by class and difficulty, and their mean where all are known."""
    plain = {str(k): None if pd.isna(v) else float(v) for k, v in values.items()}
    known = [value for value in plain.values() if value is not None]
    return plain | {"mAP": sum(known) / len(known) if len(known) == len(COLUMNS) else None}


@step
def draw(config: DetectionConfig, name: str, folder: Path, labelled: bool) -> Path:
    """Draw the boxes of the pictures to look at."""
    source, scenes = config.test.folder, list[Scene]()
    for number in config.draw.images:
        _, whole = source.read_frames(number, config.size)
        rows = round(config.draw.width * whole[0] / whole[1])
        pixels, _ = source.read_frames(number, (rows, config.draw.width))
        found = [
            one
            for one in read_detections(folder / name_of(number))
            if one.score is not None and one.score > config.draw.least
        ]
        labels = source.read_labels(number) if labelled else []
        scenes.append((f"{number:06d}", pixels[-1], whole, found, labels))
    return draw_boxes(config.out / f"detections_{name}.png", scenes, config.classes)
