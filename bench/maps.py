"""What the maps of months of forecasts take: `python bench/maps.py --days 200`.

Full-size frames are drawn as they are asked for, so that what is measured is the sums, the maps and
their pictures, and not a store. Prints one line: windows, seconds, peak resident memory.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from pipeline.catalog import read_edition
from pipeline.forecasters import MovingAverage, Zeros
from pipeline.maps.dataset import model_maps, open_maps, pair_maps, save_maps
from pipeline.maps.drawing import Painter
from pipeline.maps.scales import THEMES, common_scales
from pipeline.maps.sums import sum_errors
from pipeline.sources.clips import Clip
from pipeline.windows import Cut, WindowPlan

ACTIVE = 0.077
"""Share of active cells and frames, as in the synthetic cities."""


@dataclass(frozen=True)
class Drawn:
    """Windows of full-size noise in the cells of a fixed city."""

    store: SimpleNamespace
    windows: WindowPlan

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int) -> Clip:
        window = self.windows[index]
        edition = self.store.edition
        rng = np.random.default_rng(index)
        steps = window.history + len(window.leads)
        frames = rng.integers(1, 256, (steps, *edition.frame_shape), dtype=np.uint8)
        active = rng.random(frames.shape[:3], dtype=np.float32) < ACTIVE
        frames = np.moveaxis(frames * active[..., None], -1, -3)
        return Clip(frames[: window.history], frames[window.history :], window)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--days", type=int, default=200)
    parser.add_argument("--stride", type=int, default=72, help="Frames between windows.")
    chosen = parser.parse_args()
    edition = read_edition("traffic4cast2019")
    city = edition.city("Berlin")
    first = date(2018, 1, 1)
    days = tuple(edition.written(first + timedelta(days=n)) for n in range(chosen.days))
    cut = Cut(edition.frames_per_day, 9, edition.leads, chosen.stride)
    source = Drawn(SimpleNamespace(edition=edition, city=city), WindowPlan(city.name, days, cut))
    start = time.perf_counter()
    sums = sum_errors(source, {"zeros": Zeros(), "window_mean": MovingAverage()})
    summed = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        one = save_maps(root / "one.nc", model_maps(sums, "window_mean", "zeros"))
        two = save_maps(root / "two.nc", pair_maps(sums, "window_mean", "zeros"))
        with open_maps(one) as maps, open_maps(two) as pair:
            painter = Painter(THEMES["light"], common_scales([maps], [pair]))
            for kind in ("mse", "bias", "skill", "activity", "by_hour"):
                painter.draw(kind, root / f"{kind}.png", maps)
            painter.draw("difference", root / "difference.png", pair)
        size = one.stat().st_size
    end = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    used = resource.getrusage(resource.RUSAGE_SELF)
    sys.stdout.write(
        f"{sums.windows} windows of {len(sums.days)} days, 2 models, {edition.height} x "
        f"{edition.width}: {summed - start:.0f} s to sum, {end - summed:.0f} s for maps and 6 "
        f"pictures, {used.ru_utime + used.ru_stime:.0f} CPU-s, peak {peak:.0f} MB, "
        f"netCDF {size / 1e6:.0f} MB\n"
    )


if __name__ == "__main__":
    main()
