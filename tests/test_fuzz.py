"""Random damage to a valid file: an error or frames of the right shape, never anything else."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest

from pipeline.archive import Member, read_member, reader_memory
from pipeline.atomic import _alive
from pipeline.errors import PipelineError
from pipeline.heatmaps import open_frames, write_frames
from pipeline.quarantine import MEMORY_BYTES, Quarantine
from tests.conftest import ROOT
from tests.world import NORTH_UP, TINY, draw_day

CASES = 500


def read_shape(path: Path) -> tuple[tuple[int, ...], str, int]:
    """Read a file to its end, slab by slab; say what came."""
    with open_frames(path, TINY.day_shape) as frames:
        rows = np.concatenate([slab for _, slab in frames.slabs()])
    return rows.shape, str(rows.dtype), int(rows.sum(dtype=np.int64))


def variants(folder: Path) -> list[bytes]:
    """The same day as three writers leave it: chunked, plain and old-fashioned."""
    day = draw_day(NORTH_UP, "20180101")
    gzip = write_frames(folder / "gzip.h5", day)
    files = [gzip]
    for name, options in {
        "plain": {},
        "lzf": {"chunks": (7, 5, 3, 2), "compression": "lzf"},
    }.items():
        with h5py.File(folder / f"{name}.h5", "w", libver="earliest") as file:
            file.create_dataset("array", data=day.astype(np.int16), **options)
        files.append(folder / f"{name}.h5")
    return [path.read_bytes() for path in files]


@pytest.mark.timeout(900)
def test_flipped_bits_never_hang_crash_or_misshape(tmp_path):
    rng = np.random.default_rng(20181)
    whole = variants(tmp_path)
    read = refused = 0
    with Quarantine(read_shape, workers=2, timeout=60, memory=MEMORY_BYTES) as quarantine:
        for case in range(CASES):
            data = np.frombuffer(whole[case % len(whole)], np.uint8).copy()
            # half of the cases aim at the metadata, which fills the first kilobytes
            reach = len(data) if case % 2 else min(len(data), 3000)
            places = rng.integers(0, reach, rng.integers(1, 17))
            data[places] ^= (1 << rng.integers(0, 8, len(places))).astype(np.uint8)
            path = tmp_path / f"case{case}.h5"
            path.write_bytes(data.tobytes())
            try:
                shape, dtype, _ = quarantine(path)
            except PipelineError:
                refused += 1
            else:
                assert (shape, dtype) == (TINY.day_shape, "uint8")
                read += 1
            path.unlink()
    assert read + refused == CASES
    assert refused > CASES / 5, "damage that is hardly ever noticed is no damage"
    assert read > 0


def crash(path: Path) -> None:
    import os
    import signal

    os.kill(os.getpid(), signal.SIGSEGV)


def tell(path: Path) -> None:
    import os
    import time

    partial = path.with_suffix(".partial")
    partial.write_text(str(os.getpid()))
    partial.rename(path)
    time.sleep(60)


def hang(path: Path) -> None:
    import time

    time.sleep(60)


def swell(path: Path) -> int:
    return int(np.ones(2 * MEMORY_BYTES, np.uint8).sum())


def test_workers_do_not_outlive_the_process_they_work_for(tmp_path):
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from threading import Thread\n"
        "from pipeline.quarantine import Quarantine\n"
        "from tests.test_fuzz import tell\n"
        "if __name__ == '__main__':\n"
        "    with Quarantine(tell, workers=1) as quarantine:\n"
        "        Thread(target=quarantine, args=(Path(sys.argv[1]),), daemon=True).start()\n"
        "        while not Path(sys.argv[1]).exists(): pass\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    script, told = tmp_path / "parent.py", tmp_path / "pid"
    script.write_text(code)
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, str(script), str(told)], env=env, timeout=60, check=False)
    deadline = time.monotonic() + 10
    while _alive(int(told.read_text())):
        assert time.monotonic() < deadline, "the worker lives on"
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("misdeed", "said"), [(crash, "crashed"), (hang, "hung for 2 s"), (swell, "memory")]
)
def test_a_job_that_dies_is_one_named_error(tmp_path, misdeed, said):
    with (
        Quarantine(misdeed, workers=1, timeout=2 if misdeed is hang else 60) as quarantine,
        pytest.raises(PipelineError, match=said),
    ):
        quarantine(tmp_path)


def deflate_bomb(path: Path, shape: tuple[int, ...], size: int) -> Path:
    """A chunk that says it is of a shape and unpacks to `size` bytes."""
    pack = zlib.compressobj(9)
    head = pack.compress(bytes(1024**2)) + pack.flush(zlib.Z_FULL_FLUSH)
    piece = pack.compress(bytes(1024**2)) + pack.flush(zlib.Z_FULL_FLUSH)
    with h5py.File(path, "w") as file:
        data = file.create_dataset("array", shape, np.uint8, chunks=shape, compression="gzip")
        data.id.write_direct_chunk((0,) * len(shape), head + piece * (size // 1024**2))
    return path


def peak_of_reading(member: Member) -> tuple[str, int]:
    """Read a member; say what was wrong, and how much memory that took."""
    try:
        read_member(member)
        said = "nothing"
    except PipelineError as fault:
        said = str(fault)
    return said, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def test_a_small_member_does_not_swell_its_reader(tmp_path):
    shape = (2, 4, 11, 7, 3)
    path = deflate_bomb(tmp_path / "m.h5", shape, 12 * 1024**3)
    assert path.stat().st_size < 16 * 1024**2
    memory = reader_memory({"m.h5": shape})
    with Quarantine(peak_of_reading, workers=1, memory=memory) as quarantine:
        said, peak = quarantine(Member(tmp_path, "m.h5", shape))
    assert "m.h5: rows 0 to 2 unreadable" in said
    assert peak < memory < MEMORY_BYTES
