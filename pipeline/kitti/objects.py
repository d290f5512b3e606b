"""KITTI's object pictures: a picture, the three frames before it, and its labels.

    image_2/000011.png    the left colour camera
    prev_2/000011_01.png  one frame earlier, 0.1 s; _02 and _03 two and three frames
    label_2/000011.txt

Frames are RGB bytes, the whole picture resized (bilinear) to the size a network sees; what is 3.3
times as wide as high is made 3.25 times, at the paper's 128 x 416.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.errors import LabelError, VideoError
from pipeline.kitti.boxes import Size, cut_labels
from pipeline.kitti.labels import KittiObject, read_labels
from pipeline.video.prednet_crop import MODES

BEFORE = 3
"""Frames before a picture that KITTI gives."""
Preceding = Literal["required", "repeat"]


@dataclass(frozen=True, slots=True)
class ObjectFolder:
    """A folder of KITTI's object pictures.

    Attributes:
        root: Holds `image_2`, and may hold `prev_2` and `label_2`.
        preceding: What to do with a picture without the frames before it: *required* refuses it,
            *repeat* takes the picture itself for all three: a still, in which nothing moves.
    """

    root: Path
    preceding: Preceding = "required"

    def picture(self, number: int) -> Path:
        """Return where a picture is."""
        return self.root / "image_2" / f"{number:06d}.png"

    def label(self, number: int) -> Path:
        """Return where a picture's labels are, if there are any."""
        return self.root / "label_2" / f"{number:06d}.txt"

    def before(self, number: int) -> list[Path]:
        """Return where the frames before a picture are, oldest first."""
        return [
            self.root / "prev_2" / f"{number:06d}_{back:02d}.png" for back in range(BEFORE, 0, -1)
        ]

    def is_still(self, number: int) -> bool:
        """Return whether there are no frames before a picture, and it stands for them itself.

        Raises:
            VideoError: Some are missing, or all of them and they are required; names these.
        """
        missing = [path for path in self.before(number) if not path.is_file()]
        if missing and (self.preceding == "required" or len(missing) < BEFORE):
            names = ", ".join(path.name for path in missing)
            raise VideoError(f"{self.root / 'prev_2'}: missing {names}, needed before a picture")
        return bool(missing)

    def numbers(self) -> list[int]:
        """Return the numbers of all pictures.

        Raises:
            VideoError: There are none, or one has another name.
        """
        folder = self.root / "image_2"
        paths = sorted(folder.glob("*.png"))
        strange = [path.name for path in paths if not _is_number(path.stem)]
        if strange or not paths:
            raise VideoError(f"{folder}: {strange[:5] or 'no pictures'}, expected NNNNNN.png")
        return [int(path.stem) for path in paths]

    def check(self, numbers: Sequence[int], *, labelled: bool) -> None:
        """Refuse what lacks pictures, frames before them or labels, before work starts.

        Raises:
            LabelError: Labels are missing.
            VideoError: Pictures or frames are missing, or a number is there twice.
        """
        if twice := sorted(n for n, times in Counter(numbers).items() if times > 1):
            raise VideoError(f"{self.root}: picture {twice[:10]} named more than once")
        missing = [n for n in numbers if not self.picture(n).is_file()]
        if missing or not numbers:
            said = f"{len(missing)} pictures are missing, {missing[:10]}" if numbers else "none"
            raise VideoError(f"{self.root / 'image_2'}: {said}")
        for number in numbers:
            self.is_still(number)
        unlabelled = [n for n in numbers if not self.label(n).is_file()] if labelled else []
        if unlabelled:
            raise LabelError(
                f"{self.root / 'label_2'}: {len(unlabelled)} files are missing, {unlabelled[:10]}"
            )

    def read_frames(self, number: int, size: Size) -> tuple[NDArray[np.uint8], Size]:
        """Return a picture and the frames before it, and the picture's own size.

        Returns:
            `(4, *size, 3)` uint8 RGB, the picture last; its rows and columns on disk.

        Raises:
            VideoError: A file is missing, cannot be decoded, or is not of the picture's size.
        """
        last, whole = _read(self.picture(number), size)
        if self.is_still(number):
            return np.repeat(last[None], BEFORE + 1, 0), whole
        frames = []
        for path in self.before(number):
            frame, found = _read(path, size)
            if found != whole:
                raise VideoError(
                    f"{path}: {found[0]} x {found[1]}, but {self.picture(number).name} is "
                    f"{whole[0]} x {whole[1]}"
                )
            frames.append(frame)
        return np.stack([*frames, last]), whole

    def read_labels(self, number: int) -> list[KittiObject]:
        """Return a picture's labels, cut to the picture, see `cut_labels`.

        Raises:
            LabelError: There are none, or they are faulty.
            VideoError: The picture is missing or no picture.
        """
        path = self.picture(number)
        try:
            with Image.open(path) as picture:
                size = picture.height, picture.width
        except (OSError, SyntaxError, ValueError) as fault:
            raise VideoError(f"{path}: cannot be decoded: {fault}") from None
        return cut_labels(read_labels(self.label(number)), size)


def read_split(path: Path) -> list[int]:
    """Return the numbers that a text file lists, one a line.

    Raises:
        VideoError: It cannot be read, holds none, or a line is not a number; names the line.
    """
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError) as fault:
        raise VideoError(f"{path}: cannot be read: {fault}") from None
    for place, line in enumerate(lines, 1):
        if line.strip() and not _is_number(line.strip()):
            raise VideoError(f"{path}: line {place}: {line.strip()[:40]!r}, expected NNNNNN")
    numbers = [int(line) for line in lines if line.strip()]
    if not numbers:
        raise VideoError(f"{path}: no numbers, expected one a line")
    return numbers


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) == 6


def _read(path: Path, size: Size) -> tuple[NDArray[np.uint8], Size]:
    """Return a picture at a size, RGB, and its own size."""
    try:
        with Image.open(path) as picture:
            picture.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as fault:
        raise VideoError(f"{path}: cannot be decoded: {fault}") from None
    if picture.mode not in MODES:
        raise VideoError(f"{path}: a picture of mode {picture.mode}, expected one of {MODES}")
    resized = picture.convert("RGB").resize((size[1], size[0]), Image.Resampling.BILINEAR)
    return np.array(resized, np.uint8), (picture.height, picture.width)
