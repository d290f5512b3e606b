"""What a head learns from: labelled pictures as frames and targets, in an order of its own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crevnet.detection.batch import DetectionBatch, Target, side_by_side
from flows.detection.config import DetectionConfig
from pipeline.kitti.boxes import Size, as_boxes, mirrored, scaled
from pipeline.kitti.labels import KittiObject
from pipeline.kitti.objects import ObjectFolder
from pipeline.kitti.rules import DIFFICULTIES, DONT_CARE, RULES

Frames = NDArray[np.uint8]
Labelled = tuple[Frames, Size, list[KittiObject]]
HARD = DIFFICULTIES["hard"]


def learned(one: KittiObject) -> int | None:
    """Return what an object is learned as: its class from 1, 0 as nothing, or none: not at all.

    Not learned, and not held against a head that says them: DontCare; vans and sitting persons;
    and what of a class need not be found even under KITTI's hard rules: too low, hidden or cut.
    """
    kind = one.kind.lower()
    for number, (name, rule) in enumerate(RULES.items(), 1):
        if kind in rule.neighbours:
            return None
        if kind == name.lower():
            beyond = (
                one.height < HARD.height
                or one.occluded > HARD.occluded
                or one.truncated > HARD.truncated
            )
            return None if beyond else number
    return None if kind == DONT_CARE else 0


def target_of(labels: Sequence[KittiObject], whole: Size, size: Size, mirror: bool) -> Target:
    """Return the target of a resized picture.

    Args:
        labels: In pixels of the picture on disk, cut to it.
        whole: Its rows and columns.
        size: Those that it is resized to.
        mirror: Of its mirror image.
    """
    kinds = [learned(one) for one in labels]
    boxes = scaled(as_boxes(labels), whole, size)
    if mirror:
        boxes = mirrored(boxes, size[1])
    told = [place for place, kind in enumerate(kinds) if kind]
    left_out = [place for place, kind in enumerate(kinds) if kind is None]
    return Target(
        torch.from_numpy(boxes[told]).float(),
        torch.tensor([kind for kind in kinds if kind], dtype=torch.int64),
        torch.from_numpy(boxes[left_out]).float(),
    )


def as_clip(frames: Frames, mirror: bool = False) -> Tensor:
    """Return frames `(T, H, W, 3)` uint8 as a network's `(T, 3, H, W)`."""
    seen = frames[:, :, ::-1] if mirror else frames
    return torch.from_numpy(np.ascontiguousarray(seen.transpose(0, 3, 1, 2)))


@dataclass(slots=True)
class PictureBatches:
    """One process's batches of labelled pictures: an epoch is every picture once, mirrored or not.

    Which are mirrored, and the order, follow from the seed and the epoch alone. What is left over
    of a batch at an epoch's end is not used in it.

    Attributes:
        folder: Where pictures are.
        numbers: Which.
        size: Rows and columns that they are resized to.
        batch: Pictures of a batch, over all processes.
        seed: Of order and mirrors.
        mirror: Whether to mirror half of them.
        keep: What to keep in memory of a picture once it is read: nothing, its frames and labels,
            or besides the features that are then what the learner is given.
        see: Turns `(1, T, 3, H, W)` frames into features, for these.
        world: Processes.
        rank: Which of them.
    """

    folder: ObjectFolder
    numbers: Sequence[int]
    size: Size
    batch: int
    seed: int
    mirror: bool = True
    keep: Literal["nothing", "frames", "features"] = "nothing"
    see: Callable[[Tensor], Tensor] | None = None
    world: int = 1
    rank: int = 0
    _pictures: dict[int, Labelled] = field(default_factory=dict)
    _features: dict[tuple[int, bool], Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        """Batches of an epoch."""
        return len(self.numbers) // self.batch

    def batches(self, epoch: int, first: int = 0) -> Iterator[DetectionBatch]:
        """Yield an epoch's batches from one on."""
        rng = np.random.default_rng((self.seed, epoch))
        order = rng.permutation(len(self.numbers))
        turned = rng.random(len(self.numbers)) < (0.5 if self.mirror else 0.0)
        for place in range(first, len(self)):
            chosen = order[place * self.batch : (place + 1) * self.batch][self.rank :: self.world]
            pairs = [(int(self.numbers[i]), bool(turned[i])) for i in chosen]
            examples = [self._example(number, mirror) for number, mirror in pairs]
            yield side_by_side(
                [seen for seen, _ in examples],
                [target for _, target in examples],
                [f"{number:06d}{' mirrored' * mirror}" for number, mirror in pairs],
            )

    def _example(self, number: int, mirror: bool) -> tuple[Tensor, Target]:
        frames, whole, labels = self._read(number)
        target = target_of(labels, whole, self.size, mirror)
        if self.keep != "features" or self.see is None:
            return as_clip(frames, mirror), target
        if (number, mirror) not in self._features:
            self._features[number, mirror] = self.see(as_clip(frames, mirror)[None])[0].cpu()
        return self._features[number, mirror], target

    def _read(self, number: int) -> Labelled:
        if number in self._pictures:
            return self._pictures[number]
        found = *self.folder.read_frames(number, self.size), self.folder.read_labels(number)
        if self.keep != "nothing":
            self._pictures[number] = found
        return found


def learned_from(config: DetectionConfig, numbers: Sequence[int]) -> str:
    """Return what is learned from as a text: pictures and labels by a checksum of all of them.

    Every file is read once: some 0.8 MB a frame of KITTI's.

    Raises:
        OSError: A file cannot be read.
    """
    digest = hashlib.sha256()
    folder = config.training.folder
    for number in numbers:
        paths = [folder.picture(number)]
        paths += [] if folder.is_still(number) else folder.before(number)
        for path in paths:
            with path.open("rb") as file:
                checksum = hashlib.file_digest(file, "sha256").hexdigest()
            digest.update(f"{path.name} {checksum}\n".encode())
        digest.update(folder.label(number).read_bytes())
    facts = {
        "pictures": len(numbers),
        "files_sha256": digest.hexdigest(),
        "size": config.size,
        "mirror": config.mirror,
        "features_kept": config.keep == "features",
        "classes": config.classes,
        "stills": sum(folder.is_still(number) for number in numbers),
    }
    return json.dumps(facts, sort_keys=True)
