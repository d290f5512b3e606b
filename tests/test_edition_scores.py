"""The rule of each edition, said once more in plain numpy, and submissions that break it."""

from __future__ import annotations

import re
import stat
import zipfile
from dataclasses import replace
from zipfile import ZipFile, ZipInfo

import h5py
import hdf5plugin
import numpy as np
import pytest

from flows.models import _build
from pipeline.catalog import read_edition
from pipeline.errors import HeatmapError, SubmissionError
from pipeline.headings import merge_headings, split_headings
from pipeline.heatmaps import read_frames, write_frames
from pipeline.members import expected_members, listed_days
from pipeline.metrics import seen_mask
from pipeline.scoring import score_submission
from pipeline.static_maps import layers_first, read_high_res, read_mask, read_static, road_mask
from pipeline.submission import check_submission
from pipeline.synthetic import encode_2019, encode_2020
from pipeline.synthetic.traffic import draw_day
from tests.edition_world import build, facts, t4c

H, W = 7, 5
NAMES = ("traffic4cast2020", "traffic4cast2021", "traffic4cast2021_extended")


def small(name):
    """An edition on a grid of 7 x 5, of two cities; a file has 2 or 3 slots (2020), or 4."""
    edition = read_edition(name)
    cities = tuple(
        replace(city, slots_by_day={"2019-07-02": (57, 12), "2019-07-03": (240, 30, 100)})
        if name == "traffic4cast2020"
        else city
        for city in edition.cities[:2]
    )
    slots = None if name == "traffic4cast2020" else 4
    return replace(edition, height=H, width=W, cities=cities, slots_per_test=slots)


@pytest.fixture(params=NAMES)
def edition(request):
    return small(request.param)


def members(edition):
    return expected_members(edition, {c.name: listed_days(edition, c) for c in edition.cities})


def sparse(rng, shape):
    """Bytes of which most are 0, as in traffic."""
    return (rng.integers(0, 256, shape) * (rng.random(shape) < 0.4)).astype(np.uint8)


def plain_scores(forecasts, truths, masks, scale):
    """The published rules in plain numpy; a city each, of 2020 all its slots together."""
    vol, speed = [0, 2, 4, 6], [1, 3, 5, 7]
    scores = []
    for forecast, truth, mask in zip(forecasts, truths, masks, strict=True):
        forecast, truth = forecast.astype(np.int64), truth.astype(np.int64)
        square = (forecast - truth) ** 2
        full = np.broadcast_to(mask, truth.shape)
        masked = (forecast * full - truth * full) ** 2
        seen = truth[..., vol] != 0
        told, true = forecast.copy(), truth.copy()
        told[..., speed], true[..., speed] = told[..., speed] * seen, true[..., speed] * seen
        scores.append({
            "mse": square.mean(),
            "masked": masked.mean() / (np.count_nonzero(full) / full.size),
            "volume": square[..., vol].mean(),
            "speed": square[..., speed].mean(),
            "wiedemann": ((told - true) ** 2).sum() / (seen.size + np.count_nonzero(seen)),
        })  # fmt: skip
    return {key: sum(city[key] for city in scores) / len(scores) / scale**2 for key in scores[0]}


