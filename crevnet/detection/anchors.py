"""Boxes to start from, on every feature map of a head."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.models.detection.anchor_utils import AnchorGenerator

Size = tuple[int, int]
SIZES = ((7.0, 10.0, 14.0, 20.0), (28.0, 40.0), (56.0, 80.0))
RATIOS = (0.45, 0.8, 2.5)
"""Sizes (roots of areas, pixels of 128 x 416) and ratios (height by width) of KITTI's objects: cars
seen from the side and from behind, persons. For maps of stride 4, 8 and 16."""


class Anchors:
    """Anchors in the middles of cells, as SSD has them; sizes and ratios as in torchvision."""

    def __init__(self, sizes: Sequence[Sequence[float]], ratios: Sequence[float]) -> None:
        self.each = [len(of_level) * len(ratios) for of_level in sizes]
        self._generator = AnchorGenerator(
            tuple(tuple(of_level) for of_level in sizes), (tuple(ratios),) * len(sizes)
        )
        self._generator.cell_anchors = [  # unrounded: the smallest are a few pixels wide
            _cell(of_level, ratios) for of_level in sizes
        ]

    def on(self, maps: Sequence[Size], strides: Sequence[int], device: torch.device) -> Tensor:
        """Return the anchors of maps of these rows and columns, `(N, 4)` pixels of the frame.

        They come map by map, cell by cell, and for each cell in the order of its anchors: that in
        which torchvision's SSD head speaks.
        """
        self._generator.cell_anchors = [
            cell.to(device) for cell in self._generator.cell_anchors or []
        ]
        steps = [[torch.tensor(s, device=device)] * 2 for s in strides]
        grids = self._generator.grid_anchors([list(size) for size in maps], steps)
        return torch.cat([grid + s / 2 for grid, s in zip(grids, strides, strict=True)])


def _cell(sizes: Sequence[float], ratios: Sequence[float]) -> Tensor:
    """Return a cell's anchors around its middle, `(len(sizes) * len(ratios), 4)`."""
    size = torch.tensor(sizes).repeat(len(ratios))
    root = torch.tensor(ratios).sqrt().repeat_interleave(len(sizes))
    width, height = size / root, size * root
    return torch.stack((-width, -height, width, height), 1) / 2
