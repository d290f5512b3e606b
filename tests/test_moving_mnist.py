"""Digits, motions, sequences by number, fixed sets: laws, oracles and refusals."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import json
import threading
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import h5py
import hdf5plugin  # noqa: F401 - lets h5py and xarray read a store
import numpy as np
import pytest
import xarray as xr
from PIL import Image

from pipeline.errors import CatalogError, DigitsError
from pipeline.moving_mnist.digits import read_digits
from pipeline.moving_mnist.draws import below, words
from pipeline.moving_mnist.entry import DigitFile, read_entry
from pipeline.moving_mnist.hard import hardest, overlap
from pipeline.moving_mnist.idx import read_images
from pipeline.moving_mnist.motion import MOTIONS, enlarged
from pipeline.moving_mnist.store import drawn_set, keep_set
from pipeline.sources.moving_mnist import DrawnSequences, StandardSequences
from tests.digits_world import CANVAS, FRAMES, HISTORY, KEPT, TRAINING, build_digits, glyphs, idx


@pytest.fixture
def world(tmp_path):
    return build_digits(tmp_path)


@pytest.fixture
def entry(world):
    return read_entry("tiny_digits", world.catalog)


def source(name="authors", seed=5, count=100, digits=2, frames=FRAMES, canvas=CANVAS):
    return DrawnSequences(
        glyphs(11, 0), MOTIONS[name], digits, seed, "a test", count, frames, canvas, HISTORY
    )


# --- files of digits


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_images_come_back_as_they_were(tmp_path, suffix):
    images, path = glyphs(3, 0)[:, :27], tmp_path / f"images{suffix}"
    data = idx(images)
    path.write_bytes(gzip.compress(data) if suffix else data)
    np.testing.assert_array_equal(read_images(path, hashlib.sha256(data).hexdigest()), images)


SPOILED = {
    "cut short": (lambda data: data[:-1], r"2367 bytes, expected 2368 for images \[3, 28, 28\]"),
    "labels": (lambda data: b"\0\0\x08\x01" + data[4:], "begins with 00000801, expected 00000803"),
    "empty": (lambda data: b"", "begins with , expected"),
}


@pytest.mark.parametrize("how", SPOILED)
def test_a_spoiled_file_is_refused_by_name(tmp_path, how):
    spoil, said = SPOILED[how]
    (tmp_path / "digits").write_bytes(spoil(idx(glyphs(3, 0))))
    with pytest.raises(DigitsError, match=f"digits: {said}"):
        read_images(tmp_path / "digits")


def test_other_digits_and_damaged_archives_are_refused(tmp_path):
    (tmp_path / "digits").write_bytes(idx(glyphs(3, 0)))
    with pytest.raises(DigitsError, match=r"digits: unpacked sha256 [0-9a-f]{64}, expected 0{64}"):
        read_images(tmp_path / "digits", "0" * 64)
    packed = gzip.compress(idx(glyphs(3, 0)))
    for number, data in enumerate((packed[:-9], b"\x1f\x8bnonsense", packed[:40] + b"?" * 40)):
        path = tmp_path / f"{number}.gz"
        path.write_bytes(data)
        with pytest.raises(DigitsError, match=f"{number}.gz: cannot be unpacked"):
            read_images(path)
    with pytest.raises(DigitsError, match="nowhere: no such file"):
        read_images(tmp_path / "nowhere")


def test_validation_digits_are_no_training_digits(entry, world):
    whole = glyphs(TRAINING, 1)
    training, validation = (read_digits(entry, s, world.digits) for s in ("training", "validation"))
    assert len(validation) == KEPT
    np.testing.assert_array_equal(np.concatenate([training, validation]), whole)
    with pytest.raises(DigitsError, match="23 digits, expected more than the 23"):
        read_digits(replace(entry, validation_digits=23), "training", world.digits)


def test_a_missing_file_says_what_to_do(entry, world):
    (world.digits / "train-images").unlink()
    with pytest.raises(DigitsError, match=r"train-images: no such file.*train-images.gz.*fetch"):
        read_digits(entry, "training", world.digits)
    with pytest.raises(DigitsError, match="no addresses with a checksum"):
        read_digits(entry, "training", world.digits, fetch=True)


@contextmanager
def served(folder):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    handler = partial(Quiet, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_digits_are_fetched_with_their_checksum(entry, world, tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    packed = world.digits / "test-images.gz"
    checksum = hashlib.sha256(packed.read_bytes()).hexdigest()
    here = tmp_path / "fetched"
    with served(world.digits) as address:
        addresses = (f"{address}/gone.gz", f"{address}/test-images.gz")
        good = DigitFile("test-images", None, checksum, addresses)
        found = read_digits(replace(entry, test=good), "test", here, fetch=True)
        np.testing.assert_array_equal(found, read_digits(entry, "test", world.digits))
        bad = replace(good, name="others", archive_sha256="0" * 64)
        with pytest.raises(DigitsError, match=r"(?s)others.gz: cannot be fetched.*404.*hash"):
            read_digits(replace(entry, test=bad), "test", here, fetch=True)
    assert [path.name for path in here.iterdir()] == ["test-images.gz"]
    read_digits(replace(entry, test=good), "test", here)  # no server any more


def test_the_catalogue_is_checked(tmp_path, world):
    with pytest.raises(CatalogError, match=r"no moving_mnist 'none'; there are \['tiny_digits'\]"):
        read_entry("none", world.catalog)
    text = world.catalog.read_text()
    for old, new, said in (
        ("motion: common", "motion: brownian", "motion: .*found 'brownian'"),
        ("validation_digits: 5", "validation_digits: 0", "validation_digits: "),
        ("split: test", "split: tests", "split: "),
    ):
        world.catalog.write_text(text.replace(old, new))
        with pytest.raises(CatalogError, match=f"tiny_digits: .*{said}"):
            read_entry("tiny_digits", world.catalog)


# --- numbers and motions


def test_words_are_the_same_for_ever():
    """Of PCG64, which numpy promises not to change; and whole numbers made of them."""
    assert words(2020, "test common 2", 7, 3) == [*words(2020, "test common 2", 7, 5)][:3]
    assert [below(word, 10) for word in (0, 2**64 - 1, 2**63, 3 << 62)] == [0, 9, 5, 7]
    drawn = [below(words(1, "die", n, 1)[0], 6) for n in range(6000)]
    assert np.bincount(drawn, minlength=6).min() > 880  # 1000 expected, standard deviation 29


def test_authors_paths_are_their_rule_restated():
    motion, room, frames = MOTIONS["authors"], (32, 9), 40
    for index in range(40):
        drawn = words(0, "paths", index, motion.words)
        places = motion.path(drawn, room, frames)
        for axis in (0, 1):
            at = drawn[axis] * room[axis] // 2**64  # nearly: only the upper half of a word counts
            step = drawn[2 + axis] * 9 // 2**64 - 4
            for place in places[:, axis]:
                if at < 0:
                    at, step = 0, -step
                elif at >= room[axis]:
                    at, step = room[axis] - 1, -step
                assert place == at
                at += step


def test_common_paths_keep_their_speed_between_walls():
    motion, room, frames = MOTIONS["common"], (36, 36), 20
    speeds, headings = [], []
    for index in range(400):
        places = motion.path(words(0, "paths", index, motion.words), room, frames)
        assert places.min() >= 0
        assert places.max() <= 36
        free = places[:6].min() > 0 and places[:6].max() < 36
        if free:
            y, x = (places[5] - places[0]) / 5
            speeds.append(np.hypot(y, x))
            headings.append(np.arctan2(y, x))
    assert len(speeds) > 50
    assert np.mean(speeds) == pytest.approx(3.6, abs=0.05)  # a tenth of 36
    assert np.abs(np.array(speeds) - 3.6).max() < 0.3  # places are cut to whole pixels
    assert np.histogram(headings, 4, (-np.pi, np.pi))[0].min() > 5


def test_a_wall_turns_a_digit():
    motion = MOTIONS["common"]
    straight_up = [1 << 62, 1 << 63, 3 << 62]  # a quarter down, heading 3/4 of the circle
    places = motion.path(straight_up, (40, 40), 12)
    assert places[:, 0].tolist() == [6, 2, 0, 4, 8, 12, 16, 20, 24, 28, 32, 36]
    assert set(places[:, 1]) <= {19, 20}


def test_digits_are_laid_as_each_generator_does():
    layers = np.array([[100, 200, 0], [50, 100, 7]], np.uint8)[:, None]
    assert MOTIONS["authors"].lay(layers).tolist() == [[150, 255, 7]]
    assert MOTIONS["common"].lay(layers).tolist() == [[100, 200, 7]]


def test_enlarged_digits_are_pillows():
    for image in glyphs(5, 3):
        found = enlarged(image, (32, 32))
        theirs = np.asarray(Image.fromarray(image).resize((32, 32), Image.Resampling.BILINEAR))
        assert np.abs(found.astype(int) - theirs).max() <= 1  # it rounds twice
        np.testing.assert_array_equal(enlarged(image[::-1, ::-1], (32, 32)), found[::-1, ::-1])
        np.testing.assert_array_equal(enlarged(image, (28, 28)), image)
    assert (enlarged(np.full((5, 3), 77, np.uint8), (9, 4)) == 77).all()


# --- sequences


@pytest.mark.parametrize("name", MOTIONS)
def test_a_sequence_follows_from_seed_and_number_alone(name):
    one, more = source(name, count=9), source(name, count=1 << 40)
    backwards = [one.movie(i) for i in reversed(range(9))][::-1]
    for index, movie in enumerate(backwards):
        np.testing.assert_array_equal(movie, more.movie(index))
        clip = one[index]
        np.testing.assert_array_equal(np.concatenate([clip.history, clip.future])[:, 0], movie)
        assert (clip.history.shape, clip.future.shape) == ((4, 1, 40, 36), (3, 1, 40, 36))
        assert clip.where == index
    seen = {movie.tobytes() for movie in backwards}
    others = {source(name, seed=6).movie(i).tobytes() for i in range(9)}
    purpose = {replace(one, purpose="another").movie(i).tobytes() for i in range(9)}
    assert len(seen | others | purpose) == 27
    for beyond in (-1, 9):
        with pytest.raises(IndexError, match=f"sequence {beyond} of 9"):
            one[beyond]


@pytest.mark.parametrize("name", MOTIONS)
def test_frames_are_digits_and_nothing_else(name):
    drawn = source(name, digits=3)
    layers = drawn.layers(4)
    assert layers.shape == (3, 7, 40, 36)
    np.testing.assert_array_equal(drawn.motion.lay(layers), drawn.movie(4))
    known = {enlarged(g, (32, 32)).tobytes() if name == "authors" else g.tobytes()
             for g in drawn.glyphs}  # fmt: skip
    size = 32 if name == "authors" else 28
    for layer in layers:
        for frame in layer:
            windows = np.lib.stride_tricks.sliding_window_view(frame, (size, size))
            whole = windows.sum((2, 3), dtype=int) == frame.sum(dtype=int)
            assert any(windows[y, x].tobytes() in known for y, x in np.argwhere(whole))


def test_a_canvas_that_is_too_small_is_refused():
    with pytest.raises(ValueError, match=r"digits of 32 x 32 on a canvas of \(40, 32\)"):
        source(canvas=(40, 32)).movie(0)


# --- fixed sets


def test_a_set_comes_back_as_it_was_drawn(entry, world):
    drawn = drawn_set(entry, "common_test", world.digits, history=HISTORY)
    kept = keep_set(entry, "common_test", world.digits, world.store, history=HISTORY)
    assert len(kept) == len(drawn) == 6
    for index in (5, 0, 3):
        for part in ("history", "future"):
            np.testing.assert_array_equal(getattr(kept[index], part), getattr(drawn[index], part))
    manifest = json.loads((world.store / "common_test.json").read_text())
    frames = b"".join(drawn.movie(i).tobytes() for i in range(6))
    assert manifest["frames_sha256"] == hashlib.sha256(frames).hexdigest()
    with pytest.raises(IndexError, match="sequence 6 of 6"):
        kept[6]


def test_a_set_is_stored_as_days_are(entry, world):
    keep_set(entry, "common_test", world.digits, world.store)
    with xr.open_dataset(world.store / "common_test.nc", engine="h5netcdf") as found:
        assert found["array"].dims == ("sequence", "time", "y", "x", "channel")
        assert found["array"].shape == (6, 7, 40, 36, 1)
    with h5py.File(world.store / "common_test.nc") as file:
        assert file["array"].chunks == (1, 7, 40, 36, 1)


def test_a_set_is_drawn_once(entry, world):
    drawn = []
    for _ in range(2):
        keep_set(entry, "authors_test", world.digits, world.store, progress=drawn.append)
    assert drawn == [str(n) for n in range(6)]
    path = world.store / "authors_test.nc"
    first = path.read_bytes()
    (world.store / "authors_test.json").unlink()  # killed before the manifest
    keep_set(entry, "authors_test", world.digits, world.store)
    assert path.read_bytes() == first


def changed(entry, **values):
    sets = {"authors_test": replace(entry.sets["authors_test"], **values)}
    return replace(entry, sets=sets)


def test_sets_of_other_things_are_refused_by_name(entry, world):
    keep_set(entry, "authors_test", world.digits, world.store)
    with pytest.raises(DigitsError, match=r"authors_test.json: .*'seed': 3.*expected.*'seed': 4"):
        keep_set(changed(entry, seed=4), "authors_test", world.digits, world.store)
    with pytest.raises(DigitsError, match=r"authors_test.json.*frames_sha256.*delete"):
        keep_set(changed(entry, sha256="0" * 64), "authors_test", world.digits, world.store)
    with pytest.raises(DigitsError, match=r"no set 'none'; there are \['authors_test'"):
        keep_set(entry, "none", world.digits, world.store)
    path = world.store / "authors_test.nc"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DigitsError, match=r"authors_test.nc: \d+ bytes, expected \d+; delete"):
        keep_set(entry, "authors_test", world.digits, world.store)
    (world.store / "authors_test.json").write_text("{")
    with pytest.raises(DigitsError, match=r"authors_test.json: not a set's manifest"):
        keep_set(entry, "authors_test", world.digits, world.store)


def test_a_set_of_another_checksum_is_not_kept(entry, world):
    with pytest.raises(DigitsError, match=r"frames of sha256 [0-9a-f]{64}, expected 0{64}"):
        keep_set(changed(entry, sha256="0" * 64), "authors_test", world.digits, world.store)
    assert not list(world.store.iterdir())


def test_the_fields_own_file_is_read(tmp_path):
    drawn = source(count=5)
    path = tmp_path / "mnist_test_seq.npy"
    np.save(path, np.stack([drawn.movie(i) for i in range(5)], 1))
    found = StandardSequences(path, HISTORY)
    assert len(found) == 5
    np.testing.assert_array_equal(found[3].future, drawn[3].future)
    np.testing.assert_array_equal(found[3].history, drawn[3].history)
    with pytest.raises(IndexError, match="sequence 5 of 5"):
        found[5]


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros((7, 2, 5, 4)), r"float64 \(7, 2, 5, 4\), expected uint8"),
        (np.zeros((7, 5, 4), np.uint8), r"uint8 \(7, 5, 4\), expected uint8 \(time, sequence"),
        (np.zeros((4, 2, 5, 4), np.uint8), "2 sequences of 4 frames, expected more than 4"),
        (np.array([{}]), "not a whole .npy file of numbers"),
    ],
)
def test_another_npy_file_is_refused_by_name(tmp_path, array, said):
    path = tmp_path / "seq.npy"
    np.save(path, array)
    with pytest.raises(DigitsError, match=f"seq.npy: {said}"):
        len(StandardSequences(path, HISTORY))
    with pytest.raises(DigitsError, match="nowhere.npy: no such file"):
        len(StandardSequences(tmp_path / "nowhere.npy", HISTORY))


# --- the extremely hard ones


def test_overlap_by_hand():
    layers = np.zeros((2, 2, 5, 6), np.uint8)
    layers[0, :, 1:4, 1:4] = 9  # 9 pixels
    layers[1, 0, 2:4, 3:6] = 9  # 6 pixels, 2 of them shared
    layers[1, 1, 1:3, 1:4] = 9  # all 6 shared
    assert overlap(layers) == pytest.approx(1 / 3)
    layers[1, 1] = 0
    layers[1, 1, 4, 5] = 9  # apart in one frame
    assert overlap(layers) == 0
    together = np.stack([layers[1], layers[0], layers[0]])
    assert overlap(together) == 1  # of three, the two that stay together
    assert overlap(layers[:1]) == 0


def test_the_hardest_are_found():
    drawn = source("common", count=60, digits=2)
    shares = {i: overlap(drawn.layers(i)[:, :HISTORY]) for i in range(50)}
    found = hardest(drawn, 50, 4)
    assert [share for _, share in found] == sorted(shares.values(), reverse=True)[:4]
    assert all(shares[index] == share > 0 for index, share in found)


# --- the real digits


SETS = read_entry("moving_mnist").sets
QUICK = [name for name, kept in SETS.items() if kept.sequences <= 1000 or name == "common_2_test"]


@pytest.mark.parametrize("name", QUICK)
def test_fixed_sets_have_the_catalogues_checksums(shared, name):
    """The larger ones are compared when they are drawn."""
    folder = shared / "mnist"
    if not folder.is_dir():
        pytest.skip(f"no digits at {folder}")
    drawn, digest = drawn_set(read_entry("moving_mnist"), name, folder), hashlib.sha256()
    for index in range(len(drawn)):
        digest.update(drawn.movie(index).tobytes())
    assert digest.hexdigest() == SETS[name].sha256


def test_the_papers_sizes_are_in_the_catalogue():
    sizes = {name: kept.sequences for name, kept in SETS.items() if kept.split == "test"}
    assert sizes == {"authors_2_test": 5000, "authors_3_test": 5000,
                     "common_2_test": 10_000, "common_3_test": 10_000}  # fmt: skip
    assert all(kept.sha256 for kept in SETS.values())
