"""One run at a time: who is refused is told whom it waits for, and the dead hold nothing."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from crevnet.folder_lock import FolderInUseError, FolderLock
from flows.cli import app
from pipeline import alone as alone_room
from pipeline.alone import alone
from pipeline.errors import ChangedError, InUseError, OutputError
from pipeline.forecasters import Persistence
from pipeline.ingest import ingest_city
from pipeline.store import Store
from pipeline.submission import write_submission
from tests.conftest import ROOT
from tests.world import HISTORY, NORTH_UP, TINY, VALIDATION

HOLD = """
import sys, time
from pathlib import Path
from pipeline.alone import alone
with alone(Path(sys.argv[1]), Path(sys.argv[2]), "ingest"):
    print("held", flush=True)
    time.sleep(600)
"""


def holder(lock, target):
    """Another process that holds a target."""
    command = [sys.executable, "-c", HOLD, str(lock), str(target)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout.readline() == "held\n"
    return process


def test_who_is_refused_is_told_who_where_since_when_and_what_to_do(tmp_path):
    lock, target = tmp_path / ".x.lock", tmp_path / "x"
    process = holder(lock, target)
    try:
        with pytest.raises(InUseError) as refusal, alone(lock, target, "submit"):
            pytest.fail("held twice")
        said = str(refusal.value)
        assert said.startswith(f"{target}: another run is at work here: `ingest`, ")
        assert f"process {process.pid} on {socket.gethostname()}, since 20" in said
        assert "wait for it or stop it" in said
    finally:
        process.kill()
        process.wait()
    assert lock.exists()  # a killed run leaves its note, which is no lock
    with alone(lock, target, "submit"):
        assert json.loads(lock.read_text())["process"] == os.getpid()
    assert list(tmp_path.iterdir()) == []


def test_a_fork_neither_holds_nor_frees_what_its_parent_holds(tmp_path):
    lock = tmp_path / ".x.lock"
    reading, writing = os.pipe()
    child = 0
    try:
        with alone(lock, tmp_path / "x", "ingest"):
            child = os.fork()
            if not child:
                os.read(reading, 1)  # outlives the parent's hold
                os._exit(0)
            with pytest.raises(InUseError), alone(lock, tmp_path / "x", "ingest"):
                pass
        with alone(lock, tmp_path / "x", "ingest"):  # though the child is still there
            assert lock.exists()
    finally:
        os.write(writing, b"x")
        os.waitpid(child, 0)


def test_the_end_of_a_fork_inside_a_hold_leaves_it_to_the_parent(tmp_path):
    lock = tmp_path / ".x.lock"
    with alone(lock, tmp_path / "x", "ingest"):
        child = os.fork()
        if not child:
            held = alone_room._held.copy()
            os._exit(0 if not held else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert lock.exists()


def test_a_note_that_says_nothing_is_no_fault(tmp_path):
    lock = tmp_path / ".x.lock"
    with alone(lock, tmp_path / "x", "ingest"):
        lock.write_text("[1")
        with (
            pytest.raises(InUseError, match="has not said which"),
            alone(lock, tmp_path / "x", "a"),
        ):
            pass


def test_where_there_are_no_locks_nobody_is_kept_out(tmp_path, monkeypatch):
    def no_locks(descriptor, how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(alone_room.fcntl, "flock", no_locks)
    lock = tmp_path / ".x.lock"
    with alone(lock, tmp_path / "x", "a"), alone(lock, tmp_path / "x", "b"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_many_runs_at_once_are_never_two(tmp_path):
    """Each adds to a counter while it holds; a lost update would be two at once."""
    code = (
        "import sys, time\nfrom pathlib import Path\n"
        "from pipeline.alone import alone\nfrom pipeline.errors import InUseError\n"
        "folder, done = Path(sys.argv[1]), 0\n"
        "while done < 40:\n"
        "    try:\n"
        "        with alone(folder / '.x.lock', folder, 'count'):\n"
        "            n = int((folder / 'n').read_text())\n"
        "            time.sleep(0.0005)\n"
        "            (folder / 'n').write_text(str(n + 1))\n"
        "        done += 1\n"
        "    except InUseError:\n"
        "        time.sleep(0.001)\n"
    )
    (tmp_path / "n").write_text("0")
    command = [sys.executable, "-c", code, str(tmp_path)]
    runs = [subprocess.Popen(command, cwd=ROOT) for _ in range(3)]
    assert [run.wait(120) for run in runs] == [0, 0, 0]
    assert (tmp_path / "n").read_text() == "120"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["n"]


def test_a_second_ingest_is_refused_and_the_other_city_goes_on(world):
    process = holder(world.store / ".Aal.lock", world.store / "Aal")
    try:
        said = CliRunner().invoke(app, ["ingest", str(world.config)])
        assert said.exit_code == 1
        assert re.search(rf"Aal: .*another run .*process {process.pid} on", said.output)
        assert "Bex: 7 days ingested" in said.output
        assert not (world.store / "Aal").exists()
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    said = CliRunner().invoke(app, ["ingest", str(world.config)])
    assert said.exit_code == 0, said.output
    assert "Aal: 7 days ingested" in said.output
    assert sorted(p.name for p in world.store.iterdir()) == ["Aal", "Bex"]


def test_a_training_that_is_refused_is_told_by_whom(tmp_path):
    lock = FolderLock(tmp_path)
    began = time.strftime("%Y-%m-%dT%H", time.gmtime())
    said = rf"in use by another process \(process {os.getpid()} on .*, since {began}"
    with pytest.raises(FolderInUseError, match=said):
        FolderLock(tmp_path)
    lock.let_go()
    FolderLock(tmp_path).let_go()


def test_a_lock_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(OutputError, match=r"\.x\.lock: cannot be written: a part of its path"),
        alone(tmp_path / "file" / ".x.lock", tmp_path / "x", "ingest"),
    ):
        pass


def test_a_day_ingested_anew_under_a_submission_is_noticed(ingested, tmp_path):
    """Its forecasts would be of both: the run ends by name, and the next starts afresh."""
    stores = [Store.open(ingested.store, TINY, city) for city in TINY.cities]

    class Meddles(Persistence):
        def forecast(self, history, windows):
            manifest = ingested.store / "Aal" / "manifest.json"
            value = json.loads(manifest.read_text())
            value["days"][-1]["stored_sha256"] = "another"
            manifest.write_text(json.dumps(value))
            return super().forecast(history, windows)

    target = tmp_path / "s.zip"
    with pytest.raises(ChangedError, match=r"Aal \['20180107'\] changed while"):
        write_submission(target, stores, lambda city: Meddles(), identity="m", history=HISTORY)
    assert not target.exists()


def test_days_that_arrive_under_a_submission_are_no_fault(ingested):
    store = Store.open(ingested.store, TINY, NORTH_UP)
    kept = [day for day in store.manifest.days if day.day not in VALIDATION]
    fewer = Store(store.root, TINY, NORTH_UP, replace(store.manifest, days=tuple(kept)))
    fewer.check_unchanged()
    assert ingest_city(ingested.release, TINY, NORTH_UP, ingested.store, workers=0).ingested == ()


@pytest.mark.parametrize("sticky", [False, True])
def test_a_lock_that_another_user_left_is_taken_over(tmp_path, monkeypatch, sticky):
    """It may be read and not written; in a folder like /tmp not be taken away either."""
    lock, target = tmp_path / ".x.lock", tmp_path / "x"
    lock.write_text("theirs")
    opened = os.open

    def denied(path, flags, *rest, **options):
        if flags & os.O_RDWR and lock.exists() and lock.read_text() == "theirs":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return opened(path, flags, *rest, **options)

    def stays(self, *args, **options):
        raise PermissionError(errno.EPERM, "Operation not permitted", str(self))

    monkeypatch.setattr(os, "open", denied)
    if sticky:
        monkeypatch.setattr(type(lock), "unlink", stays)
    with alone(lock, target, "ingest"):
        assert (lock.read_text() == "theirs") == sticky
        with pytest.raises(InUseError, match="another run"), alone(lock, target, "submit"):
            pytest.fail("held twice")
    assert lock.exists() == sticky


def test_a_folder_that_may_not_be_written_is_no_lock_of_another_user(tmp_path, monkeypatch):
    def denied(path, flags, *rest, **options):
        if flags & os.O_CREAT:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(path))

    monkeypatch.setattr(os, "open", denied)
    with (
        pytest.raises(OutputError, match=r"\.x\.lock: cannot be written: its folder"),
        alone(tmp_path / ".x.lock", tmp_path / "x", "ingest"),
    ):
        pytest.fail("held")
