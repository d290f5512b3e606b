"""How good a forecast picture is, by the conventions this field's figures were made with.

Figures of the same name differ by convention, so every convention has a name of its own here. All
take forecasts and truth `(N, C, H, W)` in [0, 1] and return one float64 a frame, `(N,)`; a table's
figure is the mean over leads and sequences. Structural similarity is that of Wang et al. (2004),
the mean over a picture of a product of two ratios made of local means and variances, and over
channels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Frames = NDArray[np.float32] | NDArray[np.float64]
Values = NDArray[np.float64]
BEST_PSNR = 100.0
"""A frame that is exactly right would have no limit."""
CHUNK = 256
"""Frames at a time; float64 copies of more would not fit a cache."""


def frame_sse(forecast: Frames, truth: Frames) -> Values:
    """Sum squared errors over a frame's values: the MSE of Moving MNIST papers, of 4096 pixels."""
    return np.asarray((_difference(forecast, truth) ** 2).sum((1, 2, 3)))


def frame_sae(forecast: Frames, truth: Frames) -> Values:
    """Sum absolute errors over a frame's values: the MAE of the same tables."""
    return np.asarray(np.abs(_difference(forecast, truth)).sum((1, 2, 3)))


def frame_mse(forecast: Frames, truth: Frames) -> Values:
    """Mean squared error of a frame's values."""
    return np.asarray((_difference(forecast, truth) ** 2).mean((1, 2, 3)))


def psnr(forecast: Frames, truth: Frames) -> Values:
    """Peak signal-to-noise ratio of a frame in dB, peak 1; at most `BEST_PSNR`."""
    least = 10 ** (-BEST_PSNR / 10)
    return np.asarray(-10 * np.log10(np.maximum(frame_mse(forecast, truth), least)))


def ssim_gaussian11_range1(forecast: Frames, truth: Frames) -> Values:
    """SSIM as the authors' released code has it.

    A Gaussian window of 11 x 11 with sigma 1.5, zeros around the picture, so every pixel counts;
    plain variances, constants for a range of 1.
    """
    return _ssim(forecast, truth, _gaussian(11, 1.5), 1.0, same=True, unbiased=False)


def ssim_uniform7_range2(forecast: Frames, truth: Frames) -> Values:
    """SSIM as scikit-image had it for floats when it was not told their range: it took 2.

    A flat window of 7 x 7 wherever it fits into the picture, sample variances. This is what most
    published Moving MNIST figures are; about 0.05 higher than with range 1.
    """
    return _ssim(forecast, truth, (1 / 7,) * 7, 2.0, same=False, unbiased=True)


def ssim_uniform7_range1(forecast: Frames, truth: Frames) -> Values:
    """SSIM as scikit-image has it, told that values are in [0, 1]."""
    return _ssim(forecast, truth, (1 / 7,) * 7, 1.0, same=False, unbiased=True)


@dataclass(frozen=True, slots=True)
class Metric:
    """A convention.

    Attributes:
        measure: Forecast and truth to a value a frame.
        better: Whether low or high is better.
        says: What it is, in a line.
    """

    measure: Callable[[Frames, Frames], Values]
    better: Literal["low", "high"]
    says: str


METRICS: dict[str, Metric] = {
    "frame_sse": Metric(frame_sse, "low", "squared error summed over a frame: the papers' MSE"),
    "frame_sae": Metric(frame_sae, "low", "absolute error summed over a frame: the papers' MAE"),
    "ssim_gaussian11_range1": Metric(
        ssim_gaussian11_range1, "high", "SSIM as the CrevNet authors' code has it"
    ),
    "ssim_uniform7_range2": Metric(
        ssim_uniform7_range2, "high", "SSIM as scikit-image had it for floats of unsaid range"
    ),
    "ssim_uniform7_range1": Metric(
        ssim_uniform7_range1, "high", "SSIM as scikit-image has it for a range of 1"
    ),
    "psnr": Metric(psnr, "high", "dB, peak 1, mean over frames"),
}


def _difference(forecast: Frames, truth: Frames) -> Any:
    _check(forecast, truth)
    return forecast.astype(np.float64) - truth


def _check(forecast: Frames, truth: Frames) -> None:
    if forecast.shape != truth.shape or forecast.ndim != 4:
        raise ValueError(
            f"a forecast of {forecast.shape} for a truth of {truth.shape}, expected (N, C, H, W)"
        )


def _ssim(
    forecast: Frames,
    truth: Frames,
    window: tuple[float, ...],
    value_range: float,
    *,
    same: bool,
    unbiased: bool,
) -> Values:
    _check(forecast, truth)
    if min(forecast.shape[2:]) < len(window):
        raise ValueError(f"frames of {forecast.shape[2:]}, smaller than a window of {len(window)}")
    rows, columns = (_band(size, window, same) for size in forecast.shape[2:])

    def smooth(values: Values) -> Values:
        return np.asarray(rows @ values @ columns.T)

    c1, c2 = (0.01 * value_range) ** 2, (0.03 * value_range) ** 2
    norm = len(window) ** 2 / (len(window) ** 2 - 1) if unbiased else 1.0
    parts = []
    for at in range(0, len(forecast), CHUNK):
        x, y = (frames[at : at + CHUNK].astype(np.float64) for frames in (forecast, truth))
        mx, my = smooth(x), smooth(y)
        vx, vy = norm * (smooth(x * x) - mx * mx), norm * (smooth(y * y) - my * my)
        vxy = norm * (smooth(x * y) - mx * my)
        likeness = (2 * mx * my + c1) * (2 * vxy + c2)
        likeness /= (mx * mx + my * my + c1) * (vx + vy + c2)
        parts.append(likeness.mean((1, 2, 3)))
    return np.concatenate(parts) if parts else np.empty(0)


def _gaussian(size: int, sigma: float) -> tuple[float, ...]:
    away = np.arange(size) - (size - 1) / 2
    weights = np.exp(-(away**2) / (2 * sigma**2))
    return tuple((weights / weights.sum()).tolist())


@lru_cache(maxsize=64)
def _band(size: int, window: tuple[float, ...], same: bool) -> Values:
    """Return the matrix that slides a window along `size` values, zeros around them if `same`."""
    span = len(window)
    padded = np.zeros((size, size + span - 1))
    for at in range(size):
        padded[at, at : at + span] = window
    margin = span // 2
    if same:
        return np.ascontiguousarray(padded[:, margin : margin + size])
    return np.ascontiguousarray(padded[: size - span + 1, :size])
