"""Disks full or sealed, sources that change, clocks that jump."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from typer.testing import CliRunner

from crevnet.training_state import Progress, TrainingState, load_state, save_state
from crevnet.whole_file import UnwritableError
from flows.cli import app
from pipeline import rechunk
from pipeline.atomic import naming_faults, sweep, temporary_folder, whole_file, write_text
from pipeline.catalog import day_path
from pipeline.errors import ChangedError, OutputError
from pipeline.forecasters import Persistence
from pipeline.ingest import ingest_city
from pipeline.kept_fits import KEPT, note_use
from pipeline.manifest import read_manifest
from pipeline.store import Store
from pipeline.submission import check_submission, write_submission
from tests.conftest import ROOT
from tests.world import HISTORY, NORTH_UP, TINY


@contextmanager
def no_file_over(size):
    """No file may grow beyond so many bytes: what a full disk is to who writes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def names(folder):
    return sorted(path.name for path in folder.rglob("*"))


FULL = """
import resource, sys
from pathlib import Path
import numpy as np
import xarray as xr
from pipeline.errors import OutputError
from pipeline.maps.dataset import save_maps
from pipeline.heatmaps import row_writer, store_writer, write_frames
from pipeline.layout import Axis

frames = np.random.default_rng(0).integers(0, 256, (40, 30, 20, 3), np.uint8)
folder = Path(sys.argv[1])

def store():
    axes = [Axis(name, np.arange(size), {}) for name, size in zip("tyxc", frames.shape)]
    with store_writer(folder / "store.nc", axes, {}) as dataset:
        dataset[:] = frames

def maps():
    values = xr.DataArray(frames[..., 0].astype(float), dims=("mse", "y", "x"))
    save_maps(folder / "maps.nc", xr.Dataset({"mse_by_hour": values}))

def rows():
    with row_writer(folder / "rows.h5", frames.shape) as write:
        for place, row in enumerate(frames):
            write(place, row)

resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
for make in (store, rows, lambda: write_frames(folder / "frames.h5", frames), maps):
    try:
        make()
        print("made")
    except OutputError as fault:
        print(fault)
"""


@pytest.mark.parametrize("size", [0, 1500, 40_000])
def test_a_full_disk_is_named_leaves_nothing_and_crashes_no_process(tmp_path, size):
    """HDF5 used to keep the file that it could not finish, and crashed when the process ended."""
    run = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path), str(size)],
        cwd=ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    said = run.stdout.splitlines()
    files = ("store.nc", "rows.h5", "frames.h5", "maps.nc")
    for line, name in zip(said, files, strict=True):
        assert line.startswith(f"{tmp_path / name}: cannot be written: larger than a file may be")
        assert "MB free); mend that and run again" in line
    assert names(tmp_path) == []


def test_an_ingest_on_a_full_disk_keeps_what_it_has_and_goes_on_later(world, pristine):
    said = CliRunner().invoke(app, ["ingest", str(world.config)])
    assert said.exit_code == 0
    smallest = min(path.stat().st_size for path in world.store.rglob("*.nc"))
    shutil.rmtree(world.store)
    with no_file_over(smallest + 1200):  # some days fit, others do not
        said = CliRunner().invoke(app, ["ingest", str(world.config)])
    assert said.exit_code == 1
    assert ".nc: cannot be written: larger than a file may be here" in said.output
    assert not [name for name in names(world.store) if "partial" in name or "lock" in name]
    for city in TINY.cities:
        with_manifest = (world.store / city.name / "manifest.json").exists()
        for day in read_manifest(world.store, TINY, city).days if with_manifest else ():
            assert rechunk.sha256(world.store / day.file) == day.stored_sha256
    said = CliRunner().invoke(app, ["ingest", str(world.config)])
    assert said.exit_code == 0, said.output
    for path in pristine.store.rglob("*.nc"):
        assert (world.store / path.relative_to(pristine.store)).read_bytes() == path.read_bytes()


