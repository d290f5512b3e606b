from __future__ import annotations

import os
import re
import resource
import shutil
import stat
import struct
import zipfile
from dataclasses import replace
from pathlib import Path
from zipfile import ZipFile, ZipInfo

import h5py
import hdf5plugin
import numpy as np
import pytest

from pipeline import submission
from pipeline.archive import Member, list_members, open_member, reader_memory
from pipeline.errors import InUseError, SubmissionError, WindowError
from pipeline.forecasters import MovingAverage, Persistence
from pipeline.heatmaps import read_frames, write_frames
from pipeline.members import expected_members
from pipeline.store import Store
from pipeline.submission import check_submission, write_submission
from tests.world import TEST, TINY, draw_day

EXPECTED = expected_members(TINY, {city.name: list(TEST) for city in TINY.cities})
SHAPE = (2, 4, 11, 7, 3)
FIRST = "Aal/Aal_test/20180105_100m_bins.h5"


def write(target, stores, model=None, **options):
    return write_submission(
        target,
        stores,
        lambda city: model or Persistence(),
        **{"identity": "persistence", "history": 5, **options},
    )


@pytest.fixture
def good(stores, tmp_path):
    return write(tmp_path / "s.zip", stores).path


def members(path):
    with ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def rezip(path, files, **options):
    with ZipFile(path, "w", **options) as archive:
        for name, data in files.items():
            archive.writestr(name, data)


def test_members_are_exactly_those_of_2019(good):
    assert sorted(EXPECTED) == list(members(good))
    assert FIRST in EXPECTED
    assert len(EXPECTED) == 4
    assert check_submission(good, EXPECTED, workers=0) == []
    assert check_submission(good, EXPECTED, workers=2) == []


def test_a_member_is_the_forecast_of_its_slots(stores, tmp_path):
    path = write(tmp_path / "s.zip", stores, MovingAverage(), identity="mean").path
    for name, data in members(path).items():
        (tmp_path / "m.h5").write_bytes(data)
        found = read_frames(tmp_path / "m.h5", SHAPE)
        city = TINY.city(name.split("/")[0])
        frames = draw_day(city, name.split("/")[2][:8])
        for place, slot in enumerate(city.test_slots):
            mean = np.rint(frames[slot - 5 : slot].mean(axis=0, dtype=np.float32))
            np.testing.assert_array_equal(found[place], np.stack([mean] * 4))


def test_twice_is_the_same_bytes(stores, tmp_path):
    one = write(tmp_path / "one.zip", stores)
    two = write(tmp_path / "two.zip", stores)
    assert one.sha256 == two.sha256
    assert one.path.read_bytes() == two.path.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["one.zip", "two.zip"]


class Stops:
    """A forecaster that fails after so many test days."""

    def __init__(self, after: int) -> None:
        self.left = after * 2

    def forecast(self, history, windows):
        self.left -= 1
        if self.left < 0:
            raise RuntimeError("killed")
        return Persistence().forecast(history, windows)


def test_a_stopped_run_goes_on_and_ends_the_same(stores, tmp_path):
    undisturbed = write(tmp_path / "one.zip", stores)
    with pytest.raises(RuntimeError, match="killed"):
        write(tmp_path / "two.zip", stores, Stops(3))
    assert not (tmp_path / "two.zip").exists()
    resumed = write(tmp_path / "two.zip", stores)
    assert (resumed.resumed, resumed.sha256) == (3, undisturbed.sha256)


def test_parts_of_another_model_are_not_used(stores, tmp_path):
    with pytest.raises(RuntimeError):
        write(tmp_path / "s.zip", stores, Stops(3), identity="other")
    assert write(tmp_path / "s.zip", stores).resumed == 0
    assert [p.name for p in tmp_path.iterdir()] == ["s.zip"]


def with_other_slots(store):
    """The same days, forecast a frame later."""
    cities = tuple(
        replace(city, test_slots=tuple(slot + 1 for slot in city.test_slots))
        for city in TINY.cities
    )
    edition = replace(TINY, cities=cities)
    return Store(store.root, edition, edition.city(store.city.name), store.manifest)


def with_other_scale(store):
    edition = replace(TINY, scored_channels=2)
    return Store(store.root, edition, store.city, store.manifest)


