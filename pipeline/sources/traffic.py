"""Windows of a city's store: read directly for training, lazily for statistics and maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import dask
import dask.array as da
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pipeline.errors import WindowError
from pipeline.sources.clips import Clip
from pipeline.store import Store
from pipeline.windows import Window


def read_window(store: Store, window: Window) -> NDArray[np.uint8]:
    """Return the history and future frames of a window, `(T + L, H, W, C)` uint8."""
    frames = store.read(window.day, window.start, window.stop)
    steps = [*range(window.history), *(window.history + lead for lead in window.leads)]
    return frames if len(steps) == len(frames) else frames[steps]


@dataclass(frozen=True, slots=True)
class TrafficSource:
    """The clips of a plan, read straight from the store.

    Picklable; workers that are forked or spawned open their own files.

    Attributes:
        store: The city's days.
        windows: Where to cut, a `WindowPlan` or any list of windows.
    """

    store: Store
    windows: Sequence[Window]

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int) -> Clip[Window]:
        """Return clip `index` of the plan."""
        window = self.windows[index]
        frames = np.moveaxis(read_window(self.store, window), -1, -3)
        return Clip(frames[: window.history], frames[window.history :], window)


def windows_dataset(store: Store, windows: Sequence[Window]) -> xr.Dataset:
    """Return the same windows as one lazy Dataset, a window a chunk.

    Variables:
        heatmap: `(window, step, y, x, channel)` uint8, a Dask array; steps are the history, then
            the leads.

    Coordinates:
        day, start: which window; step: frames from the split, negative in the history; channel.

    Raises:
        WindowError: There are no windows, or not all of one length.
    """
    shapes = {(window.history, window.leads) for window in windows}
    if len(shapes) != 1:
        raise WindowError(f"{len(windows)} windows of {len(shapes)} shapes, expected one shape")
    [(history, leads)] = shapes
    size = (history + len(leads), *store.edition.frame_shape)
    pieces = [
        da.from_delayed(dask.delayed(read_window)(store, window), size, np.uint8)
        for window in windows
    ]
    return xr.Dataset(
        {"heatmap": (("window", "step", "y", "x", "channel"), da.stack(pieces))},
        coords={
            "day": ("window", [window.day for window in windows]),
            "start": ("window", [window.start for window in windows]),
            "step": [*range(-history, 0), *leads],
            "channel": list(store.edition.channels),
        },
        attrs={"edition": store.edition.name, "city": store.city.name},
    )
