"""SSD's loss: what every anchor is, by softmax, and where the box of a matched one lies.

Torchvision's SSD has all of it inside one model of pictures, without places to be ignored; parts
of it are used here.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, smooth_l1_loss
from torchvision.models.detection._utils import BoxCoder, SSDMatcher
from torchvision.ops import box_area, box_iou

from crevnet.detection.batch import Target

CODER = BoxCoder(weights=(10.0, 10.0, 5.0, 5.0))
NOTHING, IGNORED = 0, -1
IGNORED_SHARE = 0.5
"""An anchor of which more than so much lies in an ignored box says nothing of what is not there."""


@dataclass(frozen=True, slots=True)
class MultiBox:
    """What is minimised.

    Attributes:
        overlap: An anchor is an object's from this intersection over union on; its best anchor is
            an object's in any case, but where two objects have the same best one it is the later
            one's, and the other has what else overlaps it so much, or nothing.
        negatives: Anchors of nothing that count for each of an object: the least believed ones.
        least: And as many at least in a frame, also in one without objects.
    """

    overlap: float = 0.5
    negatives: int = 3
    least: int = 16

    def __post_init__(self) -> None:
        if not 0 < self.overlap < 1 or self.negatives < 1 or self.least < 0:
            raise ValueError(f"{self}: an overlap in (0, 1), negatives from 1, least from 0")

    def match(self, anchors: Tensor, target: Target) -> tuple[Tensor, Tensor]:
        """Return what each anchor is, and which box it belongs to.

        Returns:
            Classes `(N,)`: from 1, or `NOTHING`, or `IGNORED`; boxes `(N,)`, 0 where there is none.
        """
        count = len(anchors)
        classes = torch.full((count,), NOTHING, dtype=torch.int64, device=anchors.device)
        boxes = torch.zeros_like(classes)
        if len(target.ignored):
            inside = _shared(anchors, target.ignored) / box_area(anchors)[:, None]
            classes[(inside > IGNORED_SHARE).any(1)] = IGNORED
        if len(target.boxes):
            matches = SSDMatcher(self.overlap)(box_iou(target.boxes, anchors))
            found = matches >= 0
            boxes[found] = matches[found]
            classes[found] = target.classes[matches[found]]
        return classes, boxes

    def __call__(
        self, logits: Tensor, codes: Tensor, anchors: Tensor, targets: tuple[Target, ...]
    ) -> Tensor:
        """Return the loss of a batch: a scalar, for each anchor that is an object's.

        Args:
            logits: `(B, N, 1 + classes)`.
            codes: `(B, N, 4)`.
            anchors: `(N, 4)`.
            targets: One a frame.
        """
        matched = [self.match(anchors, target) for target in targets]
        classes = torch.stack([one for one, _ in matched])  # (B, N)
        objects = classes > NOTHING
        place = logits.new_zeros(())
        for target, code, (_, boxes), mine in zip(targets, codes, matched, objects, strict=True):
            if mine.any():
                truth = CODER.encode_single(target.boxes[boxes[mine]], anchors[mine])
                place = place + smooth_l1_loss(code[mine], truth, reduction="sum")
        each = cross_entropy(logits.transpose(1, 2), classes.clamp(min=NOTHING), reduction="none")
        chosen = objects | self._hardest(each.detach(), classes)
        count = objects.sum().clamp(min=1)
        loss: Tensor = (place + each[chosen].sum()) / count
        return loss

    def _hardest(self, each: Tensor, classes: Tensor) -> Tensor:
        """Return which anchors of nothing count, `(B, N)`: those with the largest loss."""
        wanted = (classes > NOTHING).sum(1, keepdim=True).mul(self.negatives).clamp(min=self.least)
        nothing = classes == NOTHING
        ranked = torch.where(nothing, each, -torch.inf).argsort(dim=1, descending=True, stable=True)
        rank = torch.empty_like(ranked)
        places = torch.arange(each.shape[1], device=each.device).expand_as(ranked)
        rank.scatter_(1, ranked, places)
        return nothing & (rank < wanted)


def _shared(a: Tensor, b: Tensor) -> Tensor:
    """Return the area that boxes `(N, 4)` and `(M, 4)` share, `(N, M)`."""
    low = torch.maximum(a[:, None, :2], b[None, :, :2])
    high = torch.minimum(a[:, None, 2:], b[None, :, 2:])
    return (high - low).clamp(min=0).prod(-1)