@pytest.mark.parametrize("change", [with_other_slots, with_other_scale])
def test_parts_of_another_forecast_are_not_used(stores, tmp_path, change):
    others = [change(store) for store in stores]
    with pytest.raises(RuntimeError):
        write(tmp_path / "s.zip", others, Stops(3))
    found = write(tmp_path / "s.zip", stores)
    assert found.resumed == 0
    assert found.sha256 == write(tmp_path / "t.zip", stores).sha256


def test_parts_of_another_target_are_left_alone(stores, tmp_path):
    for name in ("s.v2.zip", "s[1].zip", "sss.zip"):
        with pytest.raises(RuntimeError):
            write(tmp_path / name, stores, Stops(3))
    write(tmp_path / "s.zip", stores)
    assert write(tmp_path / "s.v2.zip", stores).resumed == 3
    assert write(tmp_path / "s[1].zip", stores).resumed == 3
    assert write(tmp_path / "sss.zip", stores).resumed == 3
    names = sorted(p.name for p in tmp_path.iterdir())
    assert names == ["s.v2.zip", "s.zip", "s[1].zip", "sss.zip"]


def test_a_second_run_into_the_same_zip_is_refused(stores, tmp_path):
    target = tmp_path / "s.zip"
    refusals = []

    class Meddles(Persistence):
        """A forecaster during whose work another run begins."""

        def forecast(self, history, windows):
            with pytest.raises(InUseError, match=r"s\.zip: another run") as refusal:
                write(target, stores, identity="other")
            refusals.append(str(refusal.value))
            return super().forecast(history, windows)

    found = write(target, stores, Meddles())
    assert refusals
    assert all(str(target) in refusal for refusal in refusals)
    assert found.sha256 == write(tmp_path / "t.zip", stores).sha256
    assert sorted(p.name for p in tmp_path.iterdir()) == ["s.zip", "t.zip"]


def test_the_lock_of_a_dead_run_is_no_lock(stores, tmp_path):
    (tmp_path / ".s.lock").touch()
    write(tmp_path / "s.zip", stores)
    assert [p.name for p in tmp_path.iterdir()] == ["s.zip"]


def test_a_failed_run_gives_its_lock_back(stores, tmp_path):
    with pytest.raises(RuntimeError):
        write(tmp_path / "s.zip", stores, Stops(3))
    assert [p.suffix for p in tmp_path.iterdir()] == [".parts"]


def test_more_history_than_a_test_day_gives_is_refused(stores, tmp_path):
    with pytest.raises(WindowError, match="history of 10 frames"):
        write(tmp_path / "s.zip", stores, history=10)


def test_no_test_days_are_no_submission():
    with pytest.raises(SubmissionError, match="no test days"):
        expected_members(TINY, {"Aal": []})


def test_a_city_without_slots_is_refused_by_name(stores, tmp_path):
    cities = (TINY.cities[0], replace(TINY.cities[1], test_slots=()))
    edition = replace(TINY, cities=cities)
    with pytest.raises(SubmissionError, match="tiny: Bex has test day 20180105, but no slots"):
        expected_members(edition, {"Aal": list(TEST), "Bex": list(TEST)})
    assert len(expected_members(edition, {"Aal": list(TEST), "Bex": []})) == 2
    others = [Store(s.root, edition, edition.city(s.city.name), s.manifest) for s in stores]
    with pytest.raises(SubmissionError, match="Bex has test day 20180105, but no slots"):
        write(tmp_path / "s.zip", others)
    assert list(tmp_path.iterdir()) == []


def test_each_test_day_has_the_slots_of_its_own():
    city = replace(TINY.cities[0], test_slots=(), slots_by_day={TEST[0]: (14,), TEST[1]: (14, 30)})
    edition = replace(TINY, cities=(city,))
    assert expected_members(edition, {"Aal": list(TEST)}) == {
        FIRST: (1, *SHAPE[1:]),
        FIRST.replace(TEST[0], TEST[1]): SHAPE,
    }
    with pytest.raises(SubmissionError, match="Aal has test day 20180109, but no slots"):
        expected_members(edition, {"Aal": ["20180109"]})


def frames_file(folder: Path, frames: np.ndarray, key: str = "array", **more: np.ndarray) -> bytes:
    path = folder / "spoiled.h5"
    with h5py.File(path, "w") as file:
        file[key] = frames
        for name, value in more.items():
            file[name] = value
    return path.read_bytes()


GOOD = np.zeros(SHAPE, np.uint8)


