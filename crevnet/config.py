"""What shapes a network: enough to rebuild it from a checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any, Literal

from crevnet.plain import to_plain

Cell = Literal["conv_lstm", "st_lstm", "released_st_lstm"]
Attention = Literal["single", "double", "deep"]
Norm = Literal["group", "batch", "none"]


@dataclass(frozen=True, slots=True)
class CrevNetConfig:
    """A CrevNet (ICLR 2020) in numbers and names.

    Attributes:
        channels: Channels of a frame.
        static_channels: Channels of a map that does not change, given beside every frame.
        dims: 3 convolves a clip of frames in time and space, 2 in space alone.
        clip: Frames that one step sees, k in the paper. In 3D the depth of the volume; in 2D
            stacked in the channels, as the paper does for short sequences.
        blocks: Coupling blocks of each stage; each has three convolutions.
        strides: Spatial stride of each stage's first block, 1 or 2.
        bottleneck: A block's inner width is its output's over this, at least 1: wider, if below 1.
        norm: *group* normalises each sample alone; *batch* is BatchNorm, as released for MNIST;
            with *none* what a block adds shrinks with what it sees, so that a small word can be
            decoded: for a correction that is nearly nothing.
        cell: *conv_lstm* and *st_lstm* as in the paper's appendix A; *released_st_lstm* as in the
            authors' code, which also looks at the old cell, and at the new one across memories.
        attention: *single* 1x1 convolution (appendix B), *double* (section 2.2), *deep* with
            GroupNorm (the authors' Traffic4cast code).
        modules: Reversible predictive modules.
        gate_cap: Gates are at most this; below 1 keeps the conditional inverse well-conditioned.
        gate_bias: What the gates' logits start at; 0 leaves it to the layer. From 4 on, a step
            starts by saying what the cells say, and not what it saw: sooner learned where frames
            are mostly noise, but ill-conditioned to undo.
        dropout: Share of a block's values dropped before its last convolution, in training.
        anchored: In a roll-out, frames of a predicted clip that are known already are replaced by
            what is known, as released, before it is fed back.
    """

    channels: int = 1
    static_channels: int = 0
    dims: Literal[2, 3] = 3
    clip: int = 3
    blocks: tuple[int, ...] = (4, 5, 3)
    strides: tuple[int, ...] = (1, 2, 2)
    bottleneck: float = 2
    norm: Norm = "group"
    cell: Cell = "st_lstm"
    attention: Attention = "single"
    modules: int = 8
    gate_cap: float = 1.0
    gate_bias: float = 0.0
    dropout: float = 0.0
    anchored: bool = True

    def __post_init__(self) -> None:
        sizes = (self.channels, self.clip, self.modules, *self.blocks)
        if min(sizes) < 1 or self.static_channels < 0 or not self.bottleneck > 0:
            raise ValueError(f"{self}: every size is at least 1, the bottleneck above 0")
        if not self.blocks or len(self.blocks) != len(self.strides):
            raise ValueError(f"{len(self.blocks)} stages, but {len(self.strides)} strides")
        if set(self.strides) - {1, 2}:
            raise ValueError(f"strides {self.strides}, expected 1 or 2")
        for name, given, known in (
            ("dims", self.dims, (2, 3)),
            ("norm", self.norm, ("group", "batch", "none")),
            ("cell", self.cell, ("conv_lstm", "st_lstm", "released_st_lstm")),
            ("attention", self.attention, ("single", "double", "deep")),
        ):
            if given not in known:
                raise ValueError(f"{name} {given!r}, expected one of {known}")
        if not 0 < self.gate_cap <= 1 or not 0 <= self.dropout < 1:
            raise ValueError(f"gate_cap {self.gate_cap} or dropout {self.dropout} out of range")

    @property
    def input_channels(self) -> int:
        """Channels of the volume that the autoencoder sees."""
        frame = self.channels + self.static_channels
        if self.dims == 3:
            return frame
        return self.channels * self.clip + self.static_channels

    @property
    def factor(self) -> int:
        """How many times smaller a feature map is than a frame, along each side."""
        return 2 * prod(self.strides)

    @property
    def width(self) -> int:
        """Channels of each of the two groups of features."""
        return self.input_channels * 2 * prod(stride**2 for stride in self.strides)

    def to_dict(self) -> dict[str, Any]:
        """Return the same as plain values."""
        return to_plain(self)

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> CrevNetConfig:
        """Return a config from plain values.

        Raises:
            TypeError: A key is unknown.
            ValueError: A value is not allowed.
        """
        given: dict[str, Any] = {}
        for key, item in value.items():
            given[key] = tuple(item) if isinstance(item, list) else item
        return cls(**given)
