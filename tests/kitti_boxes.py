"""Random detections around labels, and KITTI's own label files."""

from __future__ import annotations

import lzma
import tarfile
from pathlib import Path

import numpy as np

from pipeline.kitti.labels import KittiObject, parse

KINDS = ("Car", "Pedestrian", "Cyclist", "Van")


def read_archive(path: Path, every: int = 1) -> dict[str, list[KittiObject]]:
    """Labels of every n-th file of an archive, by name."""
    labels = {}
    with lzma.open(path) as packed, tarfile.open(fileobj=packed) as archive:
        for number, member in enumerate(m for m in archive if m.isfile()):
            if number % every == 0:
                text = archive.extractfile(member).read().decode("ascii")
                labels[member.name] = parse(text, member.name)
    return labels


def random_detections(labels: list[KittiObject], rng: np.random.Generator) -> list[KittiObject]:
    """Moved, doubled, missed, renamed and false boxes; scores with ties."""
    found = []
    for one in labels:
        for _ in range(rng.choice(3, p=[0.2, 0.6, 0.2])):
            x1, y1, x2, y2 = one.box
            w, h = x2 - x1, y2 - y1
            dx, dy, dw, dh = rng.normal(0, 0.07, 4)
            box = (x1 + dx * w, y1 + dy * h, x2 + dw * w, y2 + dh * h)
            if box[2] > box[0] and box[3] > box[1]:
                named = one.kind if rng.random() < 0.85 else str(rng.choice(KINDS))
                found.append(KittiObject(named, box, score=round(rng.random(), 2)))
    for _ in range(rng.integers(0, 3)):
        x, y, w, h = rng.random(4) * (1100, 250, 150, 100) + (0, 0, 5, 5)
        score = round(rng.random(), 2)
        found.append(KittiObject(str(rng.choice(KINDS)), (x, y, x + w, y + h), score=score))
    return [found[i] for i in rng.permutation(len(found))]
