"""Camera drives: cut as PredNet cuts them, stored once, never crossed; .seq files hardened."""

from __future__ import annotations

import hashlib
import json
import shutil
import struct

import numpy as np
import pytest
import xarray as xr
from PIL import Image

from pipeline.catalog import read_catalog
from pipeline.errors import CatalogError, VideoError
from pipeline.sources.video import DriveWindows, ShuffledWindows
from pipeline.video.entry import find_drives, read_entry
from pipeline.video.pictures import list_pictures
from pipeline.video.prednet_crop import crop_picture
from pipeline.video.seq import open_seq
from pipeline.video.store import ingest_drives, read_manifest, stored_drives
from tests.video_world import build_drives, movie, seq_bytes, seq_header

SIZE = (24, 28, 3)


@pytest.fixture
def world(tmp_path):
    build_drives(tmp_path)
    return tmp_path


@pytest.fixture
def entry(world):
    return read_entry("tiny_drives", world / "catalog.yaml")


def ingest(world, entry, split="training", **how):
    return ingest_drives(entry, world / "release", world / "store", split, **how)


# --- one picture


@pytest.mark.parametrize(
    ("height", "width", "columns", "left"),
    [(375, 1242, 424, 132), (370, 1226, 424, 132), (480, 640, 171, 5), (187, 621, 425, 132)],
)
def test_a_picture_is_resized_by_height_and_cropped_in_the_middle(height, width, columns, left):
    rng = np.random.default_rng(0)
    rough = rng.integers(0, 256, (7, 23, 3), np.uint8)
    picture = Image.fromarray(rough).resize((width, height))
    frame = crop_picture(picture)
    whole = np.asarray(picture.resize((columns, 128), Image.Resampling.BILINEAR))
    assert frame.shape == (128, 160, 3)
    np.testing.assert_array_equal(frame, whole[:, left : left + 160])


def test_channels_are_red_green_blue_and_bytes():
    red = Image.new("RGB", (640, 480), (250, 20, 7))
    assert crop_picture(red).dtype == np.uint8
    assert [*crop_picture(red)[5, 9]] == [250, 20, 7]
    assert [*crop_picture(Image.new("L", (640, 480), 99))[5, 9]] == [99, 99, 99]


@pytest.mark.parametrize(
    ("picture", "said"),
    [
        (Image.new("RGB", (100, 128)), "128 x 100 is 100 wide at a height of 128, expected 160"),
        (Image.new("RGBA", (640, 480)), "mode RGBA"),
        (Image.new("I;16", (640, 480)), "mode I;16"),
    ],
)
def test_a_picture_that_cannot_be_cut_is_refused(picture, said):
    with pytest.raises(ValueError, match=said):
        crop_picture(picture)


# --- .seq files


@pytest.mark.parametrize("kind", ["raw", "JPEG", "PNG"])
@pytest.mark.parametrize("trailer", [8, 16])
@pytest.mark.parametrize("count", [1, 2, 7])
def test_films_round_trip(tmp_path, kind, trailer, count):
    frames = movie(count, 3)
    if kind == "raw":
        frames = frames[..., 0].copy()
    path = tmp_path / "V000.seq"
    path.write_bytes(seq_bytes(frames, kind, trailer=trailer))
    film = open_seq(path)
    assert (len(film), film.height, film.width, film.rate) == (count, 30, 50, 30)
    found = np.stack([np.asarray(picture) for picture in film.pictures()])
    if kind == "JPEG":
        assert np.abs(found.astype(int) - frames).mean() < 4
    else:
        np.testing.assert_array_equal(found, frames)


def test_every_third_is_the_third_sixth_and_ninth(tmp_path):
    path = tmp_path / "V000.seq"
    path.write_bytes(seq_bytes(movie(11, 3), "PNG"))
    found = [np.asarray(picture) for picture in open_seq(path).pictures(3)]
    np.testing.assert_array_equal(found, movie(11, 3)[[2, 5, 8]])


@pytest.mark.parametrize("kind", ["raw", "JPEG", "PNG"])
def test_a_truncated_film_is_refused_wherever_it_ends(tmp_path, kind):
    frames = movie(4, 3, size=(12, 16))
    whole = seq_bytes(frames[..., 0].copy() if kind == "raw" else frames, kind)
    path = tmp_path / "V000.seq"
    keeps = 0 if kind == "raw" else 8  # what follows the last picture is not a picture's
    for end in [0, 3, 1023, *range(1024, len(whole) - keeps, 37), len(whole) - keeps - 1]:
        path.write_bytes(whole[:end])
        with pytest.raises(VideoError, match=r"V000.seq: "):
            list(open_seq(path).pictures())


