"""A city's days re-chunked for windows: one frame a chunk, LZ4, one netCDF-4 file a day.

`Store` cuts windows straight from the files, for training; `Store.dataset`
opens all days of a split as one labelled Dataset, lazily, for statistics, scores and maps.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import Lock

import dask
import dask.array as da
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pipeline.editions import City, Edition, Split
from pipeline.errors import ChangedError, StoreError
from pipeline.frame_reader import FrameReader
from pipeline.grid import Grid
from pipeline.heatmaps import open_frames
from pipeline.manifest import Manifest, read_manifest
from pipeline.windows import Window, check_history, slot_windows

DIMS = ("time", "y", "x", "channel")
OPEN_FILES = 16
_FORKED = Lock()
os.register_at_fork(
    before=_FORKED.acquire, after_in_parent=_FORKED.release, after_in_child=_FORKED.release
)
FRAMES_PER_TASK = 24


@dataclass(slots=True)
class Store:
    """The stored days of one city, read by frame.

    Handles are opened when first needed and belong to the process that opened them, so a `Store`
    may be pickled or forked with its readers; each worker opens its own.

    Attributes:
        root: Folder of the store.
        edition: What its days are.
        city: Whose they are.
        manifest: Which there are.
    """

    root: Path
    edition: Edition
    city: City
    manifest: Manifest
    _open: OrderedDict[str, tuple[ExitStack, FrameReader]] = field(
        default_factory=OrderedDict, repr=False, compare=False
    )
    _process: int = field(default=0, repr=False, compare=False)
    _gate: Lock = field(default_factory=Lock, repr=False, compare=False)

    @classmethod
    def open(cls, root: Path, edition: Edition, city: City) -> Store:
        """Return the store of a city.

        Raises:
            StoreError: It is missing, of another edition, a day of its manifest is gone, or the
                edition puts one into another split by now.
        """
        manifest = read_manifest(root, edition, city)
        gone = [stored.file for stored in manifest.days if not (root / stored.file).is_file()]
        if gone:
            raise StoreError(f"{root}: missing {gone}; `t4c ingest` makes them again")
        if edition.layout.training == edition.layout.validation:
            moved = [
                stored.day
                for stored in manifest.days
                if stored.split != "test" and stored.split != edition.split_of(stored.day)
            ]
            if moved:
                raise StoreError(
                    f"{root}: {city.name} has {moved} in other splits than the run; ingest again"
                )
        return cls(root, edition, city, manifest)

    def days(self, split: Split) -> list[str]:
        """Return the days of a split, in the order of the calendar."""
        return [stored.day for stored in self.manifest.days if stored.split == split]

    def read(self, day: str, start: int, stop: int) -> NDArray[np.uint8]:
        """Return frames `start` to `stop` of a day, `(T, H, W, C)` uint8.

        Raises:
            StoreError: The day is not in the store, or has no such frames.
            HeatmapError: Its file is damaged.
        """
        if not 0 <= start <= stop <= self.frames(day):
            raise StoreError(
                f"{self.root}: frames {start} to {stop} of {day}, expected 0 to {self.frames(day)}"
            )
        if self._process != os.getpid():
            with _FORKED:  # handles and locks from before a fork are not ours; one thread renews
                if self._process != os.getpid():
                    self._open, self._gate = OrderedDict(), Lock()
                    self._process = os.getpid()
        with self._gate:  # HDF5 reads one at a time anyway; no handle is closed under a reader
            return self._reader(day).read(start, stop)

    def read_day(self, day: str) -> NDArray[np.uint8]:
        """Return a whole day, `(T, H, W, C)` uint8."""
        return self.read(day, 0, self.frames(day))

    def check_unchanged(self) -> None:
        """Make sure that no day was ingested anew since the store was opened.

        Raises:
            ChangedError: Some were, or left the store; lists them all.
        """
        now = read_manifest(self.root, self.edition, self.city).by_day()
        changed = [
            day
            for day, stored in self.manifest.by_day().items()
            if day not in now or now[day].stored_sha256 != stored.stored_sha256
        ]
        if changed:
            raise ChangedError(
                f"{self.root}: {self.city.name} {changed} changed while they were read; run again"
            )

    def frames(self, day: str) -> int:
        """Return how many frames there are of a day, or of a test file of input hours."""
        if self.edition.layout.test_kind == "blanked":
            return self.edition.frames_per_day
        stored = self.manifest.by_day().get(day)
        slots = stored.slots if stored else ()
        return len(slots) * self.edition.test_history if slots else self.edition.frames_per_day

    def slot_windows(self, day: str, *, history: int) -> list[Window]:
        """Return one window per slot of a test file, in its order.

        Raises:
            WindowError: A test file does not give so much history.
            StoreError: The slots have changed since the file was ingested.
        """
        stored = self.manifest.by_day().get(day)
        if stored is None or not stored.slots:
            return slot_windows(self.edition, self.city, day, history=history)
        if len(stored.slots) != self.edition.slot_count(self.city, day):
            raise StoreError(
                f"{self.root}: {self.city.name} {day} has {len(stored.slots)} slots, expected "
                f"{self.edition.slot_count(self.city, day)}; ingest again"
            )
        check_history(self.edition, history)
        return [
            Window(self.city.name, slot.day, slot.first - history, history, self.edition.leads)
            for slot in stored.slots
        ]

    def slot_history(self, day: str, place: int, window: Window) -> NDArray[np.uint8]:
        """Return the history of the window at a place of a test file, `(T, H, W, C)` uint8."""
        stored = self.manifest.by_day().get(day)
        if stored is None or not stored.slots:
            return self.read(day, window.start, window.split)
        end = (place + 1) * self.edition.test_history
        return self.read(day, end - window.history, end)

    def lazy_days(self, days: Sequence[str]) -> da.Array:
        """Return days end to end, `(days * T, H, W, C)` uint8, read when computed."""
        total = self.edition.frames_per_day
        pieces = [
            da.from_delayed(
                dask.delayed(partial(self.read, day, start, min(start + FRAMES_PER_TASK, total)))(),
                (min(FRAMES_PER_TASK, total - start), *self.edition.frame_shape),
                np.uint8,
            )
            for day in days
            for start in range(0, total, FRAMES_PER_TASK)
        ]
        if not pieces:
            raise StoreError(f"{self.root}: no days to open of {self.city.name}")
        days_on_end: da.Array = da.concatenate(pieces)
        return days_on_end

    def dataset(self, split: Split) -> xr.Dataset:
        """Return all days of a split as one lazy Dataset.

        Variables:
            heatmap: `(time, y, x, channel)` uint8, a Dask array, 24 frames a task.

        Coordinates:
            time: Start of each bin on the edition's clock; day, frame: the same as the files say;
            latitude, longitude: degrees at the cells' centres; channel: its name.

        Raises:
            StoreError: The split has no days.
        """
        days = self.days(split)
        if not days:
            raise StoreError(f"{self.root}: {self.city.name} has no {split} days")
        if split == "test" and self.edition.layout.test_kind != "blanked":
            raise StoreError(f"{self.root}: tests of {self.edition.name} are no whole days")
        frames = self.edition.frames_per_day
        bins = np.arange(frames) * np.timedelta64(self.edition.bin_minutes, "m")
        starts = np.array([self.edition.day_of(day) for day in days], "datetime64[ns]")
        grid = Grid.of(self.edition, self.city)
        lat_dim, lon_dim = ("x", "y") if self.city.rotated else ("y", "x")
        return xr.Dataset(
            {"heatmap": (DIMS, self.lazy_days(days))},
            coords={
                "time": (starts[:, None] + bins).ravel(),
                "day": ("time", np.repeat(days, frames)),
                "frame": ("time", np.tile(np.arange(frames), len(days))),
                "latitude": (lat_dim, grid.latitudes()),
                "longitude": (lon_dim, grid.longitudes()),
                "channel": list(self.edition.channels),
            },
            attrs={
                "edition": self.edition.name,
                "city": self.city.name,
                "split": split,
                "time_zone": self.edition.clock(self.city),
            },
        )

    def _reader(self, day: str) -> FrameReader:
        if day not in self._open:
            stored = self.manifest.by_day().get(day)
            if stored is None:
                raise StoreError(f"{self.root}: {self.city.name} has no day {day}")
            stack = ExitStack()
            path = self.root / stored.file
            shape = (self.frames(day), *self.edition.frame_shape)
            reader = stack.enter_context(open_frames(path, shape, own=True))
            self._open[day] = stack, reader
            if len(self._open) > OPEN_FILES:
                self._open.popitem(last=False)[1][0].close()
        self._open.move_to_end(day)
        return self._open[day][1]

    def __getstate__(self) -> tuple[Path, Edition, City, Manifest]:
        return self.root, self.edition, self.city, self.manifest

    def __setstate__(self, state: tuple[Path, Edition, City, Manifest]) -> None:
        self.root, self.edition, self.city, self.manifest = state
        self._open, self._process, self._gate = OrderedDict(), 0, Lock()