@pytest.mark.parametrize("kind", ["static", "cells", "channels", "headings", "file"])
def test_scores_are_those_of_the_published_rule(edition, tmp_path, kind):
    if kind == "file" and edition.layout.test_kind == "blocks":
        pytest.skip("a mask of a whole file is one of 2021's; the files of 2020 differ in length")
    rng = np.random.default_rng(3)
    forecasts, truths, masks, files = {}, {}, {}, {}
    for city in edition.cities:
        names = [name for name in members(edition) if name.startswith(city.name)]
        forecasts[city.name], truths[city.name] = [], []
        for name in names:
            shape = members(edition)[name]
            forecasts[city.name].append(sparse(rng, shape))
            truths[city.name].append(sparse(rng, shape))
            write_frames(tmp_path / "forecast" / name, forecasts[city.name][-1])
            write_frames(tmp_path / "truth" / name, truths[city.name][-1])
        size = {
            "static": (len(edition.static_layers), H, W),
            "cells": (H, W),
            "channels": (H, W, 8),
            "headings": (4, H, W),
            "file": shape,
        }[kind]
        drawn = sparse(rng, size)
        masks[city.name] = {
            "static": drawn[0][..., None] if kind == "static" else None,
            "cells": drawn[..., None],
            "channels": drawn,
            "headings": np.repeat(np.moveaxis(drawn, 0, -1), 2, axis=-1) if drawn.ndim == 3 else 0,
            "file": drawn,
        }[kind] > 0
        files[city.name] = write_frames(tmp_path / f"{city.name}.h5", drawn)
    errors = score_submission(
        tmp_path / "truth", tmp_path / "forecast", edition, masks=files, workers=0
    )
    expected = plain_scores(
        [np.concatenate(forecasts[city.name]) for city in edition.cities],
        [np.concatenate(truths[city.name]) for city in edition.cities],
        [masks[city.name] for city in edition.cities],
        edition.score_scale,
    )
    assert errors.leaderboard().item() == pytest.approx(expected["mse"], rel=1e-12)
    (found,) = errors.reports().to_dict("records")
    assert set(found) == set(expected)
    for key, value in expected.items():
        assert found[key] == pytest.approx(value, rel=1e-12), key
    city = edition.cities[1].name
    first, *_ = (forecasts[city][0].astype(float) - truths[city][0]) ** 2 / edition.score_scale**2
    slots = errors.slots()["forecast", city]
    np.testing.assert_allclose(slots.to_numpy()[:6], first.mean(axis=(1, 2, 3)), rtol=1e-12)


def test_the_weights_of_the_editions_differ_where_days_differ_in_slots(tmp_path):
    """2019 takes the mean over files, 2020 here over slots: the same errors, two scores."""
    edition = small("traffic4cast2020")
    edition = replace(edition, cities=edition.cities[:1])
    for number, (name, shape) in enumerate(sorted(members(edition).items())):
        write_frames(tmp_path / "t" / name, np.full(shape, number, np.uint8))
        write_frames(tmp_path / "f" / name, np.zeros(shape, np.uint8))
    by_slot = score_submission(tmp_path / "t", tmp_path / "f", edition, workers=0)
    by_file = score_submission(
        tmp_path / "t", tmp_path / "f", replace(edition, score_by="file"), workers=0
    )
    assert by_slot.leaderboard().item() == pytest.approx(3 / 5 / 255**2, rel=1e-12)
    assert by_file.leaderboard().item() == pytest.approx(1 / 2 / 255**2, rel=1e-12)


def test_masks_of_some_cities_alone_are_refused(edition, tmp_path):
    for name, shape in members(edition).items():
        write_frames(tmp_path / "t" / name, np.zeros(shape, np.uint8))
    mask = write_frames(tmp_path / "m.h5", np.ones((H, W), np.uint8))
    with pytest.raises(SubmissionError, match="expected one of each city or none"):
        score_submission(tmp_path / "t", tmp_path / "t", edition,
                         masks={edition.cities[0].name: mask}, workers=0)  # fmt: skip


def test_a_wrong_mask_is_refused(edition, tmp_path):
    for shape in ((W, H), (4, W, H), (H, W, 6), (3, 6, H, W, 7)):
        path = write_frames(tmp_path / "m.h5", np.ones(shape, np.uint8))
        with pytest.raises(HeatmapError, match=r"m\.h5: a mask"):
            read_mask(path, edition)
    (tmp_path / "m.npz").write_bytes(b"PK no zip")
    with pytest.raises(HeatmapError, match=r"not a readable \.npz"):
        read_mask(tmp_path / "m.npz", edition)
    np.savez(tmp_path / "m.npz", a=np.ones((H, W), bool), b=np.ones((H, W), bool))
    with pytest.raises(HeatmapError, match=r"arrays \['a', 'b'\], expected one"):
        read_mask(tmp_path / "m.npz", edition)
    np.savez(tmp_path / "m.npz", np.ones((H, W)))
    with pytest.raises(HeatmapError, match="type float64, expected uint8 or bool"):
        read_mask(tmp_path / "m.npz", edition)


def test_what_the_wiedemann_variant_counts():
    channels = read_edition("traffic4cast2021").channels
    truth = np.zeros((1, 2, 8), np.uint8)
    truth[0, 0, 2] = 5  # a volume to the north-west
    mask = seen_mask(truth, channels)
    assert mask[0, 0].tolist() == [True, False, True, True, True, False, True, False]
    with pytest.raises(ValueError, match="'heading'"):
        seen_mask(truth[..., :3], ("volume_NE", "speed_NE", "heading"))


