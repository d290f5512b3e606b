"""Maps as labelled Datasets with latitude and longitude, and as netCDF files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pipeline.editions import City, Edition
from pipeline.grid import Grid
from pipeline.maps.days import false_discovery
from pipeline.maps.sums import AXES, WEEKDAYS, CitySums
from pipeline.sink import save_dataset

Values = NDArray[np.float64]


def model_maps(sums: CitySums, model: str, baseline: str | None = None) -> xr.Dataset:
    """Return the maps of one model.

    Variables, each on `(y, x)` and again, as float32 `NAME_by_AXIS`, on `(AXIS, y, x)` for every
    axis of `AXES`; NaN where no frame was forecast:
        mse: Mean squared error on the edition's score scale; the mean of the map is the score.
        bias: Mean of forecast minus truth on the same scale, before squaring.
        skill: `1 - mse / mse of the baseline`, if there is one; NaN where that is never wrong.

    Variables on `(y, x)`:
        active: Share of frames in which any channel of the cell was not 0.
        hits, misses, false_alarms: Shares of frames: active and forecast to be, active and not
            forecast to be, forecast to be and not active.

    Args:
        sums: Over the windows of a city.
        model: Whose.
        baseline: Against whom.
    """
    mine = sums.models[model]
    scale = sums.edition.score_scale
    data: dict[str, tuple[tuple[str, ...], Values]] = {}
    for axis in ("", *AXES):
        dims = (axis, "y", "x") if axis else ("y", "x")
        label = f"_by_{axis}" if axis else ""
        data[f"mse{label}"] = dims, _mean(sums, mine.squares, axis) / scale**2
        data[f"bias{label}"] = dims, _mean(sums, mine.differences, axis) / scale
        if baseline is not None:
            other = _mean(sums, sums.models[baseline].squares, axis) / scale**2
            data[f"skill{label}"] = dims, skill(data[f"mse{label}"][1], other)
    frames = max(1, int(sums.frames["lead"].sum()))
    counts = {"hits": mine.hits, "misses": mine.misses, "false_alarms": mine.alarms}
    shares = {"active": mine.hits + mine.misses, **counts}
    data |= {name: (("y", "x"), count / frames) for name, count in shares.items()}
    said = {"model": model, "baseline": baseline or ""}
    kept = {n: (d, v.astype(np.float32) if len(d) > 2 else v) for n, (d, v) in data.items()}
    return _labelled(sums, kept, said).assign(
        {f"frames_by_{axis}": (axis, counts) for axis, counts in sums.frames.items()}
    )


def pair_maps(sums: CitySums, one: str, other: str, discovery: float = 0.05) -> xr.Dataset:
    """Return where one model is better than another, and where that is more than chance.

    Variables, `(y, x)`:
        difference: Mean squared error of `one` minus that of `other`; below 0, `one` is better.
        p: Two-sided, of a paired t test over days; NaN with one day.
        believed: 1 where the difference is believed, so that of all such cells a share of
            `discovery` is expected to be chance. Only cells that were ever active are tested: in
            the others models differ by the same rounded trifle every day, and a test takes that
            for certainty.
        active: 1 where the cell was ever active.
    """
    days = sums.pairs[one, other]
    mine = sums.models[one]
    entries = int(sums.frames["lead"].sum()) * sums.edition.forecast_channels
    mse = days.mean * days.days / max(1, entries) / sums.edition.score_scale**2
    p = days.p_values()
    active = np.asarray((mine.hits + mine.misses) > 0)
    believed = false_discovery(np.where(active, p, np.nan), discovery)
    data: dict[str, NDArray[Any]] = {"difference": mse, "p": p}
    data |= {"believed": believed.astype(np.int8), "active": active.astype(np.int8)}
    said = {"model": one, "baseline": other, "false_discovery": discovery, "days": days.days}
    return _labelled(sums, {name: (("y", "x"), v) for name, v in data.items()}, said)


def skill(mse: Values, baseline: Values) -> Values:
    """Return `1 - mse / baseline`: 1 is perfect, 0 no better; NaN where the baseline is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(baseline > 0, 1 - mse / baseline, np.nan)


def save_maps(path: Path, maps: xr.Dataset) -> Path:
    """Write maps as netCDF-4, whole, compressed."""
    encoding = {name: {"zlib": True, "complevel": 4} for name in maps.data_vars if maps[name].ndim}
    return save_dataset(path, maps, encoding)


def _mean(sums: CitySums, parts: dict[str, NDArray[np.int64]], axis: str) -> Values:
    """Return the mean of sums over all that is not `axis`; over everything, for none."""
    channels = sums.edition.forecast_channels
    total = int(sums.frames["lead"].sum())
    if not axis:
        return np.asarray(parts["channel"].sum(axis=0) / max(1, total * channels))
    if axis == "channel":
        return np.asarray(parts[axis] / max(1, total))
    count = sums.frames[axis].astype(np.float64) * channels
    count[count == 0] = np.nan
    return np.asarray(parts[axis] / count[:, None, None])


def coordinates(edition: Edition, city: City) -> dict[str, xr.Variable]:
    """Return latitude and longitude of the cells' centres, each on the dimension it runs along.

    In a rotated city latitude runs along x and longitude along y.
    """
    grid = Grid.of(edition, city)
    lat, lon = ("x", "y") if city.rotated else ("y", "x")
    north = {"units": "degrees_north", "standard_name": "latitude"}
    east = {"units": "degrees_east", "standard_name": "longitude"}
    return {
        "latitude": xr.Variable(lat, grid.latitudes(), north),
        "longitude": xr.Variable(lon, grid.longitudes(), east),
    }


def _labelled(
    sums: CitySums,
    data: Mapping[str, tuple[tuple[str, ...], NDArray[Any]]],
    said: Mapping[str, object],
) -> xr.Dataset:
    edition, city = sums.edition, sums.city
    ahead = [(lead + 1) * edition.bin_minutes for lead in edition.leads]
    labels = {
        "channel": list(edition.channels[: edition.forecast_channels]),
        "lead": xr.Variable("lead", ahead, {"units": "minutes", "long_name": "end of the frame"}),
        "hour": xr.Variable("hour", range(24), {"long_name": "local hour of the frame forecast"}),
        "weekday": list(WEEKDAYS),
    }
    used = {dim for dims, _ in data.values() for dim in dims}
    return xr.Dataset(
        data,
        coords={
            **coordinates(edition, city),
            **{name: values for name, values in labels.items() if name in used},
        },
        attrs={
            "Conventions": "CF-1.8",
            "edition": edition.name,
            "city": city.name,
            "box": [city.lat_min, city.lat_max, city.lon_min, city.lon_max],
            "rotated": int(city.rotated),
            "score_scale": edition.score_scale,
            "windows": sums.windows,
            "first_day": sums.days[0] if sums.days else "",
            "last_day": sums.days[-1] if sums.days else "",
            **said,
        },
    )


def open_maps(path: Path) -> xr.Dataset:
    """Open maps that `save_maps` wrote; values are read when used. Close it, or use `with`."""
    return xr.open_dataset(path, engine="h5netcdf")
