"""From real GPS fixes to a score, against a plain loop that shares no code with the pipeline."""

from __future__ import annotations

import math
from collections import Counter, defaultdict

import numpy as np
import pandas as pd
import pytest

from pipeline.catalog import read_edition
from pipeline.forecasters import MovingAverage, Persistence, Zeros
from pipeline.ingest import ingest_city
from pipeline.probes.rasterise import rasterise
from pipeline.probes.settings import Rasterising
from pipeline.scoring import score_windows
from pipeline.sources import TrafficSource
from pipeline.store import Store
from pipeline.windows import Window

FIRST = 18 * 12  # 18:00, local time


@pytest.fixture(scope="module")
def fixes(shared):
    """Forty minutes of taxis: a half hour, and the ten minutes before it for the first steps."""
    path = shared / "sf_taxi" / "2008-06-01.parquet"
    if not path.exists():
        pytest.skip(f"no {path}")
    table = pd.read_parquet(path)
    local = table["time"].dt.tz_convert("America/Los_Angeles")
    inside = (local >= "2008-05-31 17:50") & (local < "2008-05-31 18:30")
    return table[inside]


def plain_frames(fixes):
    """Six frames `(6, 128, 128, 3)` of 2019 bytes, a fix at a time."""
    east = 111_320 * math.cos(math.radians((37.681 + 37.809) / 2))
    seen, last = defaultdict(list), {}
    for row in fixes.sort_values(["vehicle", "time"]).itertuples():
        now, before = row.time.timestamp(), last.get(row.vehicle)
        last[row.vehicle] = (now, row.latitude, row.longitude)
        if before is None or not 0 < now - before[0] <= 180:
            continue
        dy, dx = (row.latitude - before[1]) * 111_320, (row.longitude - before[2]) * east
        kmh = math.hypot(dx, dy) / (now - before[0]) * 3.6
        y = 127 - (round(row.latitude * 1e7) - 376_810_000) // 10_000
        x = (round(row.longitude * 1e7) + 1_225_100_000) // 10_000
        if kmh >= 130 or not (0 <= y < 128 and 0 <= x < 128):
            continue
        angle = math.degrees(math.atan2(dx, dy)) % 360  # clockwise from north; standing is north
        local = row.time.tz_convert("America/Los_Angeles")
        frame = (local.hour * 60 + local.minute) // 5 - FIRST
        if 0 <= frame < 6:
            seen[frame, y, x].append((kmh, ["NE", "SE", "SW", "NW"][int(angle // 90)]))
    frames = np.zeros((6, 128, 128, 3), np.uint8)
    for place, steps in seen.items():
        votes = Counter(quadrant for _, quadrant in steps)
        heading = max(["NE", "SE", "SW", "NW"], key=lambda q: votes[q])  # the first of the most
        speed = sum(kmh for kmh, _ in steps) / len(steps) * 255 / 120
        code = {"NE": 85, "SE": 255, "SW": 170, "NW": 1}[heading]
        frames[place] = min(8 * len(steps), 255), min(max(round(speed), 1), 255), code
    return frames


def test_a_real_half_hour_from_fixes_to_scores_equals_a_plain_loop(fixes, tmp_path):
    edition = read_edition("sf_taxi")
    city = edition.cities[0]
    fixes.to_parquet(tmp_path / "fixes.parquet")
    settings = Rasterising(points=(str(tmp_path / "fixes.parquet"),))
    report = rasterise(edition, city, settings, tmp_path / "release")
    assert report.read == len(fixes) == report.used + sum(report.dropped.values())
    ingest_city(tmp_path / "release", edition, city, tmp_path / "store", workers=0)
    store = Store.open(tmp_path / "store", edition, city)

    expected = plain_frames(fixes)
    assert (expected[..., 0] > 0).sum() > 2000
    np.testing.assert_array_equal(store.read("20080531", FIRST, FIRST + 6), expected)

    window = Window(city.name, "20080531", FIRST, history=3)
    models = {"zeros": Zeros(), "last": Persistence(), "mean": MovingAverage()}
    errors = score_windows(TrafficSource(store, [window]), models)
    says = {
        "zeros": np.zeros((128, 128, 3)),
        "last": expected[2],
        "mean": np.rint(expected[:3].mean(axis=0, dtype=np.float32)),
    }
    for name, frame in says.items():
        differences = [(float(a) - float(b)) ** 2 for a, b in zip(
            np.stack([frame] * 3).ravel(), expected[3:].ravel(), strict=True)]  # fmt: skip
        score = math.fsum(differences) / len(differences) / 255**2
        assert errors.leaderboard()[name] == pytest.approx(score, rel=1e-14)
