"""Windows of drives as clips; none crosses from one drive into another."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np

from pipeline.errors import VideoError
from pipeline.heatmaps import open_frames
from pipeline.sources.clips import Clip, ClipSource
from pipeline.video.store import StoredDrive


@dataclass(frozen=True, slots=True, order=True)
class VideoWindow:
    """Where a clip was cut: a drive, and its first frame in the store."""

    drive: str
    start: int

    def __str__(self) -> str:
        return f"{self.drive} from {self.start}"


@dataclass(frozen=True, eq=False)
class DriveWindows:
    """The windows of some drives, drive after drive.

    Attributes:
        store: Where drives are kept.
        drives: Which.
        size: Rows, columns and channels of a frame.
        history: Frames of a clip that a model sees.
        horizon: Frames it should say.
        stride: Frames from one window's start to the next.
    """

    store: Path
    drives: tuple[StoredDrive, ...]
    size: tuple[int, int, int]
    history: int
    horizon: int
    stride: int = 1

    def __post_init__(self) -> None:
        if not len(self):
            length = self.history + self.horizon
            there = {drive.name: drive.frames for drive in self.drives}
            raise VideoError(f"{self.store}: no drive of {length} frames; there are {there}")

    @property
    def _ends(self) -> list[int]:
        """Return, drive by drive, how many windows there are up to its end."""
        length = self.history + self.horizon
        counts = (len(range(0, d.frames - length + 1, self.stride)) for d in self.drives)
        return list(accumulate(counts))

    def __len__(self) -> int:
        return self._ends[-1] if self.drives else 0

    def where(self, index: int) -> VideoWindow:
        """Return where a clip is cut.

        Raises:
            IndexError: There is no such window.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"window {index} of {len(self)}")
        place = bisect_right(self._ends, index)
        before = self._ends[place - 1] if place else 0
        return VideoWindow(self.drives[place].name, (index - before) * self.stride)

    def __getitem__(self, index: int) -> Clip[VideoWindow]:
        """Return a clip, `(T, 3, H, W)` and `(L, 3, H, W)` uint8, RGB."""
        where = self.where(index)
        drive = next(drive for drive in self.drives if drive.name == where.drive)
        stop = where.start + self.history + self.horizon
        with open_frames(self.store / drive.file, (drive.frames, *self.size), own=True) as file:
            frames = np.ascontiguousarray(np.moveaxis(file.read(where.start, stop), -1, 1))
        return Clip(frames[: self.history], frames[self.history :], where)


@dataclass(frozen=True, slots=True, eq=False)
class ShuffledWindows:
    """Windows for ever, all of them before any comes again; number `n` follows from the seed alone.

    Attributes:
        whole: Windows.
        seed: Of their order, and of which are mirrored.
        mirror: Mirror half of them, left to right.
    """

    whole: DriveWindows | ClipSource[VideoWindow]
    seed: int
    mirror: bool = False

    def __len__(self) -> int:
        return 1 << 40

    def __getitem__(self, index: int) -> Clip[VideoWindow]:
        """Return a clip."""
        if not 0 <= index < len(self):
            raise IndexError(f"window {index} of {len(self)}")
        epoch, place = divmod(index, len(self.whole))
        rng = np.random.default_rng([self.seed, epoch])
        order: Sequence[int] = rng.permutation(len(self.whole)).tolist()
        mirrored = self.mirror and bool(rng.integers(0, 2, len(self.whole))[place])
        clip = self.whole[order[place]]
        if not mirrored:
            return clip
        return Clip(clip.history[..., ::-1].copy(), clip.future[..., ::-1].copy(), clip.where)
