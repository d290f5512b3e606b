"""Forecasts to look at: strips of frames side by side, tables of them, and short films."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from pipeline.atomic import whole_file

Movie = NDArray[np.uint8]
GAP = 2
LETTER = 7
LINE = 16
PAPER, INK, SEEN, SAID = "white", "black", "rgb(150, 150, 150)", "black"
"""Of the paper and of letters; of a frame's edge where it was seen, and where it is said."""
MILLISECONDS = 150


def draw_strip(path: Path, rows: Mapping[str, Movie], *, zoom: int = 2) -> Path:
    """Draw movies as rows of frames, a name before each; aligned at their last frames.

    Args:
        path: The PNG.
        rows: `(T, H, W)` uint8, or `(T, H, W, 3)` RGB, by name, in order; of one height and width.
        zoom: Pixels of the picture for one of a frame.
    """
    widest = max(len(movie) for movie in rows.values())
    H, W = (size * zoom for size in next(iter(rows.values())).shape[1:3])
    margin = LETTER * max(map(len, rows)) + 2 * GAP
    size = margin + widest * (W + GAP), GAP + len(rows) * (H + GAP)
    page = Image.new(_mode(rows), size, PAPER)
    draw = ImageDraw.Draw(page)
    for place, (name, movie) in enumerate(rows.items()):
        top = GAP + place * (H + GAP)
        draw.text((GAP, top + H // 2 - 6), name, fill=INK, font=_font())
        first = widest - len(movie)
        for number, frame in enumerate(movie, first):
            page.paste(_enlarged(frame, zoom), (margin + number * (W + GAP), top))
    with whole_file(path) as partial:
        page.save(partial, format="png")
    return path


def draw_columns(path: Path, rows: Sequence[Mapping[str, Movie]], *, zoom: int = 2) -> Path:
    """Draw single frames as a table: a row a sequence, a column a name, the names above.

    Args:
        path: The PNG.
        rows: `(H, W)` uint8, or `(H, W, 3)` RGB, by name; of one height and width, all names in
            each row.
        zoom: Pixels of the picture for one of a frame.
    """
    names = [*rows[0]]
    H, W = (size * zoom for size in rows[0][names[0]].shape[:2])
    across = max(W, LETTER * max(map(len, names))) + GAP
    size = GAP + len(names) * across, LINE + GAP + len(rows) * (H + GAP)
    page = Image.new(_mode({"": rows[0][names[0]][None]}), size, PAPER)
    draw = ImageDraw.Draw(page)
    for column, name in enumerate(names):
        left = GAP + column * across
        draw.text((left, GAP), name, fill=INK, font=_font())
        for number, row in enumerate(rows):
            page.paste(_enlarged(row[name], zoom), (left, LINE + GAP + number * (H + GAP)))
    with whole_file(path) as partial:
        page.save(partial, format="png")
    return path


def draw_film(
    path: Path, seen: Movie, said: Mapping[str, Movie], *, zoom: int = 2, columns: int = 4
) -> Path:
    """Draw movies side by side as an animated GIF: all show what was seen, then what each says.

    Args:
        path: The GIF.
        seen: The history, `(T, H, W)` uint8 or `(T, H, W, 3)` RGB.
        said: What follows, `(L, H, W)` uint8 by name: the truth and each model's.
        zoom: Pixels of the film for one of a frame.
        columns: Movies in a row, at most.
    """
    H, W = (size * zoom for size in seen.shape[1:3])
    cell = max(W + 2 * GAP, LETTER * max(map(len, said)) + GAP), H + LINE + 2 * GAP
    across = min(columns, len(said))
    down = -(-len(said) // across)
    length = len(seen) + min(map(len, said.values()))
    pages = []
    for t in range(length):
        page = Image.new(_mode({"": seen}), (across * cell[0], down * cell[1]), PAPER)
        draw = ImageDraw.Draw(page)
        for place, (name, movie) in enumerate(said.items()):
            left, top = place % across * cell[0] + GAP, place // across * cell[1]
            draw.text((left, top + 1), name, fill=INK, font=_font())
            edge = SEEN if t < len(seen) else SAID
            box = left - 1, top + LINE - 1, left + W, top + LINE + H
            draw.rectangle(box, outline=edge)
            frame = seen[t] if t < len(seen) else movie[t - len(seen)]
            page.paste(_enlarged(frame, zoom), (left, top + LINE))
        pages.append(page)
    pause = [MILLISECONDS] * (length - 1) + [6 * MILLISECONDS]
    with whole_file(path) as partial:
        pages[0].save(
            partial, format="gif", save_all=True, append_images=pages[1:], duration=pause, loop=0
        )
    return path


def _enlarged(frame: Movie, zoom: int) -> Image.Image:
    return Image.fromarray(frame.repeat(zoom, 0).repeat(zoom, 1))


def _mode(rows: Mapping[str, Movie]) -> str:
    return "RGB" if any(movie.ndim == 4 for movie in rows.values()) else "L"


def _font() -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default()