def changed(whole: bytes, at: int, kind: str, value) -> bytes:
    packed = struct.pack(kind, value)
    return whole[:at] + packed + whole[at + len(packed) :]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda film: b"RIFF" + film[4:], "begins with 52494646"),
        (lambda film: film[:4] + b"N\0a\0" + film[8:], "not a .seq file"),
        (lambda film: changed(film, 32, "<i", 8192), "header of 8192"),
        (lambda film: changed(film, 548, "<I", 0), "pictures of 30 x 0"),
        (lambda film: changed(film, 548, "<I", 51), "30 x 50, but the header says 30 x 51"),
        (lambda film: changed(film, 568, "<I", 103), "picture format 103"),
        (lambda film: changed(film, 572, "<I", 0), "counts no frames"),
        (lambda film: changed(film, 572, "<I", 3), "another frame after the 3"),
        (lambda film: changed(film, 572, "<I", 5), "no whole frame 4 of 5"),
        (lambda film: changed(film, 572, "<I", 2**32 - 1), "no whole frame 4 of"),
        (lambda film: changed(film, 584, "<d", float("nan")), "nan frames a second"),
        (lambda film: changed(film, 1024, "<I", 2**31), "no whole frame 0 of 4"),
        (lambda film: film[:1100] + bytes(40) + film[1140:], "frame 0: cannot be decoded"),
    ],
)
def test_a_foreign_or_spoiled_film_is_refused(tmp_path, spoil, said):
    path = tmp_path / "V000.seq"
    path.write_bytes(spoil(seq_bytes(movie(4, 3), "PNG")))
    with pytest.raises(VideoError, match=f"V000.seq.*{said}"):
        list(open_seq(path).pictures())
    with pytest.raises(VideoError, match="none.seq"):
        open_seq(tmp_path / "none.seq")


def test_an_unpacked_film_of_too_small_frames_is_refused(tmp_path):
    path = tmp_path / "V000.seq"
    path.write_bytes(seq_header((30, 50), 1, 100, whole=1499) + bytes(1499))
    with pytest.raises(VideoError, match="1499 bytes, expected 8 bits and 1500"):
        open_seq(path)


# --- drives


def test_a_drive_named_by_one_split_is_in_no_other(world, entry):
    names = {
        split: [drive.name for drive in find_drives(entry, world / "release", split)]
        for split in entry.splits
    }
    assert names == {
        "training": ["day/one", "day/two"],
        "validation": ["day/held"],
        "test": ["day/unseen"],
    }


def test_splits_that_share_a_drive_or_find_none_are_refused(world):
    path = world / "catalog.yaml"
    text = path.read_text()
    path.write_text(text.replace("[day/unseen]", '["day/un*"]'))
    with pytest.raises(VideoError, match=r"day/unseen \['training', 'test'\]"):
        find_drives(read_entry("tiny_drives", path), world / "release", "test")
    path.write_text(text.replace("[day/held]", "[day/held, day/none, other/*]"))
    with pytest.raises(VideoError, match=r"(?s)day/none: no such drive.*other/\*: no such"):
        find_drives(read_entry("tiny_drives", path), world / "release", "validation")
    with pytest.raises(CatalogError, match="no video 'other'; there are"):
        read_entry("other", path)


def test_the_catalogue_that_comes_along_holds_videos_beside_cities():
    assert "kitti_raw" not in read_catalog()
    kitti, caltech = read_entry("kitti_raw"), read_entry("caltech_pedestrian")
    assert (kitti.height, kitti.width, kitti.every, kitti.rate) == (128, 160, 1, 10)
    assert (caltech.every, caltech.rate, caltech.reader) == (3, 30, "seq")


def test_pictures_come_in_the_order_of_their_numbers(tmp_path):
    for number in (9, 10, 11):
        Image.new("L", (3, 2)).save(tmp_path / f"{number}.png")
    assert [path.stem for path in list_pictures(tmp_path)] == ["9", "10", "11"]
    Image.new("L", (3, 2)).save(tmp_path / "14.png")
    with pytest.raises(VideoError, match="after picture 11 the numbers jump"):
        list_pictures(tmp_path)
    with pytest.raises(VideoError, match="no such folder"):
        list_pictures(tmp_path / "none")


