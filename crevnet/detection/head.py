"""An SSD head (arXiv 1512.02325): class and place of every anchor, on maps that grow coarser."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

from torch import Tensor, nn
from torchvision.models.detection.ssd import SSDHead

from crevnet.detection.anchors import RATIOS, SIZES, Anchors

FAINT = 1e-5
"""A channel that differs no more than this over a frame says little; a mask may by some 3e-4."""


@dataclass(frozen=True, slots=True)
class HeadConfig:
    """What shapes a head: enough to build it again.

    Attributes:
        channels: Of the features it sees.
        stride: Pixels of a frame for one cell of the features, along each side.
        classes: Kinds it tells apart, in order; nothing at all is told apart from them too.
        width: Channels of its own maps.
        finer: How many times finer its first map is than the features: each cell says so many
            cells along each side, where a network's are larger than the smallest objects.
        depth: Convolutions on the first map before it speaks.
        sizes: Of the anchors of each map, pixels of the frame, a map for each; each has half the
            rows and columns of the one before.
        ratios: Height by width, of every map's anchors.
    """

    channels: int
    stride: int
    classes: tuple[str, ...] = ("Car", "Pedestrian", "Cyclist")
    width: int = 64
    finer: int = 1
    depth: int = 2
    sizes: tuple[tuple[float, ...], ...] = field(default=SIZES)
    ratios: tuple[float, ...] = field(default=RATIOS)

    def __post_init__(self) -> None:
        if min(self.channels, self.stride, self.width, self.finer) < 1:
            raise ValueError(f"{self}: every size is at least 1")
        if self.depth < 0 or not self.classes or len({*self.classes}) < len(self.classes):
            raise ValueError(f"depth {self.depth}, classes {self.classes}: expected each once")
        if self.stride % self.finer:
            raise ValueError(f"cells of {self.stride} pixels, {self.finer} times finer")
        numbers = [number for sizes in (*self.sizes, self.ratios) for number in sizes]
        if not self.sizes or not all(self.sizes) or not self.ratios or min(numbers) <= 0:
            raise ValueError(f"sizes {self.sizes}, ratios {self.ratios}: expected above 0")

    @property
    def strides(self) -> tuple[int, ...]:
        """Pixels of the frame for one cell of each map."""
        return tuple(self.stride // self.finer * 2**level for level in range(len(self.sizes)))


class DetectionHead(nn.Module):
    """Features of a frame to a word on every anchor.

    Shapes:
        Features `(B, channels, h, w)`; logits `(B, N, 1 + classes)`, the first that of nothing;
        codes `(B, N, 4)`, where the box lies from the anchor, as Faster R-CNN codes it.
    """

    def __init__(self, config: HeadConfig) -> None:
        super().__init__()
        self.config = config
        # each channel by itself: a mask differs less over a frame than from one channel to the next
        self.norm = nn.GroupNorm(config.channels, config.channels, eps=FAINT**2)
        self.enter = nn.Conv2d(config.channels, config.width * config.finer**2, 1)
        self.shuffle = nn.PixelShuffle(config.finer)
        self.first = nn.Sequential(*(_block(config.width, 1) for _ in range(config.depth)))
        self.coarser = nn.ModuleList(_block(config.width, 2) for _ in config.sizes[1:])
        self.anchors = Anchors(config.sizes, config.ratios)
        levels = len(config.sizes)
        self.say = SSDHead([config.width] * levels, self.anchors.each, 1 + len(config.classes))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return logits, codes, and the anchors they are about, `(N, 4)` pixels of the frame."""
        maps = [self.first(self.shuffle(self.enter(self.norm(features))))]
        for level in self.coarser:
            maps.append(level(maps[-1]))
        said = self.say(maps)
        sizes = [(one.shape[-2], one.shape[-1]) for one in maps]
        anchors = self.anchors.on(sizes, self.config.strides, features.device)
        return said["cls_logits"], said["bbox_regression"], anchors


def _block(width: int, stride: int) -> nn.Sequential:
    convolution = partial(nn.Conv2d, width, width, 3, stride, 1, bias=False)
    return nn.Sequential(convolution(), nn.GroupNorm(1, width), nn.ReLU())
