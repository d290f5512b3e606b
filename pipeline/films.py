"""Films of one window: input, truth, forecast and error side by side, as GIF and as MP4."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import BinaryIO

import numpy as np
from matplotlib.font_manager import findfont
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from pipeline.atomic import whole_file
from pipeline.palette import (
    INK,
    LEVELS,
    PAPER,
    SOFT,
    as_picture,
    colours,
    difference_indices,
    value_indices,
)

MILLISECONDS = 500
LAST = 4
"""Frames that the last one is held for."""
GAP, LINE = 8, 16


@dataclass(frozen=True, slots=True, eq=False)
class FilmedWindow:
    """What is shown.

    Attributes:
        title: Where and when; letters of ASCII are drawn.
        history: `(T, H, W)` bytes of one channel, north up.
        truth: `(L, H, W)`, what came.
        forecast: `(L, H, W)`, what was said.
        times: Of each frame of the history and then of the future, as it is written.
    """

    title: str
    history: NDArray[np.uint8]
    truth: NDArray[np.uint8]
    forecast: NDArray[np.uint8]
    times: Sequence[str]


def film_frames(window: FilmedWindow, zoom: int = 2) -> list[Image.Image]:
    """Return the frames: first the history alone, then what came beside what was said.

    Shown are bytes, by their roots, and forecast minus truth: red is too much, blue too little.
    """
    empty = np.full(window.truth.shape[1:], PAPER, np.uint8)
    last = value_indices(window.history[-1])
    frames = []
    for number, frame in enumerate(value_indices(window.history)):
        frames.append(_page(window, number, [frame, empty, empty, empty], zoom))
    for lead, (came, said) in enumerate(zip(window.truth, window.forecast, strict=True)):
        wrong = difference_indices(said, came)
        panels = [last, value_indices(came), value_indices(said), wrong]
        frames.append(_page(window, len(window.history) + lead, panels, zoom))
    return frames


def save_gif(path: Path, frames: Sequence[Image.Image]) -> Path:
    """Write frames as an endless GIF."""
    pause = [MILLISECONDS] * (len(frames) - 1) + [LAST * MILLISECONDS]
    with whole_file(path) as partial:
        write_gif(partial, frames, pause)
    return path


def write_gif(file: Path | BinaryIO, frames: Sequence[Image.Image], pause: list[int]) -> None:
    """Write frames as an endless GIF, each shown for so many milliseconds."""
    frames[0].save(
        file,
        format="gif",
        save_all=True,
        append_images=frames[1:],
        duration=pause,
        loop=0,
        optimize=False,
    )


def save_mp4(path: Path, frames: Sequence[Image.Image]) -> Path | None:
    """Write frames as MP4 (H.264) where there is ffmpeg; else return nothing.

    Raises:
        OSError: ffmpeg failed; with its last words.
    """
    program = shutil.which("ffmpeg")
    if program is None:
        return None
    width, height = frames[0].size
    shown = [*frames, *[frames[-1]] * (LAST - 1)]
    command = [
        *(program, "-loglevel", "error", "-y", "-f", "rawvideo", "-pix_fmt", "rgb24"),
        *("-s", f"{width}x{height}", "-r", f"{1000 / MILLISECONDS:g}", "-i", "-"),
        *("-vf", "pad=ceil(iw/2)*2:ceil(ih/2)*2:color=white", "-c:v", "libx264", "-crf", "18"),
        *("-pix_fmt", "yuv420p", "-threads", "1", "-movflags", "+faststart"),
        *("-map_metadata", "-1", "-fflags", "+bitexact", "-f", "mp4"),
    ]
    raw = b"".join(frame.convert("RGB").tobytes() for frame in shown)
    with whole_file(path) as partial:
        done = subprocess.run(
            [*command, str(partial)], input=raw, capture_output=True, timeout=600, check=False
        )
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
            raise OSError(f"{path}: ffmpeg ended with {done.returncode}: {' '.join(said)}")
    return path


@cache
def _font() -> ImageFont.FreeTypeFont:
    """Return the letters that come with matplotlib: the same on every machine."""
    return ImageFont.truetype(findfont("DejaVu Sans"), 11)


def _page(
    window: FilmedWindow, number: int, panels: Sequence[NDArray[np.uint8]], zoom: int
) -> Image.Image:
    H, W = (size * zoom for size in panels[0].shape)
    across = len(panels)
    size = (GAP + across * (W + GAP), 2 * LINE + H + LINE + 2 * GAP)
    page = Image.new("P", size, PAPER)
    page.putpalette(colours())
    draw = ImageDraw.Draw(page)
    draw.fontmode = "1"  # a palette has no shades of ink
    future = number >= len(window.history)
    when = f"{window.times[number]} {'forecast' if future else 'seen'}"
    draw.text((GAP, 2), f"{window.title}, {when}", fill=INK, font=_font())
    names = ("input", "truth", "forecast", "forecast - truth")
    for place, (panel, name) in enumerate(zip(panels, names, strict=True)):
        left, top = GAP + place * (W + GAP), 2 * LINE
        draw.text((left, LINE), name, fill=INK, font=_font())
        page.paste(as_picture(panel, zoom), (left, top))
        draw.rectangle((left - 1, top - 1, left + W, top + H), outline=SOFT)
    _legend(page, draw, 2 * LINE + H + GAP, across, W)
    return page


def _legend(
    page: Image.Image, draw: ImageDraw.ImageDraw, top: int, across: int, width: int
) -> None:
    """Draw both colour scales below the panels, with the bytes at their ends."""
    for place, first, ends in ((0, 0, ("0", "255")), (across - 1, LEVELS, ("-255", "+255"))):
        left = GAP + place * (width + GAP)
        inside = max(1, width - 70)
        strip = first + np.linspace(0, LEVELS - 1, inside).astype(np.uint8)
        page.paste(as_picture(np.tile(strip, (8, 1))), (left + 30, top + 2))
        draw.text((left, top), ends[0], fill=INK, font=_font())
        draw.text((left + 34 + inside, top), ends[1], fill=INK, font=_font())