def test_the_naive_forecasts_are_those_the_organisers_published():
    history = np.random.default_rng(0).random((1, 12, 8, H, W), np.float32)
    from pipeline.windows import Window

    window = [Window("BERLIN", "2020-04-20", 0, 12, (0, 1, 2, 5, 8, 11))]
    expected = {
        "zeros": np.zeros((8, H, W)),
        "persistence": history[0, -1],
        "window_mean": history[0].mean(axis=0),
    }
    for name, frame in expected.items():
        found = _build(name, None).forecast(history, window)
        assert found.shape == (1, 6, 8, H, W)
        np.testing.assert_allclose(found[0], np.stack([frame] * 6), rtol=1e-6)


# Static maps.


def test_static_maps_are_told_by_their_shape(edition, tmp_path):
    layers = len(edition.static_layers)
    first = np.random.default_rng(0).integers(0, 9, (layers, H, W), dtype=np.uint8)
    for number, lying in enumerate((first, np.moveaxis(first, 0, -1))):
        path = write_frames(tmp_path / f"{number}.h5", np.ascontiguousarray(lying))
        np.testing.assert_array_equal(read_static(path, edition), first)
    np.testing.assert_array_equal(road_mask(first)[..., 0], first[0] > 0)
    with pytest.raises(ValueError, match="a static map"):
        layers_first(first[1:], edition)
    path = write_frames(tmp_path / "x.h5", first[1:])
    with pytest.raises(HeatmapError, match=r"x\.h5: a static map"):
        read_static(path, edition)
    fine = write_frames(tmp_path / "fine.h5", np.zeros((10 * H, 10 * W), np.uint8))
    assert read_high_res(fine, edition).shape == (10 * H, 10 * W)


def test_synthetic_static_maps_lie_as_those_of_the_year_and_connect_both_ways(tmp_path):
    from pipeline.synthetic.statics import NEIGHBOURS, draw_static
    from pipeline.synthetic.style import DEFAULT_STYLE

    for name in NAMES:
        edition = replace(read_edition(name), height=29, width=23)
        static = draw_static(edition, edition.cities[0], seed=1, style=DEFAULT_STYLE)
        assert static.shape == ((29, 23, 7) if name == "traffic4cast2020" else (9, 29, 23))
        layers = dict(zip(edition.static_layers, layers_first(static, edition), strict=True))
        if name == "traffic4cast2020":
            continue
        opposite = {"N": "S", "NE": "SW", "E": "W", "SE": "NW"}
        for way, back in opposite.items():
            dy, dx = NEIGHBOURS[way]
            row, column = np.nonzero(layers[f"connects_{way}"])
            assert len(row)
            assert (layers["roads"][row, column] > 0).all()
            assert (layers[f"connects_{back}"][row + dy, column + dx] == 255).all()


# Headings.


def test_merging_undoes_splitting():
    rng = np.random.default_rng(1)
    frames = np.stack(
        [rng.integers(0, 3, (4, H, W)), rng.integers(1, 256, (4, H, W)),
         rng.choice([1, 85, 170, 255], (4, H, W))], -1,
    ).astype(np.uint8)  # fmt: skip
    frames[frames[..., 0] == 0] = 0
    apart = split_headings(frames)
    assert apart.shape == (4, H, W, 8)
    np.testing.assert_array_equal(merge_headings(apart), frames)
    north_west = frames[..., 2] == 1
    np.testing.assert_array_equal(apart[north_west][:, 2:4], frames[north_west][:, :2])
    assert not apart[north_west][:, [0, 1, 4, 5, 6, 7]].any()
    frames[0, 0, 0] = 9, 9, 7
    with pytest.raises(ValueError, match=r"heading bytes \[7\]"):
        split_headings(frames)
    with pytest.raises(ValueError, match="4 channels"):
        merge_headings(apart[..., :4])
    with pytest.raises(ValueError, match="8 channels"):
        split_headings(apart)


def test_both_encodings_of_a_day_agree():
    edition = replace(read_edition("traffic4cast2021"), height=23, width=17, bin_minutes=30)
    movie = draw_day(edition, edition.cities[0], edition.day_of("2019-01-02"), seed=2)
    np.testing.assert_array_equal(merge_headings(encode_2020(movie)), encode_2019(movie))
    np.testing.assert_array_equal(merge_headings(encode_2020(movie, 9)), encode_2019(movie))