def test_a_check_without_room_to_unpack_is_no_fault_of_the_submission(ingested, tmp_path):
    stores = [Store.open(ingested.store, TINY, city) for city in TINY.cities]
    target = tmp_path / "s.zip"
    write_submission(target, stores, lambda _: Persistence(), identity="p", history=HISTORY)
    expected = {
        TINY.layout.path("submission", store.city.name, day): (2, 4, 11, 7, 3)
        for store in stores
        for day in store.days("test")
    }
    with (
        no_file_over(100),
        pytest.raises(OutputError, match=r"member\.h5: cannot be written: larger"),
    ):
        check_submission(target, expected, workers=0)
    assert check_submission(target, expected, workers=0) == []


def test_a_state_that_does_not_fit_leaves_the_one_before(tmp_path):
    path = tmp_path / "state.pt"

    def of(step):
        return TrainingState({"a": 1}, Progress(step=step), {"w": torch.randn(100, 100)}, {})

    save_state(path, of(1))
    with (
        no_file_over(20_000),
        pytest.raises(UnwritableError, match=r"state\.pt: cannot be written: File too large \("),
    ):
        save_state(path, of(2))
    assert names(tmp_path) == ["state.pt"]
    assert load_state(path, {"a": 1}).progress.step == 1


@pytest.fixture
def sealed(tmp_path):
    """A folder with a file in it, that nobody may write."""
    folder = tmp_path / "sealed"
    folder.mkdir()
    (folder / "old.txt").write_text("old")
    if os.geteuid():
        folder.chmod(0o555)
        yield folder
        folder.chmod(0o755)
        return
    bind = ["mount", "--bind", folder, folder]
    if subprocess.run(bind, capture_output=True, check=False).returncode:
        pytest.skip("may neither be denied nor mount")
    subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True)
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_folder_that_may_not_be_written_is_named(sealed, world):
    for target in (sealed / "old.txt", sealed / "deeper" / "new.txt"):
        with pytest.raises(OutputError, match=f"^{target}: cannot be written: its (disk|folder) "):
            write_text(target, "new")
    assert (sealed / "old.txt").read_text() == "old"
    said = CliRunner().invoke(app, ["ingest", str(world.config), "--set", f"store={sealed}"])
    assert said.exit_code == 1
    assert f"{sealed}/.Aal.lock: cannot be written: its " in said.output
    assert f"{sealed}/.Bex.lock: cannot be written: its " in said.output


def test_a_source_elsewhere_that_may_not_be_read_is_not_taken_for_the_target(tmp_path):
    source = tmp_path / "source" / "day.h5"
    with pytest.raises(PermissionError), whole_file(tmp_path / "store" / "day.nc"):
        raise PermissionError(errno.EACCES, "Permission denied", str(source))
    with pytest.raises(OSError, match="Input/output"), naming_faults(tmp_path / "x"):
        raise OSError(errno.EIO, "Input/output error")


def replaced(path):
    """Another day of the same size, with the times of the old one: only the file is another."""
    before = path.stat()
    new = path.with_suffix(".new")
    new.write_bytes(path.read_bytes()[:-1] + b"?")
    os.utime(new, ns=(before.st_atime_ns, before.st_mtime_ns))
    new.replace(path)


def rewritten(path):
    """The same file written to, with its times set back."""
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"?")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize(
    ("meddle", "said"),
    [
        (replaced, "changed while it was read"),
        (rewritten, "changed while it was read"),
        (lambda path: path.unlink(), "vanished while it was read"),
    ],
)
def test_a_source_that_changes_while_it_is_read_is_not_taken(world, monkeypatch, meddle, said):
    path = day_path(world.release, TINY, NORTH_UP, "training", "20180102")
    whole = rechunk.source_checksum

    def meddled(source):
        if source.path == path:
            time.sleep(0.02)  # a tick of the file system's clock
            meddle(path)
        return whole(source)

    monkeypatch.setattr(rechunk, "source_checksum", meddled)
    report = ingest_city(world.release, TINY, NORTH_UP, world.store, workers=0)
    assert f"{path}: {said}" in report.refused["20180102"]
    assert report.unreadable == ("20180102",)  # worth another try
    assert len(report.ingested) == 6
    assert not (world.store / "Aal" / "training" / "20180102.nc").exists()


