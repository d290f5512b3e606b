from __future__ import annotations

import os
import subprocess
import sys
import tracemalloc
from math import prod
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra import numpy as arrays

from pipeline.claims import FOREIGN_FILTERS, Claims, claim_faults
from pipeline.errors import HeatmapError
from pipeline.header import read_header
from pipeline.heatmaps import open_frames, read_frames, write_frames
from tests.world import NORTH_UP, TINY, draw_day

DAY = draw_day(NORTH_UP, "20180101")


@settings(max_examples=30)
@given(arrays.arrays(np.uint8, arrays.array_shapes(min_dims=4, max_dims=5, max_side=6)))
def test_what_is_written_is_read(tmp_path_factory, frames):
    path = tmp_path_factory.mktemp("round") / "f.h5"
    write_frames(path, frames)
    found = read_frames(path, frames.shape)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, frames)
    assert [p.name for p in path.parent.iterdir()] == ["f.h5"]


def test_writing_twice_gives_the_same_bytes(tmp_path):
    one, two = (write_frames(tmp_path / name, DAY).read_bytes() for name in ("a.h5", "b.h5"))
    assert one == two


@pytest.mark.parametrize("dtype", ["uint8", "int16", ">i2"])
@pytest.mark.parametrize("chunks", [None, True, (1, 11, 7, 3), (48, 11, 7, 3), (5, 4, 3, 2)])
@pytest.mark.parametrize("compression", [None, "gzip", "lzf"])
def test_any_chunking_and_both_types_are_read(tmp_path, dtype, chunks, compression):
    if chunks is None and compression:
        pytest.skip("HDF5 compresses chunks only")
    path = tmp_path / "f.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("array", data=DAY.astype(dtype), chunks=chunks, compression=compression)
    np.testing.assert_array_equal(read_frames(path, TINY.day_shape), DAY)
    with open_frames(path, TINY.day_shape) as frames:
        np.testing.assert_array_equal(frames.read(3, 9), DAY[3:9])
        parts = list(frames.slabs())
    np.testing.assert_array_equal(np.concatenate([part for _, part in parts]), DAY)
    assert [start for start, _ in parts] == np.cumsum([0] + [len(p) for _, p in parts])[
        :-1
    ].tolist()


def test_a_lone_dataset_of_another_name_is_read(tmp_path):
    path = tmp_path / "f.h5"
    with h5py.File(path, "w") as file:
        file["whatever"] = DAY
    np.testing.assert_array_equal(read_frames(path, TINY.day_shape), DAY)
    with (
        pytest.raises(HeatmapError, match=r"keys \['whatever'\], expected 'array'"),
        open_frames(path, TINY.day_shape, strict=True),
    ):
        pass


