"""LPIPS, a distance of pictures as a trained network sees them; for who has installed it."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Measure = Callable[[NDArray[Any], NDArray[Any]], NDArray[np.float64]]
CHUNK = 64


class NoLpipsError(Exception):
    """The package is not there."""


def lpips_measure(device: str = "cpu") -> Measure:
    """Return LPIPS with AlexNet (arXiv 1801.03924): `(N, C, H, W)` in [0, 1] to one value a frame.

    Grey frames are taken as red, green and blue alike. The package brings its own weights and, the
    first time, fetches those of AlexNet.

    Raises:
        NoLpipsError: The package `lpips` is not installed.
    """
    try:
        module = import_module("lpips")
    except ImportError as fault:
        raise NoLpipsError(f"lpips cannot be imported ({fault}): `pip install lpips`") from None
    network = module.LPIPS(net="alex", verbose=False).to(device).eval()

    @torch.inference_mode()
    def measure(forecast: NDArray[Any], truth: NDArray[Any]) -> NDArray[np.float64]:
        parts = []
        for at in range(0, len(forecast), CHUNK):
            x, y = (
                torch.from_numpy(np.array(frames[at : at + CHUNK], np.float32)).to(device)
                for frames in (forecast, truth)
            )
            colours = (3 if x.shape[1] == 1 else x.shape[1]) // x.shape[1]
            x, y = (frames.repeat(1, colours, 1, 1) * 2 - 1 for frames in (x, y))
            parts.append(network(x, y).flatten().double().cpu().numpy())
        return np.concatenate(parts) if parts else np.empty(0)

    return measure
