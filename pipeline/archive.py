"""The members of a submission, in a zip or a folder, from hands unknown."""

from __future__ import annotations

import stat
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import prod
from pathlib import Path, PurePosixPath
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, LargeZipFile, ZipFile, ZipInfo

from pipeline.errors import SubmissionError

SLACK_BYTES = 16 * 1024**2
"""What an HDF5 file of a shape may weigh beyond its raw bytes."""
COPY_BYTES = 1024**2

Expected = Mapping[str, tuple[int, ...]]
"""The shape of the frames in each member, by the member's name."""


def name_faults(path: Path, expected: Expected) -> list[str]:
    """Return all that is wrong with the list of members, a line each; nothing is unpacked.

    Names must be those expected, no more, no fewer, none twice and none that leaves the folder it
    is unpacked in; members must be plain files, not encrypted, stored or deflated, and no larger
    than their shapes allow.
    """
    if path.is_dir():
        members = [p for p in sorted(path.rglob("*")) if not p.is_dir() or p.is_symlink()]
        faults = [f"{path}: {m.relative_to(path)} is a link" for m in members if m.is_symlink()]
        return faults + _compare(path, [m.relative_to(path).as_posix() for m in members], expected)
    try:
        with ZipFile(path) as archive:
            entries = archive.infolist()
    except FileNotFoundError:
        return [f"{path}: no such file or folder"]
    except (BadZipFile, LargeZipFile, OSError, ValueError, NotImplementedError) as fault:
        return [f"{path}: not a readable zip: {fault}"]
    folders = {f"{parent}/" for name in expected for parent in PurePosixPath(name).parents}
    files = [entry for entry in entries if entry.filename not in folders]
    faults = [f"{path}: {fault}" for entry in files for fault in _entry_faults(entry, expected)]
    return faults + _compare(path, [entry.filename for entry in files], expected)


@contextmanager
def member_file(path: Path, name: str, shape: tuple[int, ...]) -> Iterator[Path]:
    """Yield a member of a zip or folder as a file on disk, unpacked for as long as it is needed.

    Raises:
        SubmissionError: The member is missing, cannot be unpacked, or is larger than its shape.
    """
    if path.is_dir():
        yield path / name
        return
    with tempfile.TemporaryDirectory(prefix="t4c-") as folder:
        unpacked = Path(folder) / "member.h5"
        try:
            with ZipFile(path) as archive, archive.open(name) as source, unpacked.open("wb") as out:
                room = _limit(shape)
                while piece := source.read(COPY_BYTES):
                    room -= len(piece)
                    if room < 0:
                        raise SubmissionError(
                            f"{path}: {name} unpacks to more than {_limit(shape):,} bytes"
                        )
                    out.write(piece)
        except SubmissionError:
            raise
        except Exception as fault:  # zipfile and zlib raise many kinds for damaged members
            raise SubmissionError(f"{path}: {name} cannot be unpacked: {fault}") from None
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


def _compare(path: Path, names: list[str], expected: Expected) -> list[str]:
    counts = Counter(names)
    faults = [f"{path}: {name} is there {n} times" for name, n in counts.items() if n > 1]
    faults += [f"{path}: missing {name}" for name in sorted(set(expected) - set(counts))]
    extra = sorted(set(counts) - set(expected))
    faults += [f"{path}: unexpected {name!r}" for name in extra]
    inside = [name for name in extra if "/" in name and name.split("/", 1)[1] in expected]
    if inside and not set(counts) & set(expected):
        wrapper = inside[0].split("/", 1)[0]
        faults.append(f"{path}: all is inside a folder {wrapper!r}; it belongs at the root")
    return faults


def _entry_faults(entry: ZipInfo, expected: Expected) -> Iterator[str]:
    name, mode = entry.filename, entry.external_attr >> 16
    if (
        name.startswith("/")
        or ".." in PurePosixPath(name).parts
        or any(sign in entry.orig_filename for sign in "\\:\0")
    ):
        yield f"{name!r} would be unpacked outside its folder"
    if stat.S_ISLNK(mode):
        yield f"{name} is a link"
    if entry.flag_bits & 1:
        yield f"{name} is encrypted"
    if entry.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
        yield f"{name} is compressed by method {entry.compress_type}, expected stored or deflated"
    if name in expected and entry.file_size > _limit(expected[name]):
        yield f"{name} claims {entry.file_size:,} bytes, at most {_limit(expected[name]):,} fit"


def _limit(shape: tuple[int, ...]) -> int:
    return prod(shape) + SLACK_BYTES
