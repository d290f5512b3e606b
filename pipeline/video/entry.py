"""What the catalogue says of a set of videos: where drives lie, which split each is of."""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from pipeline.catalog import read_other
from pipeline.errors import VideoError

VideoSplit = Literal["training", "validation", "test"]
Reader = Literal["pictures", "seq"]
KIND: Literal["video"] = "video"
Positive = Annotated[int, Field(gt=0)]


@dataclass(frozen=True, slots=True)
class VideoSet:
    """An entry of the catalogue.

    Attributes:
        name: Its key.
        title: What a person calls it.
        reader: *pictures*, a folder of them a drive; or *seq*, a file a drive.
        splits: Patterns of drives, paths below the set's folder, by split. A drive that one split
            names without a wildcard is in no other split's pattern.
        rate: Frames a second, as they are recorded.
        every: Take every n-th frame, the n-th first, as counted from 1.
        frames: Folder of the pictures below a drive's own; nothing, if they lie in it.
        height: Rows of a stored frame.
        width: Columns.
        terms: Who owns the frames and what may be done with them.
    """

    name: str
    title: str
    reader: Reader
    splits: dict[VideoSplit, tuple[str, ...]]
    rate: Annotated[float, Field(gt=0)]
    every: Positive = 1
    frames: str = ""
    height: Positive = 128
    width: Positive = 160
    kind: Literal["video"] = KIND
    terms: str = ""
    channels: tuple[str, ...] = field(default=("red", "green", "blue"), init=False)


@dataclass(frozen=True, slots=True, order=True)
class Drive:
    """Frames that follow each other without a gap.

    Attributes:
        name: Path below the set's folder; of a file without its ending.
        split: What it is for.
        path: The folder of its pictures, or its file.
    """

    name: str
    split: VideoSplit
    path: Path

    @property
    def file(self) -> str:
        """Where a store keeps it, relative to its root."""
        return f"{self.split}/{self.name.replace('/', '__')}.nc"


def read_entry(name: str, path: Path | None = None) -> VideoSet:
    """Return an entry of a catalogue.

    Raises:
        CatalogError: The catalogue is faulty, or has no such entry of this kind.
    """
    return read_other(VideoSet, KIND, name, path)


def find_drives(entry: VideoSet, root: Path, split: VideoSplit) -> list[Drive]:
    """Return the drives of a split, by name.

    Raises:
        VideoError: A pattern finds nothing, lists all that do; or a drive is in two splits.
    """
    if split not in entry.splits:
        raise VideoError(f"{entry.name}: no {split} split; there are {sorted(entry.splits)}")
    found: dict[str, Drive] = {}
    empty = []
    for pattern in entry.splits[split]:
        matches = _matches(entry, root, split, pattern)
        if not matches:
            empty.append(str(root / pattern))
        found |= {drive.name: drive for drive in matches}
    if empty:
        raise VideoError("\n".join(f"{pattern}: no such drive" for pattern in empty))
    if twice := [name for name in found if _splits_of(entry, name) != [split]]:
        said = ", ".join(f"{name} {_splits_of(entry, name)}" for name in sorted(twice))
        raise VideoError(f"{root}: drives in more than one split of {entry.name}: {said}")
    return sorted(found.values())


def _matches(entry: VideoSet, root: Path, split: VideoSplit, pattern: str) -> list[Drive]:
    drives = []
    for path in root.glob(pattern):
        if path.is_file() != (entry.reader == "seq"):
            continue
        name = path.relative_to(root).as_posix()
        if entry.reader == "seq":
            name = name.removesuffix(path.suffix)
        others = {s for s in entry.splits if s != split and name in _names(entry, s)}
        if others and name not in _names(entry, split):
            continue  # kept for the split that names it
        drives.append(Drive(name, split, path / entry.frames if entry.frames else path))
    return drives


def _splits_of(entry: VideoSet, name: str) -> list[VideoSplit]:
    """Return the splits that a drive is in; a name is stronger than a pattern."""
    named = [split for split in entry.splits if name in _names(entry, split)]
    if named:
        return named
    return [
        split
        for split, patterns in entry.splits.items()
        if any(_fits(name, _bare(entry, pattern)) for pattern in patterns)
    ]


def _fits(name: str, pattern: str) -> bool:
    parts, wanted = name.split("/"), pattern.split("/")
    return len(parts) == len(wanted) and all(map(fnmatchcase, parts, wanted))


def _names(entry: VideoSet, split: VideoSplit) -> set[str]:
    return {_bare(entry, pattern) for pattern in entry.splits[split] if not _wild(pattern)}


def _bare(entry: VideoSet, pattern: str) -> str:
    return pattern.removesuffix(".seq") if entry.reader == "seq" else pattern


def _wild(pattern: str) -> bool:
    return any(letter in pattern for letter in "*?[")
