"""One colour scale for all cities and models: how far each goes, and in which colours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import xarray as xr
from matplotlib import colormaps
from matplotlib.colors import Colormap, ListedColormap, LogNorm, Normalize

ThemeName = Literal["light", "dark"]


@dataclass(frozen=True, slots=True)
class Theme:
    """Colours of a picture; every scale rises in lightness alone, or from a neutral middle.

    Attributes:
        paper: Behind everything.
        ink: Of letters.
        blank: Cells that were never active.
        street: Street lines.
        errors: From little to much.
        signs: From below 0 to above 0.
        shares: From none to all.
        lines: Of curves.
    """

    paper: str
    ink: str
    blank: str
    street: str
    errors: Colormap
    signs: Colormap
    shares: Colormap
    lines: tuple[str, ...]


def _part(name: str, low: float, high: float) -> Colormap:
    """Return a piece of a scale: without the end that is too near to paper."""
    return ListedColormap(colormaps[name](np.linspace(low, high, 256)), name=f"{name}_part")


WONG = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Colours that stay apart for colour-blind eyes."""
THEMES: dict[ThemeName, Theme] = {
    "light": Theme(
        *("#ffffff", "#1a1a1a", "#f1f0ec", "#b9b6ad"),
        *(_part("inferno_r", 0.04, 1.0), colormaps["RdBu_r"], colormaps["viridis_r"]),
        WONG,
    ),
    "dark": Theme(
        *("#15171a", "#e8e6e1", "#1d2024", "#565b63"),
        *(_part("inferno", 0.14, 1.0), colormaps["berlin"], _part("viridis", 0.05, 1.0)),
        WONG[::-1],
    ),
}


@dataclass(frozen=True, slots=True)
class Scales:
    """Ends of the colour scales.

    Attributes:
        low: Of mean squared errors, which are drawn on a logarithmic scale.
        high: Of the same.
        part_high: Of mean squared errors of parts (a channel, an hour), where they are larger.
        bias: Of biases, both sides of 0.
        skill: Of skills.
        difference: Of differences of mean squared errors.
    """

    low: float
    high: float
    part_high: float
    bias: float = 1.0
    skill: float = 1.0
    difference: float = 1.0

    def errors(self) -> LogNorm:
        """Return the scale of errors."""
        return LogNorm(self.low, self.high)

    def parts(self) -> LogNorm:
        """Return the scale of errors of parts: the same low end."""
        return LogNorm(self.low, self.part_high)


def around_zero(end: float) -> Normalize:
    """Return a scale with 0 in its middle."""
    return Normalize(-end, end)


def common_scales(
    models: Sequence[xr.Dataset],
    pairs: Sequence[xr.Dataset] = (),
    *,
    errors: tuple[float, float] | None = None,
) -> Scales:
    """Return scales on which all maps can be compared.

    Errors go from the lower quartile of active cells to the largest: a few arterials hold most of
    the error, and the rest of the city should still be seen. Those around 0 end where 98 % of the
    active cells have ended; skill ends at 90 %, for where there is little to forecast
    it is anything.

    Args:
        models: Of `model_maps`, of all cities and models.
        pairs: Of `pair_maps`.
        errors: Ends of the scale of errors, to compare with maps of another run.
    """
    seen = _pooled([maps["mse"].where(maps["active"] > 0) for maps in models])
    seen = seen[seen > 0]
    high = float(seen.max()) if seen.size else 1.0
    low = max(float(np.quantile(seen, 0.25)) if seen.size else high, high * 1e-4)
    low, high = errors or (min(low, high / 2), high)
    parts = _pooled([maps["mse_by_channel"] for maps in models])
    return Scales(
        low,
        high,
        max(high, float(parts.max()) if parts.size else high),
        bias=_end([maps["bias"].where(maps["active"] > 0) for maps in models]),
        skill=_end(
            [maps["skill"].where(maps["active"] > 0) for maps in models if "skill" in maps],
            share=0.9,
        ),
        difference=_end([maps["difference"].where(maps["active"] > 0) for maps in pairs]),
    )


def _end(values: list[xr.DataArray], share: float = 0.98) -> float:
    found = np.abs(_pooled(values))
    return (float(np.quantile(found, share)) if found.size else 0.0) or 1.0


def _pooled(values: list[xr.DataArray]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    flat = [value.values[np.isfinite(value.values)] for value in values]
    return np.concatenate(flat or [np.empty(0)])