def test_a_file_is_converted_and_back(tmp_path):
    rng = np.random.default_rng(2)
    frames = sparse(rng, (6, H, W, 8))
    frames[..., 1::2][frames[..., ::2] == 0] = 0
    nine = np.concatenate([frames, np.full((6, H, W, 1), 50, np.uint8)], -1)
    write_frames(tmp_path / "nine.h5", nine)
    said = facts(t4c("convert", tmp_path / "nine.h5", "--out", tmp_path / "three.h5", "--json"))
    assert said["shape"] == [6, H, W, 3]
    three = read_frames(tmp_path / "three.h5", (6, H, W, 3))
    np.testing.assert_array_equal(three, merge_headings(frames))
    facts(t4c("convert", tmp_path / "three.h5", "--out", tmp_path / "eight.h5", "--json"))
    eight = read_frames(tmp_path / "eight.h5", (6, H, W, 8))
    np.testing.assert_array_equal(merge_headings(eight), three)
    same = t4c("convert", tmp_path / "nine.h5", "--out", tmp_path / "nine.h5")
    assert "expected another" in same.stderr
    write_frames(tmp_path / "four.h5", frames[..., :4])
    four = t4c("convert", tmp_path / "four.h5", "--out", tmp_path / "x.h5")
    assert "four.h5: frames of 4 channels" in four.stderr
    assert not (tmp_path / "x.h5").exists()


# Submissions, spoiled.


@pytest.fixture
def good(edition, tmp_path):
    """A lawful submission of zeros."""
    path = tmp_path / "good.zip"
    with ZipFile(path, "w") as archive:
        for name, shape in members(edition).items():
            frames = write_frames(tmp_path / "m.h5", np.zeros(shape, np.uint8))
            archive.writestr(name, frames.read_bytes())
    return path


def packed(folder, frames, key="array", **more):
    path = folder / "spoiled.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset(key, data=frames, **more.pop("options", {}))
        for name, value in more.items():
            file[name] = value
    return path.read_bytes()


def drop(files, name, data):
    del files[name]


def renamed(change):
    def spoil(files, name, data):
        files[change(name)] = files.pop(name)

    return spoil


def holding(make):
    def spoil(files, name, data):
        files[name] = make(data)

    return spoil


def values(change, **more):
    def spoil(files, name, data):
        folder, zeros = data
        files[name] = packed(folder, change(zeros), **more)

    return spoil


def beside(name):
    def spoil(files, first, data):
        files[name(first) if callable(name) else name] = b"x"

    return spoil


def nan(zeros):
    frames = zeros.astype(np.float32)
    frames[0, 0, 0, 0, 0] = np.nan
    return frames


SPOILED = {
    "missing file": (drop, "missing {first}"),
    "stray note": (beside("readme.txt"), "unexpected 'readme.txt'"),
    "stray test file": (beside("x_test_temporal.h5"), "unexpected 'x_test_temporal.h5'"),
    "stray mask": (beside(lambda n: n.replace(".h5", "_mask.h5")), "unexpected '.*_mask.h5'"),
    "system folder": (beside("__MACOSX/._a"), "unexpected '__MACOSX"),
    "lower case": (renamed(str.lower), "unexpected '{lower}'"),
    "wrapper folder": (renamed(lambda n: f"submission/{n}"), "unexpected 'submission/{first}'"),
    "no city folder": (renamed(lambda n: n.split("/")[1]), "missing {first}"),
    "other ending": (renamed(lambda n: n + "5"), "missing {first}"),
    "parent folder": (renamed(lambda n: "../" + n), "outside its folder"),
    "text": (holding(lambda d: b"text"), "not a readable HDF5 file"),
    "nothing": (holding(lambda d: b""), "not a readable HDF5 file"),
    "int16": (values(lambda z: z.astype(np.int16)), "type int16, expected uint8"),
    "floats": (values(lambda z: z.astype(np.float32)), "type float32, expected uint8"),
    "not numbers": (values(nan), "type float32, expected uint8"),
    "bool": (values(lambda z: z.astype(bool)), "type bool, expected uint8|not plain"),
    "slot too few": (values(lambda z: z[:-1]), r"shape \(.*\), expected"),
    "slot too many": (values(lambda z: np.concatenate([z, z[:1]])), "shape .*, expected"),
    "leading axis": (values(lambda z: z[None]), r"shape \(1, .*, expected"),
    "twelve leads": (values(lambda z: np.repeat(z, 2, axis=1)), r"shape \(., 12, "),
    "three leads": (values(lambda z: z[:, :3]), r"shape \(., 3, "),
    "nine channels": (values(lambda z: np.repeat(z, 2, -1)[..., :9]), r", 9\), expected .*, 8\)"),
    "rows and columns": (values(lambda z: z.swapaxes(2, 3)), r"6, 5, 7, 8\), expected"),
    "channels first": (values(lambda z: np.moveaxis(z, -1, 2)), r"6, 8, 7, 5\), expected"),
    "other key": (values(lambda z: z, key="data"), "keys .'data'., expected 'array'"),
    "second key": (values(lambda z: z, a=np.zeros(3)), "keys .'a', 'array'."),
    "zstd": (values(lambda z: z, options=hdf5plugin.Zstd()), "compressed with filter 32015"),
}


