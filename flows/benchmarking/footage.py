"""Windows of a camera's drives as a benchmark's sequences."""

from __future__ import annotations

import json
from typing import Any

from flows.benchmarking.config import BenchmarkConfig
from flows.benchmarking.sections import Footage
from flows.benchmarking.sequences import BenchmarkData, First
from pipeline.errors import ConfigError
from pipeline.sources.video import DriveWindows, ShuffledWindows
from pipeline.video.entry import VideoSet, read_entry
from pipeline.video.store import StoredDrive, stored_drives


def video_data(config: BenchmarkConfig) -> BenchmarkData:
    """Return the windows of a benchmark of videos; their stores are filled already.

    Raises:
        CatalogError: The catalogue has no such set.
        VideoError: A store lacks drives, or none is long enough.
        ConfigError: The sets do not fit each other, or a drive is tested and learned from.
    """
    sections = config.training, config.validation, config.test
    footages = [section for section in sections if isinstance(section, Footage)]
    entries = [read_entry(footage.data, config.catalog) for footage in footages]
    sizes = {(entry.height, entry.width) for entry in entries}
    if len(sizes) > 1:
        raise ConfigError(f"training, validation, test: frames of {sorted(sizes)}, expected one")
    drives = [
        stored_drives(footage.store, entry, footage.split)
        for footage, entry in zip(footages, entries, strict=True)
    ]
    _check_apart(drives)
    training, validation, test = (
        _windows(config, footage, entry, found)
        for footage, entry, found in zip(footages, entries, drives, strict=True)
    )
    learning, _, scored = footages
    how = {"mirror": learning.mirror, "seed": learning.seed}
    learned = {
        "history": config.history,
        "training": facts_of(learning, entries[0], drives[0]) | how,
        "validation": facts_of(footages[1], entries[1], drives[1]),
    }
    tested = {"history": config.history, **facts_of(scored, entries[2], drives[2])}
    return BenchmarkData(
        ShuffledWindows(training, learning.seed, learning.mirror),
        _first(validation, footages[1]),
        _first(test, scored),
        None,
        scored.horizon,
        learning.horizon,
        (entries[0].height, entries[0].width),
        json.dumps(learned, sort_keys=True),
        json.dumps(tested, sort_keys=True),
    )


def facts_of(footage: Footage, entry: VideoSet, drives: list[StoredDrive]) -> dict[str, Any]:
    """Return all that decides which windows there are, as plain values."""
    return {
        "data": entry.name,
        "horizon": footage.horizon,
        "stride": footage.stride,
        "first": footage.first,
        "frames_sha256": {drive.name: drive.frames_sha256 for drive in drives},
    }


def _windows(
    config: BenchmarkConfig, footage: Footage, entry: VideoSet, drives: list[StoredDrive]
) -> DriveWindows:
    size = entry.height, entry.width, len(entry.channels)
    found = tuple(drives)
    return DriveWindows(footage.store, found, size, config.history, footage.horizon, footage.stride)


def _first(windows: DriveWindows, footage: Footage) -> First:
    count = footage.first or len(windows)
    if count > len(windows):
        raise ConfigError(f"{footage.set}: the first {count} windows, but it has {len(windows)}")
    return First(windows, count)


def _check_apart(drives: list[list[StoredDrive]]) -> None:
    """Refuse frames that are in two of training, validation and test, whatever they are called."""
    seen: dict[str, str] = {}
    for found in drives:
        for drive in found:
            if drive.frames_sha256 in seen:
                raise ConfigError(
                    f"{drive.name}: the same frames as {seen[drive.frames_sha256]}, "
                    "expected drives apart"
                )
            seen[drive.frames_sha256] = drive.name
