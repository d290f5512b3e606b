"""Where a city is hard: the mean squared error of each cell, as numbers and as pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pipeline.atomic import whole_file
from pipeline.forecasters import Forecaster
from pipeline.grid import Grid
from pipeline.layout import to_heatmap, to_model
from pipeline.metrics import squared_error
from pipeline.sources.traffic import TrafficSource


@dataclass(frozen=True, slots=True, eq=False)
class ErrorMap:
    """The mean squared error of one model over a city, cell by cell.

    Attributes:
        grid: The city's cells.
        model: Whose errors.
        mse: `(H, W)` on the edition's score scale, the mean over windows, leads and channels; its
            own mean is the score.
        active: `(H, W)` cells that were ever not zero in the truth.
        windows: How many windows it is the mean of.
    """

    grid: Grid
    model: str
    mse: NDArray[np.float64]
    active: NDArray[np.bool_]
    windows: int


def map_errors(
    source: TrafficSource,
    model: Forecaster,
    name: str,
    *,
    progress: Callable[[str], None] | None = None,
) -> ErrorMap:
    """Return the error map of a model over the windows of a city, window by window."""
    edition = source.store.edition
    sums = np.zeros((edition.height, edition.width), np.int64)
    active = np.zeros_like(sums, bool)
    entries = 1
    for index in range(len(source)):
        clip = source[index]
        entries = len(clip.where.leads) * edition.forecast_channels
        history = to_model(np.moveaxis(clip.history, -3, -1))[None]
        forecast = to_heatmap(model.forecast(history, [clip.where])[0])
        truth = np.moveaxis(clip.future, -3, -1)
        scored = np.s_[..., : edition.forecast_channels]
        sums += squared_error(forecast[scored], truth[scored]).sum(axis=(0, 3), dtype=np.int64)
        active |= truth.any(axis=(0, 3))
        if progress is not None:
            progress(clip.where.day)
    mse = sums / max(1, len(source) * entries) / edition.score_scale**2
    grid = Grid.of(edition, source.store.city)
    return ErrorMap(grid, name, np.asarray(mse), active, len(source))


def to_dataset(errors: ErrorMap) -> xr.Dataset:
    """Return a map as a labelled Dataset: `mse` and `active` on `(y, x)` with degrees."""
    lat, lon = ("x", "y") if errors.grid.city.rotated else ("y", "x")
    return xr.Dataset(
        {"mse": (("y", "x"), errors.mse), "active": (("y", "x"), errors.active.astype(np.int8))},
        coords={
            "latitude": (lat, errors.grid.latitudes()),
            "longitude": (lon, errors.grid.longitudes()),
        },
        attrs={
            "city": errors.grid.city.name,
            "model": errors.model,
            "windows": errors.windows,
        },
    )


def save_map(path: Path, errors: ErrorMap) -> Path:
    """Write a map as netCDF-4, whole."""
    with whole_file(path) as partial:
        to_dataset(errors).to_netcdf(partial, engine="h5netcdf")
    return path


def north_up(errors: ErrorMap, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return `(H, W)` values of a map with north up and west left, rotated cities turned back."""
    return values.T[:, ::-1] if errors.grid.city.rotated else values


def draw_maps(folder: Path, maps: Sequence[ErrorMap]) -> list[Path]:
    """Draw each map as `<city>_<model>.png`, all on one colour scale; cells never active are blank.

    The scale is logarithmic, from the lower quartile to the largest error of any active cell: a few
    arterials hold most of the error, and the rest of the city should still be seen.
    """
    seen = np.concatenate([m.mse[m.active & (m.mse > 0)] for m in maps] or [np.ones(1)])
    top = float(seen.max()) if seen.size else 1.0
    low = max(float(np.quantile(seen, 0.25)) if seen.size else top, top * 1e-4)
    norm = LogNorm(vmin=min(low, top / 2), vmax=top)
    return [_draw(folder / f"{m.grid.city.name}_{m.model}.png", m, norm) for m in maps]


def _draw(path: Path, errors: ErrorMap, norm: LogNorm) -> Path:
    box = errors.grid.city
    narrow = np.cos(np.deg2rad((box.lat_min + box.lat_max) / 2))
    shape = (box.lon_max - box.lon_min) * narrow / (box.lat_max - box.lat_min)
    figure = Figure(figsize=(5.4 * shape + 2.3, 6.4), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    shown = np.ma.masked_where(~errors.active, np.maximum(errors.mse, norm.vmin or 0))
    image = axes.imshow(
        north_up(errors, shown),
        extent=(box.lon_min, box.lon_max, box.lat_min, box.lat_max),
        aspect=1 / narrow,
        norm=norm,
        cmap="inferno_r",
        interpolation="nearest",
    )
    axes.set_facecolor("#f4f4f2")
    axes.set_title(f"{box.name}: {errors.model}, MSE {errors.mse.mean() * 1e3:.3f} × 10⁻³")
    axes.set_xlabel("longitude, °")
    axes.set_ylabel("latitude, °")
    axes.ticklabel_format(useOffset=False)
    axes.tick_params(labelsize=8)
    bar = figure.colorbar(image, ax=axes, shrink=0.85)
    bar.set_label(f"mean squared error of a cell over {errors.windows} windows")
    axes.locator_params(nbins=6)
    with whole_file(path) as partial:
        figure.savefig(partial, format="png", metadata={"Software": None})
    return path
