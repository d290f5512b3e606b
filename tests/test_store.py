from __future__ import annotations

import json
import os
import pickle
import shutil
import socket
import subprocess
from dataclasses import replace
from datetime import date
from multiprocessing import get_context

import h5py
import numpy as np
import pytest
import xarray as xr

from pipeline.atomic import sweep
from pipeline.catalog import day_path
from pipeline.editions import Days
from pipeline.errors import CatalogError, StoreError, WindowError
from pipeline.heatmaps import write_frames
from pipeline.ingest import ingest_city
from pipeline.rechunk import histogram
from pipeline.sources import TrafficSource, windows_dataset
from pipeline.store import Store
from pipeline.windows import Cut, WindowPlan, slot_windows
from tests.world import NORTH_UP, ROTATED, TEST, TINY, TRAINING, blank, draw_day


def ingest(world, city=NORTH_UP, **options):
    return ingest_city(world.release, TINY, city, world.store, **{"workers": 0, **options})


def contents(root):
    return {p.relative_to(root): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def test_a_store_holds_what_the_release_holds(stores):
    for store in stores:
        for day in TRAINING:
            np.testing.assert_array_equal(store.read_day(day), draw_day(store.city, day))
        blanked = blank(store.city, draw_day(store.city, TEST[0]))
        np.testing.assert_array_equal(store.read_day(TEST[0]), blanked)


def test_a_stored_day_is_one_frame_a_chunk_and_plain_netcdf(pristine):
    path = pristine.store / "Aal" / "training" / "20180101.nc"
    with h5py.File(path) as file:
        assert file["array"].chunks == (1, *TINY.frame_shape)
    with xr.open_dataset(path, engine="h5netcdf") as day:
        assert dict(day.sizes) == {"time": 48, "y": 11, "x": 7, "channel": 3}
        assert str(day.time.values[1]) == "2018-01-01T00:30:00.000000000"
        assert list(day.channel.values) == list(TINY.channels)
        np.testing.assert_allclose(day.y.values[[0, -1]], [47.0105, 47.0005])
        np.testing.assert_allclose(day.x.values[[0, -1]], [9.0005, 9.0065])


def test_all_days_open_as_one_lazy_dataset(stores):
    for store in stores:
        data = store.dataset("training")
        assert data.heatmap.chunks is not None
        assert data.heatmap.shape == (3 * 48, 11, 7, 3)
        day = data.heatmap.sel(time="2018-01-04").values
        np.testing.assert_array_equal(day, draw_day(store.city, "20180104"))
        volume = data.heatmap.sel(channel="volume").mean("time").values
        alone = np.concatenate([draw_day(store.city, d)[..., 0] for d in TRAINING])
        np.testing.assert_allclose(volume, alone.mean(axis=0))
    north, rotated = (store.dataset("training") for store in stores)
    assert north.latitude.dims == ("y",)
    assert rotated.latitude.dims == ("x",)
    assert rotated.longitude.values[0] > rotated.longitude.values[-1]


def test_both_readers_of_a_plan_agree(stores):
    store = stores[0]
    cut = Cut(48, 5, TINY.leads, 7)
    plan = WindowPlan("Aal", tuple(store.days("training")), cut)
    lazy = windows_dataset(store, plan)
    assert dict(lazy.sizes) == {
        "window": len(plan),
        "step": 9,
        "y": 11,
        "x": 7,
        "channel": 3,
    }
    assert lazy.heatmap.chunksizes["window"] == (1,) * len(plan)
    assert lazy.step.values.tolist() == [-5, -4, -3, -2, -1, 0, 1, 2, 4]
    source = TrafficSource(store, plan)
    for index in range(len(plan)):
        clip = source[index]
        direct = np.moveaxis(np.concatenate([clip.history, clip.future]), -3, -1)
        np.testing.assert_array_equal(direct, lazy.heatmap[index].values)
        frames = draw_day(store.city, clip.where.day)
        expected = [*range(clip.where.start, clip.where.split), *clip.where.future]
        np.testing.assert_array_equal(direct, frames[expected])


def test_slot_windows_hold_the_input_of_a_test_day(stores):
    for store in stores:
        for window in slot_windows(TINY, store.city, TEST[1], history=5):
            seen = store.read(TEST[1], window.start, window.split)
            frames = draw_day(store.city, TEST[1])
            np.testing.assert_array_equal(seen, frames[window.start : window.split])
            assert seen.any()


def test_windows_of_two_shapes_are_no_dataset(stores):
    mixed = [WindowPlan("Aal", TRAINING, Cut(48, h, TINY.leads))[0] for h in (5, 6)]
    with pytest.raises(WindowError, match="2 windows of 2 shapes"):
        windows_dataset(stores[0], mixed)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_store_travels_to_workers(stores, method):
    source = TrafficSource(stores[0], WindowPlan("Aal", TRAINING, Cut(48, 5, TINY.leads)))
    first = source[3].history  # handles are open when the workers come
    with get_context(method).Pool(2) as pool:
        for clip in pool.map(source.__getitem__, [3, 3, 3, 3]):
            np.testing.assert_array_equal(clip.history, first)
    assert pickle.loads(pickle.dumps(source))[3].history.tobytes() == first.tobytes()


def test_many_days_need_few_handles(stores, monkeypatch):
    monkeypatch.setattr("pipeline.store.OPEN_FILES", 2)
    store = Store.open(stores[0].root, TINY, NORTH_UP)
    for day in (*TRAINING, *TRAINING):
        np.testing.assert_array_equal(store.read(day, 4, 6), draw_day(NORTH_UP, day)[4:6])
    assert len(store._open) == 2


def test_a_second_run_does_nothing(ingested):
    before = {p: p.stat().st_mtime_ns for p in ingested.store.rglob("*.nc")}
    report = ingest(ingested)
    assert (report.ingested, len(report.kept)) == ((), 7)
    assert before == {p: p.stat().st_mtime_ns for p in ingested.store.rglob("*.nc")}


def test_touched_days_are_kept_and_changed_days_redone(world):
    ingest(world)
    touched = day_path(world.release, TINY, NORTH_UP, "training", "20180101")
    os.utime(touched)
    changed = day_path(world.release, TINY, NORTH_UP, "training", "20180102")
    write_frames(changed, draw_day(NORTH_UP, "20180102")[::-1])
    report = ingest(world)
    assert report.ingested == ("20180102",)
    store = Store.open(world.store, TINY, NORTH_UP)
    np.testing.assert_array_equal(store.read_day("20180102"), draw_day(NORTH_UP, "20180102")[::-1])


def test_verify_sees_a_change_that_kept_size_and_time(world):
    ingest(world)
    path = day_path(world.release, TINY, NORTH_UP, "training", "20180101")
    stat = path.stat()
    write_frames(path, draw_day(NORTH_UP, "20180102"), gzip=0)
    size = path.stat().st_size
    os.truncate(path, size)
    manifest = json.loads((world.store / "Aal" / "manifest.json").read_text())
    entry = next(d for d in manifest["days"] if d["day"] == "20180101")
    entry["source_bytes"] = size
    (world.store / "Aal" / "manifest.json").write_text(json.dumps(manifest))
    os.utime(path, ns=(stat.st_mtime_ns, stat.st_mtime_ns))
    assert ingest(world).ingested == ()
    assert ingest(world, verify=True).ingested == ("20180101",)


def test_a_touched_file_is_hashed_once_only(world, monkeypatch):
    ingest(world)
    for path in (world.release / "Aal").rglob("*.h5"):
        os.utime(path)
    assert len(ingest(world).kept) == 7
    stamp = (world.store / "Aal" / "manifest.json").stat().st_mtime_ns
    monkeypatch.setattr("pipeline.ingest.sha256", lambda path: pytest.fail("hashed again"))
    assert len(ingest(world).kept) == 7
    assert (world.store / "Aal" / "manifest.json").stat().st_mtime_ns == stamp


def test_a_damaged_day_of_the_store_is_made_again(world):
    ingest(world)
    short, spoiled = (world.store / "Aal" / "training" / f"{day}.nc" for day in TRAINING[:2])
    os.truncate(short, short.stat().st_size - 100)
    assert ingest(world).ingested == ("20180101",)
    data = bytearray(spoiled.read_bytes())
    data[len(data) // 2] ^= 0xFF
    spoiled.write_bytes(data)
    assert ingest(world).ingested == ()
    assert ingest(world, verify=True).ingested == ("20180102",)
    store = Store.open(world.store, TINY, NORTH_UP)
    for day in TRAINING:
        np.testing.assert_array_equal(store.read_day(day), draw_day(NORTH_UP, day))


def test_a_day_held_out_by_the_splits_leaves_the_store_and_others_stay(world):
    ingest(world)
    for day in TRAINING[1:]:
        day_path(world.release, TINY, NORTH_UP, "training", day).unlink()
    kept = ingest(world)
    assert (kept.gone, kept.dropped) == (TRAINING[1:], ())
    assert Store.open(world.store, TINY, NORTH_UP).days("training") == list(TRAINING)
    splits = {
        "training": Days(date(2018, 1, 1), date(2018, 1, 2)),
        "validation": Days(date(2018, 1, 3), date(2018, 1, 9)),
        "test": Days(date(2018, 1, 10), date(2018, 1, 11)),
    }
    held_out = replace(TINY, splits=splits)
    report = ingest_city(world.release, held_out, NORTH_UP, world.store, workers=0)
    assert (report.gone, report.dropped) == (("20180102",), ("20180104",))
    assert Store.open(world.store, TINY, NORTH_UP).days("training") == ["20180101", "20180102"]


def test_a_refused_change_leaves_the_day_as_it_was_and_says_so(world):
    ingest(world)
    bad = day_path(world.release, TINY, NORTH_UP, "training", "20180102")
    bad.write_bytes(b"not HDF5")
    assert "keeps the day as it was" in ingest(world).refused["20180102"]
    store = Store.open(world.store, TINY, NORTH_UP)
    np.testing.assert_array_equal(store.read_day("20180102"), draw_day(NORTH_UP, "20180102"))


@pytest.mark.parametrize(
    "change", [{"lat_max": 47.022}, {"rotated": True}], ids=["box", "rotation"]
)
def test_a_store_made_for_another_box_is_not_taken_for_this_one(ingested, change):
    moved = replace(NORTH_UP, **change)
    for use in (
        lambda: Store.open(ingested.store, TINY, moved),
        lambda: ingest_city(ingested.release, TINY, moved, ingested.store, workers=0),
    ):
        with pytest.raises(StoreError, match="expected .*delete it and ingest again"):
            use()


def test_one_day_under_two_names_is_refused(world):
    day = day_path(world.release, TINY, NORTH_UP, "training", "20180101")
    shutil.copy(day, day_path(world.release, TINY, NORTH_UP, "validation", "201811"))
    with pytest.raises(CatalogError, match="201811_100m_bins.h5"):
        ingest(world)


def test_what_dead_processes_left_is_swept_and_the_living_are_let_be(tmp_path):
    target = tmp_path / "[x].nc"
    dead = subprocess.Popen(["true"])
    dead.wait()
    here = socket.gethostname().replace(".", "_")
    stale = [f"{target.name}.{here}-{dead.pid}.partial", f"{target.name}.elsewhere-1.partial"]
    living = [f"{target.name}.{here}-{os.getppid()}.partial", f"{target.name}.far-2.partial"]
    for name in (*stale, *living):
        (tmp_path / name).write_text("half")
    os.utime(tmp_path / stale[1], (0, 0))
    sweep(tmp_path, target.name)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(living)


def test_a_day_that_moves_to_another_split_leaves_the_old_one(world):
    ingest(world)
    old = day_path(world.release, TINY, NORTH_UP, "training", "20180104")
    new = day_path(world.release, TINY, NORTH_UP, "validation", "20180104")
    old.rename(new)
    ingest(world)
    store = Store.open(world.store, TINY, NORTH_UP)
    assert "20180104" in store.days("validation")
    assert "20180104" not in store.days("training")
    assert not (world.store / "Aal" / "training" / "20180104.nc").exists()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_corrupt_day_is_named_and_does_not_stop_the_others(world, workers):
    bad = day_path(world.release, TINY, NORTH_UP, "training", "20180102")
    bad.write_bytes(bad.read_bytes()[:-200])
    report = ingest(world, workers=workers)
    assert len(report.ingested) == 6
    assert list(report.refused) == ["20180102"]
    assert str(bad) in report.refused["20180102"]
    assert "20180102" not in Store.open(world.store, TINY, NORTH_UP).days("training")
    assert not list(world.store.rglob("*.partial"))


def test_workers_and_order_change_nothing(world, tmp_path):
    for workers in (0, 2):
        shutil.rmtree(world.store, ignore_errors=True)
        ingest(world, workers=workers)
        found = contents(world.store)
        assert found == contents(world.store)
        if workers == 0:
            alone = found
    assert found == alone


def test_a_dask_cluster_gives_the_same_store(world):
    distributed = pytest.importorskip("distributed")
    ingest(world)
    alone = contents(world.store)
    shutil.rmtree(world.store)
    bad = day_path(world.release, TINY, NORTH_UP, "training", "20180102")
    whole = bad.read_bytes()
    bad.write_bytes(whole[:-200])
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None
    ) as here:
        report = ingest(world, cluster=here.scheduler_address)
        assert list(report.refused) == ["20180102"]
        bad.write_bytes(whole)
        ingest(world, cluster=here.scheduler_address)
    found = contents(world.store)
    assert found.keys() == alone.keys()
    assert all(found[name] == alone[name] for name in found if name.suffix == ".nc")


def test_statistics_are_those_of_the_day(pristine):
    manifest = json.loads((pristine.store / "Bex" / "manifest.json").read_text())
    for entry in manifest["days"]:
        frames = Store.open(pristine.store, TINY, ROTATED).read_day(entry["day"])
        for place, channel in enumerate(TINY.channels):
            values, found = frames[..., place].astype(float), entry["statistics"][channel]
            assert found["mean"] == pytest.approx(values.mean())
            assert found["mean_square"] == pytest.approx((values**2).mean())
            assert found["active"] == pytest.approx((values > 0).mean())
            assert found["maximum"] == values.max()


@pytest.mark.parametrize("cells", [1, 7, 8, 9, 1001])
@pytest.mark.parametrize("channels", [1, 3, 8])
def test_the_histogram_counts_every_byte(cells, channels):
    rng = np.random.default_rng(cells)
    frames = rng.integers(0, 256, (1, cells, 1, channels), dtype=np.uint8)
    frames[rng.random(frames.shape) < 0.8] = 0
    slow = [np.bincount(frames[..., c].ravel(), minlength=256) for c in range(channels)]
    np.testing.assert_array_equal(histogram(frames), slow)


def spoil_manifest(world):
    (world.store / "Aal" / "manifest.json").write_text("{")


def drop_manifest(world):
    (world.store / "Aal" / "manifest.json").unlink()


def other_edition(world):
    path = world.store / "Aal" / "manifest.json"
    path.write_text(path.read_text().replace('"edition": "tiny"', '"edition": "huge"'))


def extra_key(world):
    path = world.store / "Aal" / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "extra": 1}))