def change(name, make):
    """A spoiler that replaces one member's bytes."""

    def spoil(path, folder):
        files = members(path)
        files[name] = make(folder)
        rezip(path, files)

    return spoil


def rename(old, new):
    def spoil(path, folder):
        files = members(path)
        files[new] = files.pop(old)
        rezip(path, files)

    return spoil


def drop(path, folder):
    files = members(path)
    del files[FIRST]
    rezip(path, files)


def extra(path, folder):
    rezip(path, members(path) | {"notes.txt": b"hello"})


def twice(path, folder):
    with pytest.warns(UserWarning, match="Duplicate"), ZipFile(path, "a") as archive:
        archive.writestr(FIRST, b"again")


def wrapper(path, folder):
    rezip(path, {f"submission/{name}": data for name, data in members(path).items()})


def not_a_zip(path, folder):
    path.write_bytes(b"not a zip")


def cut_short(path, folder):
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def gone(path, folder):
    path.unlink()


def bad_crc(path, folder):
    data = bytearray(path.read_bytes())
    at = data.find(b"\x89HDF")
    data[at + 200] ^= 0xFF
    path.write_bytes(data)


def symlink(path, folder):
    files = members(path)
    data = files.pop(FIRST)
    rezip(path, files)
    with ZipFile(path, "a") as archive:
        entry = ZipInfo(FIRST)
        entry.create_system, entry.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
        archive.writestr(entry, data)


def add(name, data=b"", mode=0, **attributes):
    """A spoiler that adds an entry."""

    def spoil(path, folder):
        entry = ZipInfo(name)
        entry.create_system, entry.external_attr = 3, mode << 16
        for key, value in attributes.items():
            setattr(entry, key, value)
        with ZipFile(path, "a") as archive:
            archive.writestr(entry, data)

    return spoil


def swap(mode=0, **attributes):
    """A spoiler that packs a member anew, as another kind of entry."""

    def spoil(path, folder):
        files = members(path)
        data = files.pop(FIRST)
        rezip(path, files)
        add(FIRST, data, mode, **attributes)(path, folder)

    return spoil


def folder_twice(path, folder):
    add("Aal/")(path, folder)
    with pytest.warns(UserWarning, match="Duplicate"):
        add("Aal/")(path, folder)


def second_name(name):
    """Info-ZIP's extra field that gives an entry another name."""
    data = b"\1" + struct.pack("<L", zipfile.crc32(FIRST.encode())) + name.encode()
    return struct.pack("<HHHH", 0xCAFE, 2, 0, 0x7075) + struct.pack("<H", len(data)) + data


def encrypted(path, folder):
    data = bytearray(path.read_bytes())
    entry = data.find(b"PK\x01\x02")
    data[entry + 8] |= 1
    path.write_bytes(data)


def lzma(path, folder):
    rezip(path, members(path), compression=zipfile.ZIP_LZMA)


def bomb(path, folder):
    files = members(path)
    files[FIRST] = bytes(64 * 1024**2)
    rezip(path, files, compression=zipfile.ZIP_DEFLATED)


def truncated_member(folder):
    return frames_file(folder, GOOD)[:-100]