@pytest.mark.parametrize("name", SPOILED)
def test_a_spoiled_submission_is_refused_with_its_fault(edition, good, tmp_path, name):
    wanted = members(edition)
    first = sorted(wanted)[0]
    assert check_submission(good, wanted, workers=0, most_mib=6400) == []
    with ZipFile(good) as archive:
        files = {member: archive.read(member) for member in archive.namelist()}
    spoil, said = SPOILED[name]
    spoil(files, first, (tmp_path, np.zeros(wanted[first], np.uint8)))
    with ZipFile(good, "w") as archive:
        for member, content in files.items():
            archive.writestr(member, content)
    faults = check_submission(good, wanted, workers=0)
    told = said.replace("{first}", re.escape(first)).replace("{lower}", first.lower())
    assert any(re.search(told, fault) for fault in faults), faults
    assert all(str(good) in fault for fault in faults)


def test_a_zip_itself_can_be_spoiled(edition, good, tmp_path):
    wanted = members(edition)
    first = sorted(wanted)[0]
    weighs = check_submission(good, wanted, workers=0, most_mib=0)
    assert re.search(r"weighs 0\.\d MiB, expected at most 0 MiB", weighs[0])
    data = good.read_bytes()
    good.write_bytes(data[: len(data) // 2])
    assert "not a readable zip" in check_submission(good, wanted, workers=0)[0]
    good.write_bytes(data)
    entry = ZipInfo("link")
    entry.create_system, entry.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    with ZipFile(good, "a") as archive:
        archive.writestr(entry, b"/etc/passwd")
    assert any("link is a link" in fault for fault in check_submission(good, wanted, workers=0))
    good.write_bytes(data)
    with pytest.warns(UserWarning, match="Duplicate"), ZipFile(good, "a") as archive:
        archive.writestr(first, b"again")
    assert any("there 2 times" in fault for fault in check_submission(good, wanted, workers=0))
    with ZipFile(good, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr(first, b"x")
    assert any("by method 12" in fault for fault in check_submission(good, wanted, workers=0))


def test_every_fault_is_listed_at_once(edition, good, tmp_path):
    wanted = members(edition)
    one, other, *_ = sorted(wanted)
    with ZipFile(good) as archive:
        files = {member: archive.read(member) for member in archive.namelist()}
    files[one] = packed(tmp_path, np.zeros(wanted[one], np.float32))
    del files[other]
    files["stray.h5"] = b""
    with ZipFile(good, "w") as archive:
        for member, content in files.items():
            archive.writestr(member, content)
    faults = check_submission(good, wanted, workers=0, most_mib=0)
    for said in (f"{one}: type float32", f"missing {other}", "unexpected 'stray.h5'", "weighs"):
        assert any(said in fault for fault in faults), said
    assert len(faults) == 4


def test_a_spoiled_submission_fails_on_the_command_line_too(tmp_path):
    """The rules list what must be there: no release and no store is needed to check one of 2021."""
    world = build(tmp_path, "traffic4cast2021")
    (tmp_path / "s.zip").write_bytes(b"")
    result = t4c("check", world.config, "--submission", tmp_path / "s.zip")
    assert result.exit_code == 1
    assert "not a readable zip" in result.stderr
    with ZipFile(tmp_path / "s.zip", "w") as archive:
        archive.writestr("CHICAGO/CHICAGO_test_spatiotemporal.h5", b"")
    said = t4c("check", world.config, "--submission", tmp_path / "s.zip").stderr
    assert said.count("missing") == 2
    assert "unexpected 'CHICAGO/CHICAGO_test_spatiotemporal.h5'" in said
