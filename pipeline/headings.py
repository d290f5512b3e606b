"""The four headings of the movies, and the way between their two encodings.

In 2019 a cell shows one heading, that of most of its probes, as a byte: NW 1, NE 85, SW 170,
SE 255. Since 2020 it shows volume and speed of every heading, in the order NE, NW, SE, SW.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

HEADINGS = ("NE", "NW", "SE", "SW")
"""In the order of the channel pairs of 2020 to 2022."""
HEADING_CODES: Mapping[str, int] = {"NW": 1, "NE": 85, "SW": 170, "SE": 255}
"""Bytes of the heading channel of 2019."""
TIE_ORDER = ("NE", "SE", "SW", "NW")
"""Of equally large volumes the first in this order gives a cell its heading."""
PAIRS = 2 * len(HEADINGS)


def merge_headings(
    frames: NDArray[np.uint8], codes: Mapping[str, int] = HEADING_CODES
) -> NDArray[np.uint8]:
    """Return frames `(..., 8 or 9)` by heading as those of 2019: `(..., 3)`.

    Volumes are added and capped at 255; the speed is their weighted mean, rounded; the heading is
    that of the largest volume, ties in `TIE_ORDER`. A ninth channel, incidents, has no place there.

    Raises:
        ValueError: The channels are not eight, or nine.
    """
    if frames.shape[-1] not in (PAIRS, PAIRS + 1):
        raise ValueError(f"frames of {frames.shape[-1]} channels, expected {PAIRS} or {PAIRS + 1}")
    volume = frames[..., 0:PAIRS:2].astype(np.int64)
    total = volume.sum(axis=-1)
    travelled = (volume * frames[..., 1:PAIRS:2]).sum(axis=-1)
    order = [HEADINGS.index(way) for way in TIE_ORDER]
    way = np.array([codes[way] for way in TIE_ORDER], np.uint8)[volume[..., order].argmax(axis=-1)]
    merged = np.zeros((*frames.shape[:-1], 3), np.uint8)
    merged[..., 0] = np.minimum(total, 255)
    merged[..., 1] = np.rint(travelled / np.maximum(total, 1))
    merged[..., 2] = np.where(total > 0, way, 0)
    return merged


def split_headings(
    frames: NDArray[np.uint8], codes: Mapping[str, int] = HEADING_CODES
) -> NDArray[np.uint8]:
    """Return frames `(..., 3)` of 2019 by heading: `(..., 8)`.

    All of a cell's volume, and its speed, go to the one heading it shows: what the others had is
    not known any more. `merge_headings` gives the same frames back.

    Raises:
        ValueError: The channels are not three, or a cell with volume shows a byte of no heading.
    """
    if frames.shape[-1] != 3:
        raise ValueError(f"frames of {frames.shape[-1]} channels, expected 3")
    active = frames[..., 0] > 0
    unknown = np.setdiff1d(frames[..., 2][active], list(codes.values()))
    if len(unknown):
        raise ValueError(
            f"heading bytes {unknown[:10].tolist()} where there is volume, expected "
            f"{sorted(codes.values())}"
        )
    apart = np.zeros((*frames.shape[:-1], PAIRS), np.uint8)
    for place, way in enumerate(HEADINGS):
        mine = active & (frames[..., 2] == codes[way])
        apart[mine, 2 * place] = frames[mine, 0]
        apart[mine, 2 * place + 1] = frames[mine, 1]
    return apart