def not_hdf5(path: Path) -> None:
    path.write_bytes(b"day, not a heatmap\n" * 100)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def truncated(path: Path) -> None:
    write_frames(path, DAY)
    os.truncate(path, path.stat().st_size * 2 // 3)


def folder(path: Path) -> None:
    path.mkdir()


def missing(path: Path) -> None:
    pass


def no_dataset(path: Path) -> None:
    with h5py.File(path, "w"):
        pass


def two_datasets(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["a"], file["b"] = DAY, DAY


def group(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_group("array")


def short_day(path: Path) -> None:
    write_frames(path, DAY[:-1])


def leading_axis(path: Path) -> None:
    write_frames(path, DAY[None])


def axes_swapped(path: Path) -> None:
    write_frames(path, np.swapaxes(DAY, 1, 2))


def floats(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["array"] = DAY.astype(np.float32)


def words(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["array"] = np.full(TINY.day_shape, b"x")


def above_255(path: Path) -> None:
    with h5py.File(path, "w") as file:
        frames = DAY.astype(np.int16)
        frames[2, 3, 4, 1] = 256
        file["array"] = frames


def below_0(path: Path) -> None:
    with h5py.File(path, "w") as file:
        frames = DAY.astype(np.int16)
        frames[2, 3, 4, 1] = -1
        file["array"] = frames


def external_link(path: Path) -> None:
    write_frames(path.with_name("other.h5"), DAY)
    with h5py.File(path, "w") as file:
        file["array"] = h5py.ExternalLink("other.h5", "array")


def soft_link(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["array"] = h5py.SoftLink("/nowhere")


def external_storage(path: Path) -> None:
    path.with_name("raw").write_bytes(DAY.tobytes())
    with h5py.File(path, "w") as file:
        file.create_dataset(
            "array", DAY.shape, np.uint8, external=[(str(path.with_name("raw")), 0, DAY.size)]
        )


def virtual(path: Path) -> None:
    write_frames(path.with_name("other.h5"), DAY)
    view = h5py.VirtualLayout(DAY.shape, np.uint8)
    view[...] = h5py.VirtualSource(str(path.with_name("other.h5")), "array", DAY.shape)
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("array", view)


def size_bomb(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("array", (100_000, 4950, 4360, 3), np.uint8, chunks=(1, 99, 99, 3))


def chunk_bomb(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset(
            "array",
            TINY.day_shape,
            np.uint8,
            maxshape=(None,) * 4,
            chunks=(48, 1024, 1024, 32),
        )


def unknown_filter(path: Path) -> None:
    with h5py.File(path, "w") as file:
        space = h5py.h5s.create_simple(TINY.day_shape)
        filters = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        filters.set_chunk((1, *TINY.frame_shape))
        filters.set_filter(31999, h5py.h5z.FLAG_OPTIONAL, ())
        h5py.h5d.create(file.id, b"array", h5py.h5t.NATIVE_UINT8, space, filters)


def lz4(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("array", data=DAY, **hdf5plugin.LZ4())


def zstd(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("array", data=DAY, **hdf5plugin.Zstd())


def deflate_twice(path: Path) -> None:
    with h5py.File(path, "w") as file:
        space = h5py.h5s.create_simple(TINY.day_shape)
        filters = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        filters.set_chunk((1, *TINY.frame_shape))
        filters.set_deflate(1)
        filters.set_shuffle()
        filters.set_deflate(9)
        h5py.h5d.create(file.id, b"array", h5py.h5t.NATIVE_UINT8, space, filters)


def of_type(path: Path, kind: h5py.h5t.TypeID) -> None:
    with h5py.File(path, "w") as file:
        space = h5py.h5s.create_simple(TINY.day_shape)
        h5py.h5d.create(file.id, b"array", kind, space)


def enum(path: Path) -> None:
    kind = h5py.h5t.enum_create(h5py.h5t.STD_U8LE)
    kind.enum_insert(b"empty", 0)
    of_type(path, kind)


def bit_field(path: Path) -> None:
    of_type(path, h5py.h5t.STD_B8LE)


def four_bits(path: Path) -> None:
    kind = h5py.h5t.STD_U8LE.copy()
    kind.set_precision(4)
    of_type(path, kind)


def broken_chunk(path: Path) -> None:
    write_frames(path, np.random.default_rng(0).integers(0, 256, TINY.day_shape, dtype=np.uint8))
    spoiled = bytearray(path.read_bytes())
    middle = len(spoiled) // 2
    spoiled[middle : middle + 64] = bytes(64)
    path.write_bytes(spoiled)


SPOILED = {
    not_hdf5: "not a readable HDF5 file",
    empty: "not a readable HDF5 file",
    truncated: "not a readable HDF5 file.*truncated",
    folder: "no such file",
    missing: "no such file",
    no_dataset: r"keys \[\], expected 'array'",
    two_datasets: r"keys \['a', 'b'\], expected 'array'",
    group: "Group, expected a dataset",
    short_day: r"shape \(47, 11, 7, 3\), expected \(48, 11, 7, 3\)",
    leading_axis: r"shape \(1, 48, 11, 7, 3\), expected \(48, 11, 7, 3\)",
    axes_swapped: r"shape \(48, 7, 11, 3\), expected",
    floats: "type float32, expected uint8 or int16",
    words: "type .S1, expected uint8 or int16",
    above_255: r"value 256 at \(2, 3, 4, 1\), expected bytes from 0 to 255",
    below_0: r"value -1 at \(2, 3, 4, 1\), expected bytes",
    external_link: "ExternalLink, expected data of its own",
    soft_link: "SoftLink, expected data of its own",
    external_storage: "keeps its data in other files",
    virtual: "virtual view of other files",
    size_bomb: r"shape \(100000, 4950, 4360, 3\), expected",
    chunk_bomb: "chunks of .* bytes, expected at most",
    unknown_filter: "filter 31999",
    lz4: "filter 32004, expected deflate or",
    zstd: "filter 32015, expected deflate or",
    deflate_twice: "runs the filter deflate 2 times, expected once",
    enum: r"type uint8, not plain \(TypeEnumID\), expected uint8",
    bit_field: r"type uint8, not plain \(TypeBitfieldID\)",
    four_bits: r"type uint8, not plain \(TypeIntegerID\)",
    broken_chunk: "unreadable",
}


@pytest.mark.parametrize("spoil", SPOILED, ids=lambda spoil: spoil.__name__)
def test_a_spoiled_file_is_refused_by_name(tmp_path, spoil):
    path = tmp_path / "20180101_100m_bins.h5"
    spoil(path)
    with pytest.raises(HeatmapError, match=SPOILED[spoil]) as refusal:
        read_frames(path, TINY.day_shape)
    assert str(path) in str(refusal.value)


@pytest.mark.parametrize("spoil", [lz4, zstd, deflate_twice, enum, bit_field, four_bits])
@pytest.mark.parametrize("name", ["m.h5", "m.nc"])
def test_a_submission_is_plain_bytes_that_plain_h5py_reads(tmp_path, spoil, name):
    spoil(tmp_path / name)
    with (
        pytest.raises(HeatmapError, match=SPOILED[spoil]),
        open_frames(tmp_path / name, TINY.day_shape, strict=True),
    ):
        pass


@pytest.mark.parametrize("order", [h5py.h5t.STD_U8LE, h5py.h5t.STD_U8BE])
def test_bytes_have_no_order(tmp_path, order):
    of_type(tmp_path / "m.h5", order)
    with open_frames(tmp_path / "m.h5", TINY.day_shape, strict=True) as frames:
        assert not frames.read().any()


@pytest.mark.parametrize(
    "options",
    [
        {"compression": "gzip", "shuffle": True, "fletcher32": True},
        {"compression": "lzf", "shuffle": True},
        {"compression": "szip"},
        {"scaleoffset": 0},
    ],
    ids=str,
)
def test_what_plain_h5py_unpacks_is_read(tmp_path, options):
    path = tmp_path / "f.h5"
    with h5py.File(path, "w") as file:
        try:
            file.create_dataset("array", data=DAY, chunks=(4, 11, 7, 3), **options)
        except ValueError as fault:
            pytest.skip(str(fault))
    with open_frames(path, TINY.day_shape, strict=True) as frames:
        np.testing.assert_array_equal(frames.read(), DAY)


def test_only_a_store_asks_for_lz4(tmp_path):
    path = tmp_path / "f.h5"
    lz4(path)
    with open_frames(path, TINY.day_shape, own=True) as frames:
        np.testing.assert_array_equal(frames.read(), DAY)
    zstd(path)
    with (
        pytest.raises(HeatmapError, match="filter 32015"),
        open_frames(path, TINY.day_shape, own=True),
    ):
        pass


def test_who_reads_foreign_files_only_has_no_decoders_beside_h5pys():
    code = "import h5py, pipeline.archive; print(h5py.h5z.filter_avail(32004))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "False"


def test_every_false_claim_is_named():
    filters = (1, 1, 2, 32004, *FOREIGN_FILTERS)
    claims = Claims((9, 2**40), "float32", 4, (1, 2**30), filters)
    faults = list(claim_faults(claims, (9, None, 3), ["uint8"], own=True))
    assert faults == [
        f"shape {(9, 2**40)}, expected (9, any, 3)",
        "type float32, expected uint8",
        "claims 39,582,418,599,936 bytes, expected at most 4,294,967,296",
        "chunks of 4,294,967,296 bytes, expected at most 536,870,912",
        "runs the filter deflate 3 times, expected once",
        "runs the filter shuffle 2 times, expected once",
    ]
    lawful = Claims((9, 2), "uint8", 1, None, tuple(FOREIGN_FILTERS))
    assert list(claim_faults(lawful, None, ["uint8"], own=False)) == []


def test_reading_int16_takes_no_more_than_its_values_and_their_bytes(tmp_path):
    shape = (48, 110, 70, 3)
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file["array"] = np.full(shape, 255, np.int16)
    with open_frames(tmp_path / "f.h5", shape) as frames:
        tracemalloc.start()
        try:
            found = frames.read()
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert (found == 255).all()
    assert peak < 3.1 * prod(shape)


def test_a_bomb_of_open_shape_is_refused_too(tmp_path):
    path = tmp_path / "bomb.h5"
    size_bomb(path)
    assert path.stat().st_size < 4000
    with pytest.raises(HeatmapError, match="claims .* bytes, expected at most"):
        read_header(path)


def test_only_bytes_are_written(tmp_path):
    with pytest.raises(ValueError, match="float64 frames"):
        write_frames(tmp_path / "f.h5", DAY / 2)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = write_frames(tmp_path / "f.h5", DAY)
    before = path.read_bytes()
    monkeypatch.setattr(h5py.Group, "create_dataset", lambda *a, **k: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_frames(path, DAY[::-1])
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["f.h5"]


def test_the_real_berlin_day_is_read(shared):
    path = shared / "t4c_fragments" / "berlin_2019_one_day_speedNE_288x495x436x1.h5"
    frames = read_frames(path, (288, 495, 436, 1))
    assert (frames > 0).mean() == pytest.approx(0.0255, abs=1e-4)
    assert read_header(path).chunks == (18, 62, 55, 1)
    with pytest.raises(HeatmapError, match=r"expected \(288, 495, 436, 3\)"):
        read_frames(path, (288, 495, 436, 3))