# --- the store


def test_the_store_holds_what_was_cut_and_says_of_what(world, entry):
    report = ingest(world, entry)
    assert (report.ingested, report.kept, report.refused) == (["day/one", "day/two"], [], {})
    with xr.open_dataset(world / "store/training/day__one.nc", engine="h5netcdf") as dataset:
        found = dataset["array"]
        assert found.dims == ("time", "y", "x", "channel")
        assert [*found["channel"].values] == ["red", "green", "blue"]
        frames = found.values
    cut = np.stack([crop_picture(Image.fromarray(frame), 24, 28) for frame in movie(13, 0)])
    np.testing.assert_array_equal(frames, cut)
    facts = read_manifest(world / "store", entry)["day/one"]
    assert facts.frames == 13
    assert facts.windows == {"11": 3, "22": 0}
    assert facts.frames_sha256 == hashlib.sha256(cut.tobytes()).hexdigest()


def test_a_second_ingest_does_nothing_and_a_changed_drive_is_cut_again(world, entry):
    ingest(world, entry)
    path = world / "store/training/day__one.nc"
    before = path.stat().st_mtime_ns
    assert ingest(world, entry, verify=True).kept == ["day/one", "day/two"]
    assert path.stat().st_mtime_ns == before
    Image.new("RGB", (50, 30), (9, 8, 7)).save(world / "release/day/two/camera/0000000003.png")
    report = ingest(world, entry)
    assert (report.ingested, report.kept) == (["day/two"], ["day/one"])
    path.unlink()  # a store's file that is gone comes back, the same
    digest = read_manifest(world / "store", entry)["day/one"].frames_sha256
    assert ingest(world, entry).ingested == ["day/one"]
    assert read_manifest(world / "store", entry)["day/one"].frames_sha256 == digest


def test_a_faulty_drive_is_named_and_the_others_go_on(world, entry):
    spoiled = world / "release/day/one/camera/0000000004.png"
    spoiled.write_bytes(spoiled.read_bytes()[:200])
    report = ingest(world, entry)
    assert report.ingested == ["day/two"]
    assert "0000000004.png: cannot be decoded" in report.refused["day/one"]
    assert not list((world / "store/training").glob("day__one*"))
    Image.new("RGB", (51, 30)).save(spoiled)
    assert (
        "30 x 51, but the drive's first picture is 30 x 50"
        in ingest(world, entry).refused["day/one"]
    )


def test_an_ingest_cut_short_goes_on_to_the_same_files(world, entry, monkeypatch):
    import pipeline.video.store as room

    cut, calls = room.crop_picture, []

    def stopped(picture, *size):
        calls.append(1)
        if len(calls) == 17:  # in the second drive
            raise KeyboardInterrupt
        return cut(picture, *size)

    monkeypatch.setattr(room, "crop_picture", stopped)
    with pytest.raises(KeyboardInterrupt):
        ingest(world, entry)
    assert [*read_manifest(world / "store", entry)] == ["day/one"]
    assert [path.name for path in (world / "store/training").iterdir()] == ["day__one.nc"]
    report = ingest(world, entry)
    assert (report.ingested, report.kept) == (["day/two"], ["day/one"])
    ingest_drives(entry, world / "release", world / "whole", "training")
    for name in ("manifest.json", "training/day__one.nc", "training/day__two.nc"):
        assert (world / "store" / name).read_bytes() == (world / "whole" / name).read_bytes()


def test_a_store_cut_another_way_is_refused(world, entry):
    ingest(world, entry)
    manifest = world / "store/manifest.json"
    value = json.loads(manifest.read_text())
    value["made"]["height"] = 25
    manifest.write_text(json.dumps(value))
    with pytest.raises(VideoError, match="'height': 25.*delete the store"):
        ingest(world, entry)
    manifest.write_text("{")
    with pytest.raises(VideoError, match="not a store's manifest"):
        ingest(world, entry)


