"""Fits how a base follows the city's level: least squares over windows of the training days."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from crevnet.batch import collate, frames
from crevnet.correction import Correction
from crevnet.levels import features
from crevnet.task import OTHER_FEATURES, Task
from flows.examples import Examples

WINDOWS = 240
"""Windows that weights are fitted on, spread evenly over all training days: whole frames."""
RIDGE = 1e-7
"""Added to the diagonal, as a share of its sum: features that never differ get no weight."""


def fit_levels(task: Task, radii: tuple[int, ...], examples: Examples) -> Task:
    """Return a task whose base follows the city's level.

    The weights are those that bring the base nearest to the truth, each lead and channel on its
    own, in the mean over the windows; each window's usual knows nothing of its day.

    Args:
        task: With a base that knows what is usual; without levels.
        radii: Cells to each side of a box.
        examples: What is trained on; it is read as it is, without crops and flips.
    """
    correction = Correction(torch.nn.Identity(), task)
    plain = Examples(examples.sources, examples.inputs)
    shape = len(task.leads), len(task.channels), OTHER_FEATURES + len(radii)
    squares, products = np.zeros((*shape, shape[-1])), np.zeros((*shape, 1))
    for number in np.linspace(0, len(plain) - 1, min(WINDOWS, len(plain))).round():
        batch = collate([plain[int(number)]])
        history, future = frames(batch.history), frames(batch.future)
        usual = batch.usual
        assert usual is not None  # with such a base it is told
        rest = future - correction.base(history, usual, task.horizon)[:, list(task.leads)]
        each = [
            feature.expand(-1, task.horizon, -1, -1, -1)[:, list(task.leads)]
            for feature in features(history, usual.float(), radii)
        ]
        table = _by_lead_and_channel(torch.stack(each))  # (L, C, F, cells)
        truth = _by_lead_and_channel(rest[None])  # (L, C, 1, cells)
        squares += (table @ table.mT).numpy()
        products += (table @ truth.mT).numpy()
    scale = np.trace(squares, axis1=-2, axis2=-1)[..., None, None] + np.finfo(float).tiny
    weights = np.linalg.solve(squares + RIDGE * scale * np.eye(shape[-1]), products)[..., 0]
    rows = tuple(tuple(tuple(map(float, row)) for row in lead) for lead in weights)
    return replace(task, levels=radii, level_weights=rows)


def _by_lead_and_channel(values: Tensor) -> Tensor:
    """Turn `(F, B, L, C, H, W)` into `(L, C, F, B * H * W)`."""
    return values.permute(2, 3, 0, 1, 4, 5).flatten(3).double()
