"""How digits move, by name; whole numbers only, so that every machine draws the same frames.

Two generators are in use, and figures on one say nothing on the other:

* *authors*: as the CrevNet authors' released code draws. Digits enlarged to 32 x 32, whole
  velocities of -4 to 4 pixels a frame on each axis, 0 among them; at a wall the place is clamped to
  0 or to the last place but one and that velocity turns; brightness adds up, to 255 at most.
* *common*: as the benchmark file of 10,000 sequences was drawn (Srivastava et al., 2015). Digits as
  they are, 28 x 28; a random heading, a tenth of the free range a frame (3.6 pixels of 64 - 28); at
  a wall the place is clamped to it and that velocity turns; the brighter digit is on top.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.moving_mnist.draws import below
from pipeline.moving_mnist.entry import MotionName

Places = NDArray[np.int64]
FINE = 20
"""Places of *common* are whole multiples of 2^-20 pixels."""


class Motion(Protocol):
    """How one digit is sized and moved, and how several are laid over each other."""

    words: ClassVar[int]
    """Random words that a path takes."""

    def enlarge(self, digit: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return a digit `(h, w)` as it is drawn."""
        ...

    def path(self, words: list[int], room: tuple[int, int], frames: int) -> Places:
        """Return a digit's top left corner in each frame, `(T, 2)`: row and column.

        Args:
            words: As many as `words` says.
            room: Rows and columns of the canvas that the digit leaves free, at least 1.
            frames: T.
        """
        ...

    def lay(self, layers: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return `(digits, ...)` layers as one picture `(...)`."""
        ...


@dataclass(frozen=True, slots=True)
class Authors:
    """Whole velocities, zero among them."""

    words: ClassVar[int] = 4
    size: ClassVar[int] = 32
    fastest: ClassVar[int] = 4

    def enlarge(self, digit: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Enlarge to 32 x 32."""
        return enlarged(digit, (self.size, self.size))

    def path(self, words: list[int], room: tuple[int, int], frames: int) -> Places:
        """Turn, draw, then move; so a place may be clamped that was never drawn."""
        places = np.empty((frames, 2), np.int64)
        for axis in (0, 1):
            place = below(words[axis], room[axis])
            speed = below(words[2 + axis], 2 * self.fastest + 1) - self.fastest
            for t in range(frames):
                if place < 0 or place >= room[axis]:
                    place, speed = (0 if place < 0 else room[axis] - 1), -speed
                places[t, axis] = place
                place += speed
        return places

    def lay(self, layers: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Add brightness."""
        bright: NDArray[np.uint8] = layers.sum(0, dtype=np.uint16).clip(max=255).astype(np.uint8)
        return bright


@dataclass(frozen=True, slots=True)
class Common:
    """One speed, any heading."""

    words: ClassVar[int] = 3
    share: ClassVar[float] = 0.1

    def enlarge(self, digit: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Leave it as it is."""
        return digit

    def path(self, words: list[int], room: tuple[int, int], frames: int) -> Places:
        """Move, turn, then draw."""
        heading = 2 * math.pi * (words[2] >> 11) / 2**53
        places = np.empty((frames, 2), np.int64)
        for axis, part in enumerate((math.sin(heading), math.cos(heading))):
            end = room[axis] << FINE
            place = below(words[axis], 1 << 32) * end >> 32
            speed = round(self.share * end * part)
            for t in range(frames):
                place += speed
                if place <= 0 or place >= end:
                    place, speed = (0 if place <= 0 else end), -speed
                places[t, axis] = place >> FINE
        return places

    def lay(self, layers: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Show the brightest."""
        top: NDArray[np.uint8] = layers.max(0)
        return top


MOTIONS: dict[MotionName, Motion] = {"authors": Authors(), "common": Common()}


def enlarged(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize by linear interpolation between pixel centres, in whole numbers, rounded once.

    Args:
        image: `(h, w)`.
        size: Rows and columns wanted, no fewer than there are.
    """
    rows, row_scale = _weights(image.shape[0], size[0])
    columns, column_scale = _weights(image.shape[1], size[1])
    scale = row_scale * column_scale
    blended = rows @ image.astype(np.int64) @ columns.T
    return ((blended + scale // 2) // scale).astype(np.uint8)


def _weights(old: int, new: int) -> tuple[Places, int]:
    """Return whole weights `(new, old)` of linear interpolation, and what each row adds up to."""
    if new < old:
        raise ValueError(f"{old} pixels made {new}: expected no fewer")
    scale = 2 * new
    weights = np.zeros((new, old), np.int64)
    for at in range(new):
        place = (2 * at + 1) * old - new  # of the centre, in units of 1 / scale
        first, part = divmod(min(max(place, 0), (old - 1) * scale), scale)
        weights[at, first] += scale - part
        weights[at, min(first + 1, old - 1)] += part
    return weights, scale