def test_films_are_ingested_at_every_third_frame(world):
    entry = read_entry("tiny_seq", world / "catalog.yaml")
    for number in (0, 1):
        path = world / f"release/set06/V00{number}.seq"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(seq_bytes(movie(20, number), "PNG"))
    report = ingest(world, entry, "test")
    assert report.ingested == ["set06/V000", "set06/V001"]
    drives = stored_drives(world / "store", entry, "test")
    assert [drive.frames for drive in drives] == [6, 6]
    clip = DriveWindows(world / "store", tuple(drives), SIZE, 2, 1)[0]
    wanted = crop_picture(Image.fromarray(movie(20, 0)[5]), 24, 28)
    np.testing.assert_array_equal(clip.history[1], np.moveaxis(wanted, -1, 0))


# --- windows


@pytest.mark.parametrize(("history", "horizon", "stride"), [(3, 2, 1), (4, 1, 3), (5, 4, 9)])
def test_windows_never_cross_a_drive_and_miss_none(world, entry, history, horizon, stride):
    ingest(world, entry)
    drives = tuple(stored_drives(world / "store", entry, "training"))
    windows = DriveWindows(world / "store", drives, SIZE, history, horizon, stride)
    whole = {}
    for drive in drives:
        with xr.open_dataset(world / "store" / drive.file, engine="h5netcdf") as dataset:
            whole[drive.name] = np.moveaxis(dataset["array"].values, -1, 1)
    seen = []
    for index in range(len(windows)):
        clip = windows[index]
        seen.append((clip.where.drive, clip.where.start))
        frames = whole[clip.where.drive][clip.where.start :][: history + horizon]
        np.testing.assert_array_equal(np.concatenate([clip.history, clip.future]), frames)
        assert len(clip.future) == horizon
    length = history + horizon
    assert seen == [
        (drive.name, start)
        for drive in drives
        for start in range(0, drive.frames - length + 1, stride)
    ]
    with pytest.raises(IndexError):
        windows[len(windows)]


def test_windows_longer_than_every_drive_are_refused(world, entry):
    ingest(world, entry)
    drives = tuple(stored_drives(world / "store", entry, "training"))
    with pytest.raises(VideoError, match="no drive of 14 frames"):
        DriveWindows(world / "store", drives, SIZE, 10, 4)


def test_shuffled_windows_give_each_once_before_any_twice_half_of_them_mirrored(world, entry):
    ingest(world, entry)
    drives = tuple(stored_drives(world / "store", entry, "training"))
    windows = DriveWindows(world / "store", drives, SIZE, 3, 2)
    shuffled = ShuffledWindows(windows, 5, mirror=True)
    count, mirrored = len(windows), 0
    for epoch in range(4):
        clips = [shuffled[epoch * count + place] for place in range(count)]
        assert sorted(clip.where for clip in clips) == [windows.where(i) for i in range(count)]
        for clip in clips:
            index = next(i for i in range(count) if windows.where(i) == clip.where)
            plain = windows[index]
            if not np.array_equal(clip.history, plain.history):
                mirrored += 1
                np.testing.assert_array_equal(clip.history, plain.history[..., ::-1])
                np.testing.assert_array_equal(clip.future, plain.future[..., ::-1])
    assert count < mirrored < 3 * count
    again = ShuffledWindows(windows, 5, mirror=True)[count + 2]
    np.testing.assert_array_equal(again.history, shuffled[count + 2].history)


def test_real_frames_are_cut(shared, tmp_path):
    root = shared / "kitti_sequences"
    if not root.is_dir():
        pytest.skip(f"no {root}")
    entry = read_entry("kitti_half")
    part = tmp_path / "part/nico_seq1_gray_51"
    part.mkdir(parents=True)
    for path in sorted((root / "nico_seq1_gray_51").glob("*.jpg"))[:12]:
        shutil.copy(path, part)
    report = ingest_drives(entry, tmp_path / "part", tmp_path / "store", "validation")
    assert report.refused == {}
    (drive,) = stored_drives(tmp_path / "store", entry, "validation")
    assert drive.windows["11"] == 2
    clip = DriveWindows(tmp_path / "store", (drive,), (128, 160, 3), 10, 1)[1]
    assert clip.history.shape == (10, 3, 128, 160)
    gap = np.abs(clip.history[1:].astype(int) - clip.history[:-1]).mean((1, 2, 3))
    assert (gap > 1).all()  # a moving camera
    assert (gap < 60).all()
