"""A city on paper: cells where they lie, north up, with degrees, streets and a scale bar."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from pipeline.atomic import whole_file
from pipeline.maps.scales import Theme
from pipeline.maps.streets import Line

KM_PER_DEGREE = 111.195
"""Of latitude, on a sphere of 6,371 km."""


def north_up(values: xr.DataArray) -> NDArray[np.float64]:
    """Return `(..., north to south, west to east)` of values that carry their degrees."""
    dims = values["latitude"].dims[0], values["longitude"].dims[0]
    turned = values.transpose(..., *dims).sortby("longitude").sortby("latitude", ascending=False)
    return np.asarray(turned.values)


def new_figure(width: float, height: float, theme: Theme) -> Figure:
    """Return an empty page, inches, at 130 dots an inch."""
    figure = Figure(figsize=(width, height), dpi=130, layout="constrained", facecolor=theme.paper)
    FigureCanvasAgg(figure)
    return figure


def proportions(maps: xr.Dataset) -> float:
    """Return a city's width over its height on the ground."""
    south, north, west, east = _box(maps)
    return float((east - west) * _narrow(south, north) / (north - south))


def draw_cells(
    axes: Axes,
    maps: xr.Dataset,
    values: xr.DataArray,
    norm: Normalize,
    colours: Colormap,
    theme: Theme,
    *,
    streets: Sequence[Line] = (),
    degrees: bool = True,
) -> AxesImage:
    """Draw `(y, x)` values of a city; NaN is blank. Below lie streets, for cells cover them.

    Args:
        axes: Where.
        maps: Whose box.
        values: What, with latitude and longitude.
        norm: From values to places on the colour scale.
        colours: The scale.
        theme: The other colours.
        streets: Lines of longitude and latitude.
        degrees: Whether to write degrees and a scale bar.
    """
    south, north, west, east = _box(maps)
    axes.set_facecolor(theme.blank)
    shown = np.ma.masked_invalid(north_up(values))
    if isinstance(norm.vmin, float) and type(norm) is not Normalize:  # what is below a logarithm
        shown = np.ma.maximum(shown, norm.vmin)
    image = axes.imshow(
        shown,
        extent=(west, east, south, north),
        aspect=1 / _narrow(south, north),
        norm=norm,
        cmap=colours,
        interpolation="nearest",
        zorder=2,
    )
    if len(streets):
        lines = LineCollection(list(streets), colors=theme.street, linewidths=0.35, zorder=1)
        axes.add_collection(lines, autolim=False)
    axes.set_xlim(west, east)
    axes.set_ylim(south, north)
    for spine in axes.spines.values():
        spine.set_color(theme.street)
    if degrees:
        _degrees(axes, theme)
        _scale_bar(axes, (south, north, west, east), theme)
    else:
        axes.set_xticks([])
        axes.set_yticks([])
    return image


def colour_bar(
    figure: Figure, image: AxesImage, axes: Sequence[Axes], label: str, theme: Theme, extend: str
) -> None:
    """Draw the scale of an image beside its axes."""
    bar = figure.colorbar(image, ax=list(axes), shrink=0.85, extend=extend, aspect=28)
    bar.set_label(label, color=theme.ink)
    bar.ax.tick_params(colors=theme.ink, labelsize=8)
    bar.outline.set_edgecolor(theme.street)


def save(path: Path, figure: Figure) -> Path:
    """Write a page as PNG, whole; the same page gives the same bytes."""
    with whole_file(path) as partial:
        figure.savefig(
            partial, format="png", metadata={"Software": None}, facecolor=figure.get_facecolor()
        )
    return path


def _box(maps: xr.Dataset) -> tuple[float, float, float, float]:
    south, north, west, east = map(float, maps.attrs["box"])
    return south, north, west, east


def _narrow(south: float, north: float) -> float:
    """Return how long a degree of longitude is there, in degrees of latitude."""
    return float(np.cos(np.deg2rad((south + north) / 2)))


def _degrees(axes: Axes, theme: Theme) -> None:
    names = (("N", "S"), ("E", "W"))
    for axis, (above, below) in zip((axes.yaxis, axes.xaxis), names, strict=True):
        axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        axis.set_major_formatter(
            FuncFormatter(
                lambda v, _, a=above, b=below: (
                    f"{abs(v):.3f}".rstrip("0").rstrip(".") + f"° {a if v >= 0 else b}"
                )
            )
        )
    axes.tick_params(colors=theme.ink, labelsize=8)


def _scale_bar(axes: Axes, box: tuple[float, float, float, float], theme: Theme) -> None:
    south, north, west, east = box
    km_per_degree = KM_PER_DEGREE * _narrow(south, north)
    length = _round_length((east - west) * km_per_degree / 4)
    left = west + 0.04 * (east - west)
    right, height = left + length / km_per_degree, south + 0.035 * (north - south)
    axes.plot([left, right], [height] * 2, color=theme.ink, linewidth=2.2, zorder=4)
    axes.text(
        (left + right) / 2,
        height + 0.012 * (north - south),
        f"{length:g} km" if length >= 1 else f"{length * 1000:g} m",
        color=theme.ink,
        ha="center",
        va="bottom",
        fontsize=8,
        zorder=4,
    )


def _round_length(most: float) -> float:
    """Return the largest of 1, 2, 5, 10, ... times a power of ten that is not above `most`."""
    power = 10.0 ** np.floor(np.log10(most))
    return float(max(step for step in (1, 2, 5) if step * power <= most) * power)
