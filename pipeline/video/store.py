"""Drives as the cities' days are stored: netCDF-4, a file a drive, a frame a chunk.

A drive is cut once. The manifest, written after each drive, says of what: a second run does
nothing, a killed one loses the drive it was at.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipeline.alone import alone
from pipeline.atomic import write_json
from pipeline.errors import VideoError
from pipeline.heatmaps import store_writer
from pipeline.layout import Axis
from pipeline.video.entry import Drive, VideoSet, VideoSplit, find_drives
from pipeline.video.pictures import list_pictures, open_pictures
from pipeline.video.prednet_crop import crop_picture
from pipeline.video.seq import open_seq

VERSION = 1
MANIFEST = "manifest.json"
COUNTED = (11, 22)
"""Windows that the manifest counts: 10 frames in, 1 or 12 out, from every start."""
Tick = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class StoredDrive:
    """What a manifest notes of a drive.

    Attributes:
        name: The drive.
        split: What it is for.
        file: Where it is, relative to the store.
        frames: How many.
        windows: Windows of so many frames, from every start.
        source: What it was made of.
        source_state: Names, sizes and times of the source's files, as a checksum.
        source_sha256: Of the source's bytes, file by file.
        frames_sha256: Of the stored frames' bytes.
        stored_bytes: Of the file.
    """

    name: str
    split: VideoSplit
    file: str
    frames: int
    windows: dict[str, int]
    source: str
    source_state: str
    source_sha256: str
    frames_sha256: str
    stored_bytes: int


@dataclass(slots=True)
class VideoReport:
    """What an ingest did: names of drives, and of those refused what was said."""

    ingested: list[str]
    kept: list[str]
    refused: dict[str, str]


def ingest_drives(
    entry: VideoSet,
    root: Path,
    store: Path,
    split: VideoSplit,
    *,
    verify: bool = False,
    progress: Tick | None = None,
) -> VideoReport:
    """Bring a split's drives into the store; a faulty drive is named and the others go on.

    Args:
        entry: Of the catalogue.
        root: The set's folder.
        store: Where drives are kept.
        split: Which drives.
        verify: Compare the sources' bytes even where their sizes and times have not changed.
        progress: Called for each drive that is done.

    Raises:
        VideoError: A pattern of the catalogue finds nothing, or the manifest is of another set.
        InUseError: Another run is at work on the store.
    """
    drives = find_drives(entry, root, split)
    with alone(store / ".lock", store, "ingest-video"):
        return _ingest(entry, drives, store, verify, progress)


def _ingest(
    entry: VideoSet, drives: list[Drive], store: Path, verify: bool, progress: Tick | None
) -> VideoReport:
    report = VideoReport([], [], {})
    for drive in drives:
        known = read_manifest(store, entry)
        try:
            if _is_current(known.get(drive.name), drive, store, verify):
                report.kept.append(drive.name)
            else:
                stored = cut_drive(entry, drive, store)
                _write_manifest(store, entry, known | {drive.name: stored})
                report.ingested.append(drive.name)
        except VideoError as fault:
            report.refused[drive.name] = str(fault)
        if progress is not None:
            progress(drive.name)
    return report


def cut_drive(entry: VideoSet, drive: Drive, store: Path) -> StoredDrive:
    """Cut every frame of a drive and write them whole.

    Raises:
        VideoError: A picture is faulty, or the drive changed while it was read.
    """
    paths = _files(drive, entry)
    before = _state(paths)
    count, pictures = _pictures(entry, paths)
    path, size = store / drive.file, (entry.height, entry.width)
    seconds = np.arange(count) * (entry.every / entry.rate)
    axes = [Axis("time", seconds, {"units": "s", "long_name": "since the first frame"})]
    axes += [Axis(n, np.arange(s), {}) for n, s in zip("yx", size, strict=True)]
    axes.append(Axis("channel", np.array(entry.channels), {}))
    digest = hashlib.sha256()
    labels = {"title": entry.title, "drive": drive.name, "split": drive.split}
    with store_writer(path, axes, labels) as dataset:
        for number, picture in enumerate(pictures):
            try:
                frame = crop_picture(picture, *size)
            except ValueError as fault:
                raise VideoError(f"{drive.path}: frame {number}: {fault}") from None
            dataset[number] = frame
            digest.update(frame.tobytes())
        source = _checksum(paths)
        if _state(paths) != before:
            raise VideoError(f"{drive.path}: changed while it was read; ingest again")
    return StoredDrive(
        name=drive.name,
        split=drive.split,
        file=drive.file,
        frames=count,
        windows={str(length): max(0, count - length + 1) for length in COUNTED},
        source=str(drive.path),
        source_state=before,
        source_sha256=source,
        frames_sha256=digest.hexdigest(),
        stored_bytes=path.stat().st_size,
    )


def read_manifest(store: Path, entry: VideoSet) -> dict[str, StoredDrive]:
    """Return the drives of a store by name; none where there is no store.

    Raises:
        VideoError: The manifest is damaged, or of frames cut another way.
    """
    path = store / MANIFEST
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        made = found["made"]
        drives = {name: StoredDrive(**facts) for name, facts in found["drives"].items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as fault:
        raise VideoError(f"{path}: not a store's manifest: {fault}; delete the store") from None
    wanted = made_for(entry)
    if made != wanted:
        raise VideoError(f"{path}: a store of {made}, expected {wanted}; delete the store")
    return drives


def stored_drives(store: Path, entry: VideoSet, split: VideoSplit) -> list[StoredDrive]:
    """Return a split's drives that a store holds, by name.

    Raises:
        VideoError: There are none, or a file is not as long as the manifest says.
    """
    known = read_manifest(store, entry)
    drives = [known[name] for name in sorted(known) if known[name].split == split]
    if not drives:
        raise VideoError(f"{store}: no {split} drives of {entry.name}; ingest them first")
    for drive in drives:
        path = store / drive.file
        there = path.stat().st_size if path.is_file() else None
        if there != drive.stored_bytes:
            raise VideoError(
                f"{path}: {there} bytes, expected {drive.stored_bytes}; ingest it again"
            )
    return drives


def made_for(entry: VideoSet) -> dict[str, Any]:
    """Return all that decides how frames are cut, as plain values."""
    names = ("name", "reader", "every", "height", "width")
    return {"version": VERSION, **{name: getattr(entry, name) for name in names}}


def _write_manifest(store: Path, entry: VideoSet, drives: dict[str, StoredDrive]) -> None:
    plain = {name: asdict(drives[name]) for name in sorted(drives)}
    write_json(store / MANIFEST, {"made": made_for(entry), "drives": plain})


def _is_current(known: StoredDrive | None, drive: Drive, store: Path, verify: bool) -> bool:
    if known is None or (known.split, known.file) != (drive.split, drive.file):
        return False
    path = store / known.file
    if not path.is_file() or path.stat().st_size != known.stored_bytes:
        return False
    paths = list_pictures(drive.path) if drive.path.is_dir() else [drive.path]
    if _state(paths) != known.source_state:
        return False
    return not verify or _checksum(paths) == known.source_sha256


def _files(drive: Drive, entry: VideoSet) -> list[Path]:
    return [drive.path] if entry.reader == "seq" else list_pictures(drive.path)


def _pictures(entry: VideoSet, paths: list[Path]) -> tuple[int, Iterator[Image.Image]]:
    if entry.reader == "seq":
        movie = open_seq(paths[0])
        return len(movie) // entry.every, movie.pictures(entry.every)
    chosen = paths[entry.every - 1 :: entry.every]
    return len(chosen), open_pictures(chosen)


def _state(paths: list[Path]) -> str:
    facts = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _checksum(paths: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while piece := file.read(1024**2):
                digest.update(piece)
    return digest.hexdigest()