SPOILED = {
    "missing member": (drop, f"missing {FIRST}"),
    "extra member": (extra, "unexpected 'notes.txt'"),
    "member twice": (twice, f"{FIRST} is there 2 times"),
    "wrapper folder": (wrapper, "all is inside a folder 'submission'"),
    "misnamed day": (rename(FIRST, FIRST.replace("0105", "0106")), "unexpected .*20180106"),
    "lower-case city": (rename(FIRST, FIRST.replace("Aal/", "aal/")), "unexpected 'aal/"),
    "parent folder": (rename(FIRST, "../" + FIRST), "outside its folder"),
    "absolute name": (rename(FIRST, "/" + FIRST), "outside its folder"),
    "backslashes": (rename(FIRST, FIRST.replace("/", "\\")), "outside its folder"),
    "drive letter": (rename(FIRST, "C:" + FIRST), "outside its folder"),
    "not a zip": (not_a_zip, "not a readable zip"),
    "truncated zip": (cut_short, "not a readable zip"),
    "no file": (gone, "no such file"),
    "bad checksum": (bad_crc, "cannot be unpacked: Bad CRC"),
    "symlink": (symlink, "is a link"),
    "pipe": (swap(stat.S_IFIFO | 0o644), f"{FIRST} is of kind 0o10000, expected a file"),
    "device": (swap(stat.S_IFCHR | 0o644), f"{FIRST} is of kind 0o20000, expected a file"),
    "folder as member": (swap(stat.S_IFDIR | 0o755), "is of kind 0o40000, expected a file"),
    "symlink named like a folder": (add("Aal/", b"/etc", stat.S_IFLNK | 0o777), "Aal/ is a link"),
    "pipe named like a folder": (add("Aal/", b"", stat.S_IFIFO), "Aal/ is of kind 0o10000"),
    "file named like a folder": (add("Aal/", b"", stat.S_IFREG), "Aal/ .*, expected a folder"),
    "payload in a folder": (add("Aal/", b"payload"), "Aal/ holds 7 bytes, expected a folder"),
    "folder twice": (folder_twice, "Aal/ is there 2 times"),
    "folder of itself": (add("./"), "unexpected './'"),
    "folder of others": (add("Cue/"), "unexpected 'Cue/'"),
    "second name": (swap(extra=second_name("../evil")), f"'{FIRST}' has a second name"),
    "encrypted": (encrypted, "is encrypted"),
    "lzma": (lzma, "compressed by method 14"),
    "bomb": (bomb, "at most .* fit"),
    "not HDF5": (change(FIRST, lambda folder: b"text"), "not a readable HDF5 file"),
    "truncated HDF5": (change(FIRST, truncated_member), "truncated"),
    "leading axis": (
        change(FIRST, lambda folder: frames_file(folder, GOOD[None])),
        r"shape \(1, 2, 4, 11, 7, 3\), expected \(2, 4, 11, 7, 3\)",
    ),
    "missing slot": (change(FIRST, lambda folder: frames_file(folder, GOOD[:1])), r"shape \(1, 4"),
    "leads and slots swapped": (
        change(FIRST, lambda folder: frames_file(folder, GOOD.swapaxes(0, 1))),
        r"shape \(4, 2",
    ),
    "channels first": (
        change(FIRST, lambda folder: frames_file(folder, np.moveaxis(GOOD, -1, 2))),
        r"shape \(2, 4, 3, 11, 7\)",
    ),
    "floats": (
        change(FIRST, lambda folder: frames_file(folder, GOOD.astype(np.float32))),
        "type float32, expected uint8",
    ),
    "int16": (
        change(FIRST, lambda folder: frames_file(folder, GOOD.astype(np.int16))),
        "type int16, expected uint8",
    ),
    "other key": (
        change(FIRST, lambda folder: frames_file(folder, GOOD, "data")),
        r"keys \['data'\], expected 'array' and nothing else",
    ),
    "second key": (
        change(FIRST, lambda folder: frames_file(folder, GOOD, a=GOOD)),
        r"keys \['a', 'array'\]",
    ),
}


@pytest.mark.parametrize("name", SPOILED)
def test_a_spoiled_submission_is_refused_with_the_fault(good, tmp_path, name):
    spoil, said = SPOILED[name]
    spoil(good, tmp_path)
    faults = check_submission(good, EXPECTED, workers=0)
    assert faults
    assert any(re.search(said, fault) for fault in faults), faults
    assert all(str(good) in fault for fault in faults)


def packed(options):
    def make(folder):
        path = folder / "spoiled.h5"
        with h5py.File(path, "w") as file:
            file.create_dataset("array", data=GOOD, **options)
        return path.read_bytes()

    return make


@pytest.mark.parametrize("options", [hdf5plugin.LZ4(), hdf5plugin.Zstd()])
def test_members_that_plain_h5py_cannot_read_are_refused(good, tmp_path, options):
    change(FIRST, packed(options))(good, tmp_path)
    (fault,) = check_submission(good, EXPECTED, workers=0)
    assert "compressed with filter 320" in fault


@pytest.mark.parametrize("name", ["bad checksum", "truncated HDF5", "leading axis", "not HDF5"])
def test_a_fault_names_its_member_once_and_no_other_file(good, tmp_path, name):
    SPOILED[name][0](good, tmp_path)
    (fault,) = check_submission(good, EXPECTED, workers=0)
    assert fault.startswith(f"{good}: {FIRST}: ")
    assert fault.count(FIRST) == fault.count(str(good)) == 1
    assert "member.h5" not in fault


