"""The pictures of a city's maps: errors, bias, skill, who is better where, and their parts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure

from pipeline.maps.canvas import colour_bar, draw_cells, new_figure, proportions, save
from pipeline.maps.scales import Scales, Theme, around_zero
from pipeline.maps.streets import Line

TALL = 5.6
"""Height of a city on paper, inches."""


class Painter:
    """Draws maps of one theme on common scales.

    Args:
        theme: Its colours.
        scales: Ends of the colour scales, for all cities and models.
        streets: Lines below the cells.
        credit: Whose lines.
    """

    def __init__(
        self, theme: Theme, scales: Scales, streets: Sequence[Line] = (), credit: str = ""
    ) -> None:
        self.theme, self.scales = theme, scales
        self.streets, self.credit = streets, credit if len(streets) else ""

    def knows(self, kind: str, maps: xr.Dataset) -> bool:
        """Return whether maps hold what a kind of picture shows."""
        if kind in {"difference", "skill"}:
            return kind in maps and maps.attrs["model"] != maps.attrs["baseline"]
        return "mse" in maps

    def draw(self, kind: str, path: Path, maps: xr.Dataset) -> Path:
        """Draw a kind of picture: `mse`, `bias`, `skill`, `activity`, `difference`, `by_AXIS`."""
        if kind.startswith("by_"):
            return self.parts(path, maps, kind.removeprefix("by_"))
        kinds = {
            "mse": self.errors,
            "bias": self.bias,
            "skill": self.skill,
            "activity": self.activity,
            "difference": self.difference,
        }
        return kinds[kind](path, maps)

    def errors(self, path: Path, maps: xr.Dataset) -> Path:
        """Draw the mean squared error of each cell; those never active are blank."""
        city, model = maps.attrs["city"], maps.attrs["model"]
        unit, factor = score_unit(maps)
        title = f"{city}: {model}, MSE {float(maps['mse'].mean()) * factor:.3f}{unit}"
        label = f"mean squared error of a cell, {windows(maps)}"
        norm = self.scales.errors()
        return self._one(path, maps, "mse", title, label, norm, self.theme.errors, "min")

    def bias(self, path: Path, maps: xr.Dataset) -> Path:
        """Draw whether too much or too little is forecast."""
        title = f"{maps.attrs['city']}: {maps.attrs['model']}, bias"
        label = f"mean of forecast − truth, all channels, {windows(maps)}"
        norm = around_zero(self.scales.bias)
        return self._one(path, maps, "bias", title, label, norm, self.theme.signs, "both")

    def skill(self, path: Path, maps: xr.Dataset) -> Path:
        """Draw the skill against the baseline; what is better has the colour of better."""
        baseline = maps.attrs["baseline"]
        title = f"{maps.attrs['city']}: skill of {maps.attrs['model']} against {baseline}"
        label = f"1 − MSE / MSE of {baseline}; above 0 (blue) is better"
        norm = around_zero(self.scales.skill)
        signs = self.theme.signs.reversed()
        return self._one(path, maps, "skill", title, label, norm, signs, "both")

    def difference(self, path: Path, pair: xr.Dataset) -> Path:
        """Draw who is better where; dots mark the cells in which that is believed."""
        one, other, days = (pair.attrs[k] for k in ("model", "baseline", "days"))
        share = pair.attrs["false_discovery"]
        believed = pair["believed"].values > 0
        better = int((believed & (pair["difference"].values < 0)).sum())
        worse = int(believed.sum()) - better
        title = f"{pair.attrs['city']}: {one} − {other}"
        figure, axes = self._page(pair, title)
        shown = pair["difference"].where(pair["active"] > 0)
        norm = around_zero(self.scales.difference)
        image = draw_cells(
            axes, pair, shown, norm, self.theme.signs, self.theme, streets=self.streets
        )
        rows, columns = np.nonzero(believed)
        where = pair["latitude"].broadcast_like(pair["p"]).transpose("y", "x").values
        across = pair["longitude"].broadcast_like(pair["p"]).transpose("y", "x").values
        axes.scatter(
            across[rows, columns], where[rows, columns], s=1.2, color=self.theme.ink, zorder=3
        )
        label = f"difference of MSE; below 0 (blue) {one} is better"
        colour_bar(figure, image, [axes], label, self.theme, "both")
        test = f"paired t test over {days} days, false discovery {share:g}"
        axes.set_xlabel(
            f"dots: {better} cells better, {worse} worse ({test})", color=self.theme.ink, fontsize=8
        )
        self._sign(figure)
        return save(path, figure)

    def parts(self, path: Path, maps: xr.Dataset, axis: str) -> Path:
        """Draw the errors by channel, lead, hour or weekday side by side, on one scale."""
        theme, count = self.theme, maps.sizes[axis]
        columns = {24: 6, 8: 4}.get(count, min(count, 4))
        rows = -(-count // columns)
        tall = 2.9 if count <= 4 else 1.75
        wide = tall * proportions(maps)
        figure = new_figure(columns * (wide + 0.15) + 1.5, rows * (tall + 0.3) + 0.7, theme)
        grid = figure.subplots(rows, columns, squeeze=False)
        active = maps["active"] > 0
        image = None
        for place, axes in enumerate(grid.ravel()):
            if place >= count:
                axes.set_axis_off()
                continue
            values = maps[f"mse_by_{axis}"].isel({axis: place})
            image = draw_cells(
                axes,
                maps,
                values.where(active),
                self.scales.parts(),
                theme.errors,
                theme,
                streets=self.streets if count <= 4 else (),
                degrees=False,
            )
            mean = float(values.mean())
            factor = score_unit(maps)[1]
            said = "no forecasts" if np.isnan(mean) else f"{mean * factor:.2f}"
            axes.set_title(f"{part_name(maps, axis, place)}: {said}", color=theme.ink, fontsize=8)
        assert image is not None  # an axis has a part
        figure.suptitle(
            f"{maps.attrs['city']}: {maps.attrs['model']}, MSE by {axis}{score_unit(maps)[0]}",
            color=theme.ink,
            fontsize=11,
        )
        colour_bar(figure, image, list(grid.ravel()), "mean squared error", theme, "min")
        return save(path, figure)

    def activity(self, path: Path, maps: xr.Dataset) -> Path:
        """Draw how often cells are active, how much of that is forecast, and how much is not."""
        theme = self.theme
        wide = TALL * 0.75 * proportions(maps)
        figure = new_figure(3 * (wide + 0.9), TALL * 0.75 + 0.9, theme)
        ever = maps["active"] > 0
        shown = {
            "active, share of frames": maps["active"].where(ever),
            "of those, forecast as not 0": (maps["hits"] / maps["active"]).where(ever),
            "not active, forecast as not 0": maps["false_alarms"].where(maps["false_alarms"] > 0),
        }
        for axes, (title, values) in zip(figure.subplots(1, 3), shown.items(), strict=True):
            norm = Normalize(0.0, 1.0)
            image = draw_cells(axes, maps, values, norm, theme.shares, theme, degrees=False)
            axes.set_title(title, color=theme.ink, fontsize=9)
            colour_bar(figure, image, [axes], "", theme, "neither")
        title = f"{maps.attrs['city']}: {maps.attrs['model']}, activity over {windows(maps)}"
        figure.suptitle(title, color=theme.ink, fontsize=11)
        return save(path, figure)

    def _one(
        self,
        path: Path,
        maps: xr.Dataset,
        name: str,
        title: str,
        label: str,
        norm: Normalize,
        colours: Colormap,
        extend: str,
    ) -> Path:
        figure, axes = self._page(maps, title)
        values = maps[name].where(maps["active"] > 0)
        image = draw_cells(axes, maps, values, norm, colours, self.theme, streets=self.streets)
        colour_bar(figure, image, [axes], label, self.theme, extend)
        self._sign(figure)
        return save(path, figure)

    def _page(self, maps: xr.Dataset, title: str) -> tuple[Figure, Axes]:
        figure = new_figure(TALL * proportions(maps) + 2.0, TALL + 0.8, self.theme)
        axes = figure.add_subplot()
        axes.set_title(title, color=self.theme.ink, fontsize=11)
        return figure, axes

    def _sign(self, figure: Figure) -> None:
        if self.credit:
            figure.supxlabel(
                f"streets: {self.credit}", color=self.theme.ink, fontsize=6, x=0.99, ha="right"
            )


def windows(maps: xr.Dataset) -> str:
    """Return how many windows of which days maps are the mean of."""
    first, last, count = (maps.attrs[key] for key in ("first_day", "last_day", "windows"))
    return f"{count} windows, {first}" + (f" to {last}" if last != first else "")


def score_unit(maps: xr.Dataset) -> tuple[str, float]:
    """Return how scores are written, and what to multiply them by."""
    return (" × 10⁻³", 1e3) if maps.attrs["score_scale"] > 1 else (" bytes²", 1.0)


def part_name(maps: xr.Dataset, axis: str, place: int) -> str:
    """Return what a part of an axis is called."""
    label = maps[axis].values[place]
    return {"lead": f"{label} min", "hour": f"{label}:00"}.get(axis, str(label))
