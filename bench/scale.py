"""What a full edition, a hundred cities and minutes instead of fives would take, on paper.

    python bench/scale.py [--days 3] [--gzip 4] [--json rates.json] [--rates rates.json]

Measures rates on full-size synthetic days (495 x 436 x 3) in seconds of CPU on one core: ingest,
climatology, the naive mix scored and mapped, and what each leaves on disk. Network costs are
counted, not measured (`t4c models`). Then multiplies, and says what breaks first. The speed of a
GPU, prices and the length of a training are assumptions, printed as such, each an option.
`--json` keeps the rates, `--rates` computes the table from them anew, without measuring.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

import numpy as np

from crevnet.cost import cost
from crevnet.zoo import configure
from pipeline.catalog import day_path, read_edition
from pipeline.climatology import GROUPS, day_sums
from pipeline.heatmaps import write_frames
from pipeline.ingest import ingest_city
from pipeline.maps.sums import sum_errors
from pipeline.mix import fit_mix
from pipeline.scoring import score_windows
from pipeline.sources import TrafficSource
from pipeline.store import Store
from pipeline.synthetic import draw_day, encode
from pipeline.windows import Cut, WindowPlan

SCENARIOS = {
    "one city, a month": (1, 30, 288),
    "a full edition": (3, 364, 288),
    "100 cities": (100, 364, 288),
    "a full edition, 1-minute bins": (3, 364, 1440),
}
DAYS = ("20180108", "20180109", "20180110", "20180111", "20180112")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--days", type=int, default=3, help="drawn to measure on, 3 to 5")
    parser.add_argument("--gzip", type=int, default=4, help="of the release's files")
    parser.add_argument("--json", type=Path, help="where to keep the rates")
    parser.add_argument("--rates", type=Path, help="rates kept before, instead of measuring")
    parser.add_argument("--workers", type=int, default=16, help="processes that ingest")
    parser.add_argument("--stride", type=int, default=9, help="frames between training windows")
    parser.add_argument("--epochs", type=float, default=1.0, help="passes over the windows")
    parser.add_argument(
        "--teraflops", type=float, default=20.0, help="assumed, of a GPU, sustained"
    )
    parser.add_argument("--gpu-price", type=float, default=2.5, help="assumed, $ an hour")
    parser.add_argument("--core-price", type=float, default=0.04, help="assumed, $ an hour")
    parser.add_argument("--disk-price", type=float, default=0.08, help="assumed, $ a GB and month")
    options = parser.parse_args()
    if options.rates:
        rates = json.loads(options.rates.read_text())
    else:
        with tempfile.TemporaryDirectory() as folder:
            rates = measure(Path(folder), options.days, options.gzip)
    rates["network"] = networks()
    if options.json:
        options.json.write_text(json.dumps(rates, indent=1) + "\n")
    print(said(rates))
    print(table(rates, options))
    print(breaks(rates, options))


def cpu() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def measure(folder: Path, days: int, gzip: int) -> dict:
    edition = read_edition("traffic4cast2019")
    city, release, root = edition.cities[0], folder / "release", folder / "store"
    files = []
    for number, day in enumerate(DAYS[:days]):
        print(f"drawing {day} ...", file=sys.stderr)
        frames = encode(draw_day(edition, city, date(2018, 1, 8 + number), seed=7), edition)
        files.append(day_path(release, edition, city, "training", day))
        write_frames(files[-1], frames, gzip=gzip)
    clock, used = time.perf_counter(), cpu()
    assert len(ingest_city(release, edition, city, root, workers=0).ingested) == days
    ingest, wall = (cpu() - used) / days, (time.perf_counter() - clock) / days
    store = Store.open(root, edition, city)
    used = cpu()
    for day in DAYS[:days]:
        day_sums(store, day, "hour")
    usual = (cpu() - used) / days
    cut = Cut(edition.frames_per_day, 9, edition.leads, 9)
    used = cpu()
    mix = fit_mix(store, DAYS[:days], cut, workers=1)
    fit = (cpu() - used) / days
    source = TrafficSource(store, WindowPlan(city.name, DAYS[:1], cut))
    used = cpu()
    score_windows(source, {"mix": mix})
    scored = (cpu() - used) / len(source)
    used = cpu()
    sum_errors(source, {"mix": mix})
    mapped = (cpu() - used) / len(source)
    manifest = root / city.name / "manifest.json"
    return {
        "day_nonzero": round(float((frames > 0).mean()), 4),
        "release_MB_a_day": sum(file.stat().st_size for file in files) / days / 1e6,
        "store_MB_a_day": sum(day.stored_bytes for day in store.manifest.days) / days / 1e6,
        "manifest_kB_a_day": manifest.stat().st_size / days / 1e3,
        "ingest_cpu_s_a_day": ingest,
        "ingest_wall_s_a_day": wall,
        "climatology_cpu_s_a_day": usual,
        "mix_cpu_s_a_day": fit,
        "score_cpu_s_a_window": scored,
        "maps_cpu_s_a_window": mapped,
    }


def networks() -> dict:
    """Multiply-accumulates of one full-size forecast, 9 frames in and 3 out."""
    size = {"history": 9, "horizon": 3, "height": 495, "width": 436}
    shape = {"channels": 3, "history": 9, "horizon": 3}
    return {
        name: cost(configure(name, **shape), **size).multiply_accumulates
        for name in ("small_traffic_2d", "traffic4cast_2d", "traffic4cast_3d")
    }


def rows(rates: dict, options: argparse.Namespace) -> dict[str, dict[str, float]]:
    found = {}
    for name, (cities, days, frames) in SCENARIOS.items():
        finer, total = frames / 288, cities * days
        windows = total * ((frames - 12) // options.stride + 1) * options.epochs
        operations = 6 * windows  # a multiply-accumulate is two, a step is three forecasts
        gpu = {
            network: operations * macs / (options.teraflops * 1e12) / 3600
            for network, macs in rates["network"].items()
        }
        store = total * finer * rates["store_MB_a_day"] / 1e3
        release = total * finer * rates["release_MB_a_day"] / 1e3
        ingest = total * finer * rates["ingest_cpu_s_a_day"] / 3600
        fit = total * finer * rates["mix_cpu_s_a_day"] / 3600
        found[name] = {
            "days of a city": total,
            "release, GB": release,
            "store, GB": store,
            "ingest, core hours": ingest,
            f"ingest, hours on {options.workers} cores": ingest / options.workers,
            "mix and climatology, core hours": fit,
            "training windows": windows,
            **{f"{network}, GPU hours": hours for network, hours in gpu.items()},
            "disk, $ a month": (store + release) * options.disk_price,
            "ingest and fit, $": (ingest + fit) * options.core_price,
            **{f"{n}, $": hours * options.gpu_price for n, hours in gpu.items()},
        }
    return found


def table(rates: dict, options: argparse.Namespace) -> str:
    found = rows(rates, options)
    lines = ["| | " + " | ".join(found) + " |", "|---" * (len(found) + 1) + "|"]
    lines += [
        f"| {what} | " + " | ".join(short(row[what]) for row in found.values()) + " |"
        for what in next(iter(found.values()))
    ]
    return "\n".join(lines) + "\n"


def breaks(rates: dict, options: argparse.Namespace) -> str:
    """What grows faster than the data, or has a wall, by scenario."""
    frame = 495 * 436 * 3
    sums = GROUPS["weekday"] * frame * 4
    lines = [
        "| | " + " | ".join(SCENARIOS) + " |",
        "|---" * (len(SCENARIOS) + 1) + "|",
    ]
    cells: dict[str, list[str]] = {
        "sums by weekday and hour in memory while one city is fitted, GB": [],
        "the same kept on disk, all cities, GB": [],
        "manifest bytes written in a first ingest, all cities, GB": [],
        "frames of one day in memory while it is ingested or added up, GB": [],
        "validation (a tenth of the days) scored, mix, core hours": [],
        "the same mapped, one core a city, hours": [],
    }
    for cities, days, frames in SCENARIOS.values():
        windows = days / 10 * ((frames - 12) // 9 + 1)
        written = rates["manifest_kB_a_day"] * 1e3 * days * (days + 1) / 2
        values = (
            sums / 1e9,
            cities * sums / 1e9,
            cities * written / 1e9,
            frames * frame / 1e9,
            cities * windows * rates["score_cpu_s_a_window"] / 3600,
            windows * rates["maps_cpu_s_a_window"] / 3600,
        )
        for what, value in zip(cells, values, strict=True):
            cells[what].append(short(value))
    return "\n".join(lines + [f"| {what} | " + " | ".join(v) + " |" for what, v in cells.items()])


def said(rates: dict) -> str:
    plain = {name: value for name, value in rates.items() if name != "network"}
    lines = [f"* {name.replace('_', ' ')}: {short(value)}" for name, value in plain.items()]
    lines += [
        f"* {name}, multiply-accumulates of a forecast: {macs / 1e9:,.0f} G"
        for name, macs in rates["network"].items()
    ]
    return "\n".join(lines) + "\n"


def short(value: float) -> str:
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if np.isfinite(value) else "-"


if __name__ == "__main__":
    main()