def lose_day(world):
    (world.store / "Aal" / "training" / "20180101.nc").unlink()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (spoil_manifest, "not a manifest"),
        (drop_manifest, "`t4c ingest` makes it"),
        (other_edition, "a store with .*huge.*expected .*tiny.*delete it"),
        (extra_key, "extra"),
        (lose_day, r"missing \['Aal/training/20180101.nc'\]"),
    ],
)
def test_a_spoiled_store_is_refused(ingested, spoil, said):
    spoil(ingested)
    with pytest.raises(StoreError, match=said):
        Store.open(ingested.store, TINY, NORTH_UP)


def test_frames_outside_a_day_are_refused(stores):
    with pytest.raises(StoreError, match="frames 40 to 49"):
        stores[0].read("20180101", 40, 49)
    with pytest.raises(StoreError, match="no day 20190101"):
        stores[0].read("20190101", 0, 1)


def test_a_misnamed_day_is_refused_by_name(world):
    day = day_path(world.release, TINY, NORTH_UP, "training", "20180101")
    day.rename(day.with_name("2018-01-01_100m_bins.h5"))
    with pytest.raises(CatalogError, match="2018-01-01_100m_bins.h5"):
        ingest(world)


def test_a_day_in_two_splits_is_refused(world):
    day = day_path(world.release, TINY, NORTH_UP, "training", "20180101")
    shutil.copy(day, day_path(world.release, TINY, NORTH_UP, "validation", "20180101"))
    with pytest.raises(CatalogError, match="the day is in"):
        ingest(world)


def test_an_empty_release_is_refused(world):
    shutil.rmtree(world.release / "Aal")
    with pytest.raises(CatalogError, match="no day of Aal; expected files like"):
        ingest(world)
