"""How fast windows come out of a store, and days into it, as ratios in one run.

    python bench/speed.py [--edition traffic4cast2019] [--days 4] [--windows 60] [--folder DIR]

Draws a full-size synthetic day, writes it as a release does (gzip 9, h5py's own chunks), and
compares, in seconds of CPU:

* random 12-frame windows from the store, from a raw copy (np.memmap) and from the release's file;
* ingesting the day with reading it whole through plain h5py;
* ingesting several days with one worker and with two, in wall time.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

import h5py
import numpy as np

from pipeline.catalog import DayFile, day_path, read_edition
from pipeline.heatmaps import write_frames
from pipeline.rechunk import DayJob, rechunk_day
from pipeline.store import Store
from pipeline.synthetic import draw_day, encode

LENGTH = 12
ROUNDS = 5


def cpu() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def timed(work) -> float:
    before = cpu()
    work()
    return cpu() - before


def windows(read, starts) -> float:
    def work():
        for start in starts:
            assert read(start).shape[0] == LENGTH

    return timed(work)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--edition", default="traffic4cast2019")
    parser.add_argument("--days", type=int, default=4)
    parser.add_argument("--windows", type=int, default=60)
    parser.add_argument("--folder", type=Path, default=None)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        print(json.dumps(measure(options, Path(folder)), indent=1))


def measure(options, folder: Path) -> dict:
    edition = read_edition(options.edition)
    city = edition.cities[0]
    release, store_root, raw = folder / "release", folder / "store", folder / "raw.npy"
    frames = encode(draw_day(edition, city, date(2018, 1, 9), seed=7), edition)
    first = day_path(release, edition, city, "training", "20180101")
    print("writing a release day with gzip 9 ...", file=sys.stderr)
    write_frames(first, frames)
    np.save(raw, frames)
    for number in range(2, options.days + 1):
        shutil.copy(first, day_path(release, edition, city, "training", f"201801{number:02d}"))

    source = DayFile(city.name, "training", "20180101", first)
    job = DayJob(edition, city, source, folder / "alone")
    bare, whole = [], []
    for _ in range(ROUNDS):
        bare.append(timed(lambda: h5py.File(first)["array"][...]))
        whole.append(timed(lambda: rechunk_day(job)))
    ratios = [a / b for a, b in zip(whole, bare, strict=True)]

    walls, peak = {}, 0.0
    for workers in (1, 2):
        shutil.rmtree(store_root, ignore_errors=True)
        before = time.perf_counter()
        code = (
            "import sys; from pathlib import Path\n"
            "from pipeline.catalog import read_edition\n"
            "from pipeline.ingest import ingest_city\n"
            "import resource\n"
            f"e = read_edition({options.edition!r})\n"
            "if __name__ == '__main__':\n"
            f"    r = ingest_city(Path({str(release)!r}), e, e.cities[0], "
            f"Path({str(store_root)!r}), workers={workers})\n"
            f"    assert len(r.ingested) == {options.days}, r\n"
        )
        script = folder / "ingest.py"
        script.write_text(code)
        peak = max(peak, tree_peak([sys.executable, str(script)]))
        walls[workers] = time.perf_counter() - before

    store = Store.open(store_root, edition, city)
    copy = np.load(raw, mmap_mode="r")
    with h5py.File(first) as file:
        dataset = file["array"]
        readers = {
            "store": lambda start: store.read("20180101", start, start + LENGTH),
            "memmap": lambda start: np.array(copy[start : start + LENGTH]),
            "release": lambda start: dataset[start : start + LENGTH],
        }
        rng = np.random.default_rng(0)
        costs: dict[str, list[float]] = {name: [] for name in readers}
        for _ in range(ROUNDS):
            starts = rng.integers(0, edition.frames_per_day - LENGTH + 1, options.windows)
            for name, read in readers.items():
                few = starts[:: 6 if name == "release" else 1]
                costs[name].append(windows(read, few) / len(few))
    megabytes = LENGTH * np.prod(edition.frame_shape) / 1e6

    def against(name: str) -> dict[str, float]:
        return spread([b / a for a, b in zip(costs["store"], costs[name], strict=True)])

    return {
        "machine": f"{os.cpu_count()} cores, Python {platform.python_version()}",
        "day": {
            "shape": list(frames.shape),
            "nonzero": round(float((frames > 0).mean()), 4),
            "release_MB": round(first.stat().st_size / 1e6, 1),
            "store_MB": round((store_root / store.manifest.days[0].file).stat().st_size / 1e6, 1),
        },
        "windows_MB_per_cpu_second": {
            n: round(megabytes / statistics.median(c)) for n, c in costs.items()
        },
        "store_over_release": against("release"),
        "store_over_memmap": against("memmap"),
        "ingest_over_bare_read_cpu": spread(ratios),
        "ingest_days": options.days,
        "ingest_wall_s": {f"{w} workers": round(s, 2) for w, s in walls.items()},
        "two_workers_speedup": round(walls[1] / walls[2], 2),
        "ingest_peak_rss_MB_all_processes": round(peak / 1e6),
    }


def spread(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    middle = statistics.median(ordered)
    return {"min": round(ordered[0], 3), "median": round(middle, 3), "max": round(ordered[-1], 3)}


def tree_peak(command: list[str]) -> float:
    """Run a command; return the largest sum of resident bytes of it and its children."""
    import psutil

    process = subprocess.Popen(command)
    watched, peak = psutil.Process(process.pid), 0.0
    while process.poll() is None:
        try:
            family = [watched, *watched.children(recursive=True)]
            peak = max(peak, float(sum(p.memory_info().rss for p in family)))
        except psutil.NoSuchProcess:
            pass
        time.sleep(0.02)
    if process.returncode:
        raise SystemExit(f"{command} failed")
    return peak


if __name__ == "__main__":
    main()