def test_a_file_system_that_makes_inodes_up_hinders_nothing(world, monkeypatch):
    look, numbers = Path.stat, count()

    def made_up(self, **options):
        found = look(self, **options)
        if self.suffix != ".h5":
            return found
        known = {name: getattr(found, name) for name in dir(found) if name.startswith("st_")}
        return SimpleNamespace(**known | {"st_ino": next(numbers), "st_dev": next(numbers)})

    monkeypatch.setattr(Path, "stat", made_up)
    report = ingest_city(world.release, TINY, NORTH_UP, world.store, workers=0)
    assert len(report.ingested) == 7
    assert report.refused == {}


def test_a_changed_source_travels_between_processes():
    import pickle

    for fault in (ChangedError("a: changed"), OutputError("b: cannot be written")):
        same = pickle.loads(pickle.dumps(fault))
        assert (type(same), str(same)) == (type(fault), str(fault))


def test_days_that_no_manifest_lists_go_but_not_where_there_is_none(ingested):
    folder = ingested.store / "Aal" / "training"
    stray = folder / "20180909.nc"
    shutil.copy(folder / "20180101.nc", stray)
    (folder / "20180909.nc.elsewhere-7.partial").write_text("half")
    report = ingest_city(ingested.release, TINY, NORTH_UP, ingested.store, workers=0)
    assert names(folder) == ["20180101.nc", "20180102.nc", "20180104.nc"]
    assert report.removed == (str(stray),)
    shutil.copy(folder / "20180101.nc", stray)
    (ingested.store / "Aal" / "manifest.json").unlink()
    report = ingest_city(ingested.release, TINY, NORTH_UP, ingested.store, workers=0)
    assert stray.exists()
    assert report.removed == ()


def test_no_clock_decides_who_of_this_machine_is_dead(tmp_path):
    here = socket.gethostname().replace(".", "_")
    living = tmp_path / f"x.nc.{here}-{os.getppid()}.partial"
    living.write_text("half")
    os.utime(living, (0, 0))  # as if the clock had jumped by years
    mine = tmp_path / f"y.nc.{here}-{os.getpid()}.partial"
    mine.write_text("of another process that had my number")
    with whole_file(tmp_path / "z.nc") as now:
        now.write_text("being written")
        os.utime(now, (0, 0))
        sweep(tmp_path)
        assert names(tmp_path) == sorted([living.name, now.name])
    assert names(tmp_path) == sorted([living.name, "z.nc"])


def test_temporary_folders_of_the_dead_go(tmp_path, monkeypatch):
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    dead = subprocess.Popen(["true"])
    dead.wait()
    host = socket.gethostname().replace(".", "_")
    for name in (f"t4c-{host}-{dead.pid}-a", f"t4c-{host}-{os.getppid()}-b", "t4c-far-1-c"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "member.h5").write_text("x")
    with temporary_folder() as mine:
        assert mine.parent == tmp_path
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
        [f"t4c-{host}-{os.getppid()}-b", "t4c-far-1-c"]
    )


def test_fits_do_not_pile_up(tmp_path):
    paths = [tmp_path / f"usual_[A]_{number:016x}.npy" for number in range(KEPT + 3)]
    others = [tmp_path / f"usual_B_{0:016x}.npy", tmp_path / "usual_[A]_notes.npy"]
    for number, path in enumerate([*others, *paths]):
        path.write_text("x")
        os.utime(path, (number, number))
    note_use(paths[0])  # the oldest by its time, but in use
    kept = [paths[0], *paths[-(KEPT - 1) :]]
    assert names(tmp_path) == sorted(path.name for path in [*others, *kept])
