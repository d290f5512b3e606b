"""The members of a submission, in a zip or a folder, from hands unknown."""

from __future__ import annotations

import os
import stat
import struct
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path, PurePosixPath
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, LargeZipFile, ZipFile, ZipInfo

from pipeline.atomic import naming_faults, temporary_folder
from pipeline.errors import HeatmapError, OutputError, SubmissionError
from pipeline.frame_reader import FrameReader
from pipeline.heatmaps import open_frames

SLACK_BYTES = 16 * 1024**2  # what an HDF5 file of a shape may weigh beyond its raw bytes
COPY_BYTES = 1024**2
EMPTY_BYTES = 2  # what nothing weighs once it is deflated
UNICODE_PATH = 0x7075  # Info-ZIP's extra field with another name for the entry
READER_BYTES = 1536 * 1024**2
THREAD_BYTES, BLAS_THREADS = 64 * 1024**2, 64
"""What numpy sets aside for each core as it is imported, and for how many at most."""

Expected = Mapping[str, tuple[int, ...]]
"""The shape of the frames in each member, by the member's name."""


@dataclass(frozen=True, slots=True)
class Listing:
    """What the list of a submission's members says, before one is unpacked.

    Attributes:
        faults: All that is wrong with it, a line each.
        readable: The expected members that are there as what they should be.
    """

    faults: tuple[str, ...]
    readable: frozenset[str] = frozenset()


def weight_faults(path: Path, most_mib: int | None) -> Iterator[str]:
    """Yield that a zip weighs more than the rules of its edition allow."""
    if most_mib is not None and path.is_file() and path.stat().st_size > most_mib * 1024**2:
        yield (
            f"{path}: weighs {path.stat().st_size / 1024**2:,.1f} MiB, expected at most "
            f"{most_mib:,} MiB"
        )


def list_members(path: Path, expected: Expected) -> Listing:
    """Hold the list of members against what is expected; nothing is unpacked.

    Names must be those expected, no more, no fewer, none twice and none that leaves the folder it
    is unpacked in; members must be plain files, not encrypted, stored or deflated, and no larger
    than their shapes allow. A zip may list the folders they are in, empty, each once.
    """
    if path.is_dir():
        return _list_folder(path, expected)
    try:
        with ZipFile(path) as archive:
            entries = archive.infolist()
    except FileNotFoundError:
        return Listing((f"{path}: no such file or folder",))
    except (BadZipFile, LargeZipFile, OSError, ValueError, NotImplementedError) as fault:
        return Listing((f"{path}: not a readable zip: {fault}",))
    folders = {
        f"{folder}/" for name in expected for folder in PurePosixPath(name).parents if folder.name
    }
    wrong = {entry: list(_entry_faults(entry, expected, folders)) for entry in entries}
    names = [entry.filename for entry in entries]
    return Listing(
        tuple(f"{path}: {fault}" for faults in wrong.values() for fault in faults)
        + tuple(_compare(path, names, expected, folders)),
        frozenset(expected).intersection(names)
        - {entry.filename for entry, faults in wrong.items() if faults},
    )


@dataclass(frozen=True, slots=True)
class Member:
    """A member of a submission, to be read by a process that may die of it.

    Attributes:
        path: The submission, a zip or a folder.
        name: The member's name in it.
        shape: What its frames must measure.
    """

    path: Path
    name: str
    shape: tuple[int, ...]


def read_member(member: Member) -> None:
    """Read a member to its end.

    Raises:
        SubmissionError: Anything is wrong with it.
    """
    with open_member(member) as frames:
        for _ in frames.slabs():
            pass


def reader_memory(expected: Expected) -> int:
    """Return the bytes of address space in which a process can read the largest member.

    Enough for a lawful member, and for what the libraries set aside on a machine of many cores;
    far too little for one that swells.
    """
    cores = min(BLAS_THREADS, os.cpu_count() or 1)
    return READER_BYTES + cores * THREAD_BYTES + max(map(prod, expected.values()), default=0)


@contextmanager
def open_member(member: Member) -> Iterator[FrameReader]:
    """Open the frames of a member; what is wrong is said of the member, not of a file unpacked.

    Raises:
        SubmissionError: The member cannot be unpacked, or is not what a submission must hold;
            while it is open also, if its frames cannot be read.
    """
    where = f"{member.path}: {member.name}"
    with member_file(member.path, member.name, member.shape) as file:
        try:
            with open_frames(file, member.shape, strict=True) as frames:
                yield frames
        except HeatmapError as fault:
            raise SubmissionError(f"{where}: {str(fault).removeprefix(f'{file}: ')}") from None


