"""A drive as a folder of pictures, in the order of their numbers."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from PIL import Image

from pipeline.errors import VideoError

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".pgm")


def list_pictures(folder: Path) -> list[Path]:
    """Return a folder's pictures in order: by number, where every name is one; else by name.

    Raises:
        VideoError: There is no such folder, no picture in it, or a number is missing.
    """
    if not folder.is_dir():
        raise VideoError(f"{folder}: no such folder")
    paths = [path for path in folder.iterdir() if path.suffix.lower() in ENDINGS]
    if not paths:
        raise VideoError(f"{folder}: no pictures, expected {', '.join(ENDINGS)}")
    if not all(path.stem.isascii() and path.stem.isdecimal() for path in paths):
        return sorted(paths)
    paths.sort(key=lambda path: int(path.stem))
    numbers = [int(path.stem) for path in paths]
    gaps = [b - a for a, b in pairwise(numbers)]
    if len({*gaps}) > 1 or 0 in gaps:
        usual = max(min(gaps), 1)
        after = next(n for n, gap in zip(numbers, gaps, strict=False) if gap != usual)
        raise VideoError(
            f"{folder}: after picture {after} the numbers jump, expected steps of {usual}: "
            "frames are missing, or there twice"
        )
    return paths


def open_pictures(paths: list[Path]) -> Iterator[Image.Image]:
    """Yield pictures, all of one size.

    Raises:
        VideoError: One cannot be decoded, or is of another size than the first.
    """
    first: tuple[int, int] | None = None
    for path in paths:
        try:
            with Image.open(path) as picture:
                picture.load()
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as fault:
            raise VideoError(f"{path}: cannot be decoded: {fault}") from None
        first = first or picture.size
        if picture.size != first:
            raise VideoError(
                f"{path}: {picture.height} x {picture.width}, but the drive's first picture is "
                f"{first[1]} x {first[0]}"
            )
        yield picture
