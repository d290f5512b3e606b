"""A frozen CrevNet and a head that learned on it: frames in, boxes out."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from time import perf_counter, process_time
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torchvision.ops import batched_nms, clip_boxes_to_image

from crevnet.autoencoder import MemoryMode
from crevnet.detection.batch import DetectionBatch
from crevnet.detection.features import FrozenCrevNet
from crevnet.detection.head import DetectionHead
from crevnet.detection.loss import CODER, MultiBox
from crevnet.learner import Learner


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """What is found in a frame, the surest first.

    Attributes:
        boxes: float32 `(n, 4)`: left, top, right, bottom in pixels of the frame, inside it.
        classes: int64 `(n,)`, from 1: the head's, in its order.
        scores: float32 `(n,)`, above 0 and at most 1.
    """

    boxes: Tensor
    classes: Tensor
    scores: Tensor


class Seconds(NamedTuple):
    """From the bytes of frames to boxes: by the clock, and of all the processor's cores."""

    wall: float
    cpu: float


@dataclass(frozen=True, slots=True)
class Choice:
    """Which of the boxes that a head says are told.

    Attributes:
        least: Scores above this.
        overlap: Of two boxes of a class whose intersection over union is above this, the surer.
        candidates: Of each class, so many at most before boxes are held against each other.
        most: Boxes of a frame.
    """

    least: float = 0.02
    overlap: float = 0.45
    candidates: int = 400
    most: int = 100

    def __post_init__(self) -> None:
        if not 0 <= self.least < 1 or not 0 < self.overlap <= 1:
            raise ValueError(f"{self}: shares out of range")
        if min(self.candidates, self.most) < 1:
            raise ValueError(f"{self}: counts from 1")

    def of(
        self, logits: Tensor, codes: Tensor, anchors: Tensor, size: tuple[int, int]
    ) -> Detections:
        """Return what is told of a frame: `(N, 1 + classes)`, `(N, 4)`, `(N, 4)`, its size."""
        scores = logits.softmax(-1)[:, 1:]
        boxes = clip_boxes_to_image(CODER.decode_single(codes, anchors), size)
        there = (boxes[:, 2:] - boxes[:, :2] > 0).all(1)
        found = []
        for kind in range(scores.shape[1]):
            places = ((scores[:, kind] > self.least) & there).nonzero().squeeze(1)
            best = scores[places, kind].topk(min(self.candidates, len(places))).indices
            places = places[best]
            found.append((boxes[places], torch.full_like(places, kind + 1), scores[places, kind]))
        of_all, classes, sure = (torch.cat(part) for part in zip(*found, strict=True))
        kept = batched_nms(of_all, sure, classes, self.overlap)[: self.most]
        return Detections(of_all[kept], classes[kept], sure[kept])


class HeadLearner(Learner):
    """A head on its way, and the frozen CrevNet that sees for it."""

    def __init__(self, frozen: FrozenCrevNet, head: DetectionHead, loss: MultiBox) -> None:
        super().__init__()
        self.frozen, self.head, self.loss = frozen, head, loss

    @property
    def network(self) -> nn.Module:
        """The head: it alone learns."""
        return self.head

    def identity(self) -> dict[str, Any]:
        """Return what the head learns on, and how."""
        seen = {f"crevnet: {name}": value for name, value in self.frozen.facts().items()}
        return seen | {f"loss: {name}": value for name, value in asdict(self.loss).items()}

    def forward(self, batch: DetectionBatch, memory: MemoryMode = "plain") -> Tensor:
        """Return the batch's loss, a float32 scalar."""
        features = batch.seen if batch.seen.is_floating_point() else self.frozen(batch.seen)
        logits, codes, anchors = self.head(features)
        return self.loss(logits, codes, anchors, batch.targets).float()


class Detector:
    """The front door: frames of bytes in, boxes out."""

    def __init__(self, frozen: FrozenCrevNet, head: DetectionHead, choice: Choice) -> None:
        self.frozen, self.head, self.choice = frozen.eval(), head.eval(), choice

    @torch.no_grad()
    def detect(self, frames: Tensor) -> list[Detections]:
        """Find objects in the last frame of each clip.

        Args:
            frames: uint8 `(B, T, 3, H, W)`, on the networks' device.
        """
        logits, codes, anchors = self.head(self.frozen(frames))
        size = (frames.shape[-2], frames.shape[-1])
        return [
            self.choice.of(*of_frame, anchors, size)
            for of_frame in zip(logits.float(), codes.float(), strict=True)
        ]

    def timed(self, frames: Tensor) -> tuple[Detections, Seconds]:
        """Find objects in one clip `(1, T, 3, H, W)`; say also how long that took."""
        _wait(frames)
        wall, cpu = perf_counter(), process_time()
        found = self.detect(frames)[0]
        _wait(frames)
        return found, Seconds(perf_counter() - wall, process_time() - cpu)


def _wait(frames: Tensor) -> None:
    """Wait for a GPU: it is asked and not waited for."""
    if frames.is_cuda:
        torch.cuda.synchronize(frames.device)