@contextmanager
def member_file(path: Path, name: str, shape: tuple[int, ...]) -> Iterator[Path]:
    """Yield a member of a zip or folder as a file on disk, unpacked for as long as it is needed.

    Raises:
        SubmissionError: The member is missing, cannot be unpacked, or is larger than its shape.
    """
    if path.is_dir():
        yield path / name
        return
    with temporary_folder() as folder:
        unpacked = folder / "member.h5"
        try:
            with (
                naming_faults(unpacked),
                ZipFile(path) as archive,
                archive.open(name) as source,
                unpacked.open("wb") as out,
            ):
                room = limit = _limit(shape)
                while piece := source.read(COPY_BYTES):
                    room -= len(piece)
                    if room < 0:
                        said = f"unpacks to more than {limit:,} bytes"
                        raise SubmissionError(f"{path}: {name}: {said}")
                    out.write(piece)
        except (SubmissionError, OutputError):
            raise
        except Exception as fault:  # zipfile and zlib raise many kinds for damaged members
            said = str(fault).removesuffix(f" for file {name!r}")
            raise SubmissionError(f"{path}: {name}: cannot be unpacked: {said}") from None
        yield unpacked


def write_zip(target: Path, members: Mapping[str, Path]) -> Path:
    """Write files under their member names, in the order of names; the same bytes every time.

    The caller provides for wholeness: `target` is the path that `whole_file` yields.
    """
    with ZipFile(target, "w", ZIP_STORED, allowZip64=True) as archive:
        for name in sorted(members):
            entry = ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            entry.create_system, entry.external_attr = 3, (stat.S_IFREG | 0o644) << 16
            entry.file_size = members[name].stat().st_size
            with members[name].open("rb") as source, archive.open(entry, "w") as out:
                while piece := source.read(COPY_BYTES):
                    out.write(piece)
    return target


def _list_folder(path: Path, expected: Expected) -> Listing:
    members = {
        member.relative_to(path).as_posix(): member
        for member in sorted(path.rglob("*"))
        if member.is_symlink() or not member.is_dir()
    }
    wrong = {
        name: "is a link" if member.is_symlink() else "is not a plain file"
        for name, member in members.items()
        if member.is_symlink() or not member.is_file()
    }
    faults = [f"{path}: {name} {fault}" for name, fault in wrong.items()]
    return Listing(
        (*faults, *_compare(path, list(members), expected, set())),
        frozenset(expected).intersection(members) - set(wrong),
    )


def _compare(path: Path, names: list[str], expected: Expected, folders: set[str]) -> Iterator[str]:
    counts = Counter(names)
    yield from (f"{path}: {name} is there {n} times" for name, n in counts.items() if n > 1)
    yield from (f"{path}: missing {name}" for name in sorted(set(expected) - set(counts)))
    extra = sorted(set(counts) - set(expected) - folders)
    yield from (f"{path}: unexpected {name!r}" for name in extra)
    inside = [name for name in extra if "/" in name and name.split("/", 1)[1] in expected]
    if inside and not set(counts) & set(expected):
        wrapper = inside[0].split("/", 1)[0]
        yield f"{path}: all is inside a folder {wrapper!r}; it belongs at the root"


def _entry_faults(entry: ZipInfo, expected: Expected, folders: set[str]) -> Iterator[str]:
    name, kind = entry.filename, stat.S_IFMT(entry.external_attr >> 16)
    if (
        name.startswith("/")
        or ".." in PurePosixPath(name).parts
        or any(sign in entry.orig_filename for sign in "\\:\0")
    ):
        yield f"{name!r} would be unpacked outside its folder"
    if UNICODE_PATH in _extra_fields(entry.extra):
        yield f"{name!r} has a second name, by which others would unpack it"
    if stat.S_ISLNK(kind):
        yield f"{name} is a link"
    elif kind not in (0, stat.S_IFDIR if name in folders else stat.S_IFREG):
        yield f"{name} is of kind {kind:#o}, expected a {'folder' if name in folders else 'file'}"
    if entry.flag_bits & 1:
        yield f"{name} is encrypted"
    if entry.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
        yield f"{name} is compressed by method {entry.compress_type}, expected stored or deflated"
    if name in folders and (entry.file_size or entry.compress_size > EMPTY_BYTES):
        yield f"{name} holds {max(entry.file_size, entry.compress_size):,} bytes, expected a folder"
    if name in expected and entry.file_size > _limit(expected[name]):
        yield f"{name} claims {entry.file_size:,} bytes, at most {_limit(expected[name]):,} fit"


def _extra_fields(extra: bytes) -> Iterator[int]:
    """Yield the numbers of an entry's extra fields."""
    while len(extra) >= 4:
        number, size = struct.unpack_from("<HH", extra)
        yield number
        extra = extra[4 + size :]


def _limit(shape: tuple[int, ...]) -> int:
    return prod(shape) + SLACK_BYTES
