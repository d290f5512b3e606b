"""Moving MNIST as clips: drawn on the fly, or read from a fixed set."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DigitsError
from pipeline.heatmaps import open_frames
from pipeline.moving_mnist.draws import below, words
from pipeline.moving_mnist.motion import Motion
from pipeline.sources.clips import Clip

Movie = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class DrawnSequences:
    """Sequences drawn when asked for: number `i` follows from the seed and `i` alone.

    Attributes:
        glyphs: Digits to draw from, `(N, h, w)` uint8.
        motion: How they move.
        digits: In a frame.
        seed: Another seed is other sequences.
        purpose: What they are for; the same seed for another purpose is other sequences.
        count: How many there are.
        frames: Of a sequence.
        canvas: Rows and columns of a frame.
        history: Frames of a clip that a model sees; the others are its future.
    """

    glyphs: NDArray[np.uint8]
    motion: Motion
    digits: int
    seed: int
    purpose: str
    count: int
    frames: int = 20
    canvas: tuple[int, int] = (64, 64)
    history: int = 10

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Clip[int]:
        """Return a clip, `(T, 1, H, W)` and `(L, 1, H, W)`; it says its number."""
        return cut(self.movie(index), self.history, index)

    def movie(self, index: int) -> Movie:
        """Return all frames of a sequence, `(T, H, W)` uint8."""
        return self.motion.lay(self.layers(index))

    def layers(self, index: int) -> Movie:
        """Return each digit of a sequence alone, `(digits, T, H, W)` uint8.

        Raises:
            IndexError: There is no such sequence.
            ValueError: A digit leaves no room to move in.
        """
        if not 0 <= index < self.count:
            raise IndexError(f"sequence {index} of {self.count}")
        each = 1 + self.motion.words
        drawn = words(self.seed, self.purpose, index, self.digits * each)
        layers = np.zeros((self.digits, self.frames, *self.canvas), np.uint8)
        for digit, layer in enumerate(layers):
            which, *rest = drawn[digit * each : (digit + 1) * each]
            glyph = self.motion.enlarge(self.glyphs[below(which, len(self.glyphs))])
            h, w = glyph.shape
            room = self.canvas[0] - h, self.canvas[1] - w
            if min(room) < 1:
                raise ValueError(f"digits of {h} x {w} on a canvas of {self.canvas}")
            for frame, (y, x) in zip(
                layer, self.motion.path(rest, room, self.frames).tolist(), strict=True
            ):
                frame[y : y + h, x : x + w] = glyph
        return layers


@dataclass(frozen=True, slots=True)
class StoredSequences:
    """The sequences of a fixed set in a store, read one at a time.

    Attributes:
        path: Its file, from `pipeline.moving_mnist.store`.
        shape: `(N, T, H, W, 1)`, what the file must hold.
        history: Frames of a clip that a model sees.
    """

    path: Path
    shape: tuple[int, int, int, int, int]
    history: int = 10

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: int) -> Clip[int]:
        """Return a clip."""
        if not 0 <= index < len(self):
            raise IndexError(f"sequence {index} of {len(self)}")
        with open_frames(self.path, self.shape, own=True) as file:
            return cut(file.read(index, index + 1)[0, ..., 0], self.history, index)


@dataclass(frozen=True, eq=False)
class StandardSequences:
    """The sequences of `mnist_test_seq.npy`, as the field passes it around: `(T, N, H, W)` uint8.

    Attributes:
        path: The file.
        history: Frames of a clip that a model sees.
    """

    path: Path
    history: int = 10

    def __len__(self) -> int:
        return int(self.frames.shape[1])

    def __getitem__(self, index: int) -> Clip[int]:
        """Return a clip."""
        if not 0 <= index < len(self):
            raise IndexError(f"sequence {index} of {len(self)}")
        return cut(np.array(self.frames[:, index]), self.history, index)

    @cached_property
    def frames(self) -> NDArray[np.uint8]:
        """All frames, mapped and not read.

        Raises:
            DigitsError: There is no such file, or it is not one of sequences.
        """
        try:
            found = np.load(self.path, mmap_mode="r", allow_pickle=False)
        except FileNotFoundError:
            raise DigitsError(f"{self.path}: no such file") from None
        except (OSError, ValueError, EOFError) as fault:
            raise DigitsError(f"{self.path}: not a whole .npy file of numbers: {fault}") from None
        if not isinstance(found, np.ndarray) or found.dtype != np.uint8 or found.ndim != 4:
            what = f"{getattr(found, 'dtype', type(found).__name__)} {getattr(found, 'shape', '')}"
            raise DigitsError(f"{self.path}: {what}, expected uint8 (time, sequence, y, x)")
        if not found.shape[1] or found.shape[0] <= self.history:
            raise DigitsError(
                f"{self.path}: {found.shape[1]} sequences of {found.shape[0]} frames, "
                f"expected more than {self.history} frames"
            )
        return found


def cut(movie: Movie, history: int, index: int) -> Clip[int]:
    """Cut `(T, H, W)` after the history; with one channel."""
    frames = movie[:, None]
    return Clip(frames[:history], frames[history:], index)