def test_the_list_says_what_is_worth_reading(good, tmp_path):
    assert list_members(good, EXPECTED).readable == set(EXPECTED)
    swap(stat.S_IFIFO)(good, tmp_path)
    files = sorted(EXPECTED)
    assert list_members(good, EXPECTED).readable == set(files[1:])
    assert list_members(tmp_path / "nothing.zip", EXPECTED).readable == set()


def test_no_fault_hides_behind_the_name_of_the_zip(good, tmp_path):
    path = tmp_path / "no such, not a readable zip" / f"missing {FIRST}"
    path.parent.mkdir(parents=True)
    files = members(good)
    del files[FIRST]
    last = max(files)
    rezip(path, files | {last: b"text"})
    said = "\n".join(check_submission(path, EXPECTED, workers=0))
    assert f"{path}: missing {FIRST}" in said
    assert f"{path}: {last}: not a readable HDF5 file" in said
    assert said.count("\n") == 1


def tell_limit(member):
    """What a reader may ask for, told as a fault."""
    raise SubmissionError(f"{member.name}: {resource.getrlimit(resource.RLIMIT_AS)[0]} bytes")


def test_readers_are_given_little_memory(good, monkeypatch):
    monkeypatch.setattr(submission, "read_member", tell_limit)
    faults = check_submission(good, EXPECTED, workers=1)
    assert len(faults) == len(EXPECTED)
    assert all(f" {reader_memory(EXPECTED)} bytes" in fault for fault in faults)


def test_faults_within_an_open_member_are_its_own(good, tmp_path):
    def spoiled(folder):
        path = folder / "spoiled.h5"
        with h5py.File(path, "w") as file:
            file.create_dataset("array", data=GOOD, chunks=SHAPE, compression="gzip")
            file["array"].id.write_direct_chunk((0,) * 5, b"no deflate")
        return path.read_bytes()

    change(FIRST, spoiled)(good, tmp_path)
    with (
        pytest.raises(SubmissionError, match=f"^{good}: {FIRST}: rows 0 to 2 unreadable"),
        open_member(Member(good, FIRST, SHAPE)) as frames,
    ):
        frames.read()


def test_every_fault_is_listed(good, tmp_path):
    files = members(good)
    names = sorted(files)
    files[names[0]] = b"text"
    files[names[1]] = frames_file(tmp_path, GOOD.astype(np.int16))
    del files[names[2]]
    files["x"] = b""
    rezip(good, files)
    faults = check_submission(good, EXPECTED, workers=2)
    assert len(faults) == 4
    for name, fault in (
        (names[0], "not a readable HDF5"),
        (names[1], "int16"),
        (names[2], "missing"),
        ("x", "unexpected"),
    ):
        assert any(name in f and fault in f for f in faults)


def test_a_folder_is_checked_like_a_zip(good, tmp_path):
    folder = tmp_path / "folder"
    with ZipFile(good) as archive:
        archive.extractall(folder)
    assert check_submission(folder, EXPECTED, workers=0) == []
    shutil.move(folder / FIRST, tmp_path / "elsewhere.h5")
    (folder / FIRST).symlink_to(tmp_path / "elsewhere.h5")
    (fault,) = check_submission(folder, EXPECTED, workers=0)
    assert f"{FIRST} is a link" in fault
    (folder / FIRST).unlink()
    os.mkfifo(folder / FIRST)
    (fault,) = check_submission(folder, EXPECTED, workers=0)
    assert f"{FIRST} is not a plain file" in fault


def test_a_deflated_zip_with_folder_entries_is_fine(good):
    files = members(good)
    with ZipFile(good, "w", zipfile.ZIP_DEFLATED) as archive:
        for folder in ("Aal/", "Aal/Aal_test/", "Bex/", "Bex/Bex_test/"):
            archive.writestr(folder, b"")
        for name, data in files.items():
            archive.writestr(name, data)
    assert check_submission(good, EXPECTED, workers=0) == []


def test_written_members_bear_the_official_marks(good, tmp_path):
    path = tmp_path / "m.h5"
    path.write_bytes(members(good)[FIRST])
    with h5py.File(path) as file:
        assert list(file) == ["array"]
        assert (file["array"].dtype, file["array"].shape) == (np.uint8, SHAPE)
        assert file["array"].compression == "gzip"
    assert (
        write_frames(tmp_path / "same.h5", read_frames(path, SHAPE), gzip=4).read_bytes()
        == (members(good)[FIRST])
    )
