"""A base that follows the city's level: features by hand, weights by least squares."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from crevnet.batch import collate, frames
from crevnet.correction import Correction
from crevnet.levels import QUIET, box_mean, features, level
from crevnet.task import Task
from flows.config import read_config
from flows.level_fit import fit_levels
from flows.model_config import Reading
from flows.training_data import training_data
from tests.test_correction import MIX, Says, batch, usual_of
from tests.toy_training import C, H, W

RADII = (1, 3)
WEIGHTS = tuple(
    tuple(tuple(0.01 * (1 + lead + 2 * c - f) for f in range(5)) for c in range(C))
    for lead in range(len(MIX.leads))
)
LEVELLED = replace(MIX, levels=RADII, level_weights=WEIGHTS)


def boxes(planes, radius):
    """Mean over the cells of a box that there are, one at a time."""
    height, width = planes.shape[-2:]
    out = np.empty_like(planes)
    for y in range(height):
        for x in range(width):
            rows = slice(max(0, y - radius), y + radius + 1)
            columns = slice(max(0, x - radius), x + radius + 1)
            out[..., y, x] = planes[..., rows, columns].mean((-2, -1))
    return out


def by_hand(history, usual):
    """The table of `crevnet.levels`, `(B, N, C, F, H, W)`."""
    T = history.shape[1]
    mean, ahead, normal = history.mean(1), usual[:, T:], usual[:, :T].mean(1)
    late = history[:, T - max(1, T // 3) :].mean(1) - mean
    listed = [mean[:, None] - ahead]
    listed += [
        np.broadcast_to(part[:, None], ahead.shape) for part in (history[:, -1] - mean, late)
    ]
    for radius in RADII:
        share = (boxes(mean, radius) + QUIET) / (boxes(normal, radius) + QUIET)
        listed.append(ahead * (np.minimum(share, 4) - 1)[:, None])
    return np.stack(listed, 3)


def test_a_box_is_the_mean_of_the_cells_there_are():
    planes = np.random.default_rng(3).random((2, 3, 7, 5))
    for radius in (1, 2, 9):
        torch.testing.assert_close(
            box_mean(torch.tensor(planes), radius), torch.tensor(boxes(planes, radius))
        )


def test_features_and_their_sum_are_those_of_the_table():
    data = batch(MIX)
    history, usual = frames(data.history).double(), usual_of(data).double()
    listed = by_hand(history.numpy(), usual.numpy())
    for place, feature in enumerate(features(history, usual, RADII)):
        expected = torch.tensor(listed[:, :, :, place])
        torch.testing.assert_close(feature.expand_as(expected), expected)
    weights = torch.rand(MIX.horizon, C, 5, dtype=torch.float64)
    expected = torch.einsum("bncfhw,ncf->bnchw", torch.tensor(listed), weights)
    torch.testing.assert_close(level(history, usual, RADII, weights), expected)


def test_the_level_is_added_to_the_leads_and_not_to_what_was_said_of_the_history():
    data = batch(MIX)
    history, usual = frames(data.history), usual_of(data)
    plain = Correction(Says(early=2), MIX)(history, data.usual)
    said = Correction(Says(early=2), LEVELLED)(history, data.usual)
    assert said.shape == (3, 5, C, H, W)
    torch.testing.assert_close(said[:, :2], plain[:, :2], rtol=0, atol=0)
    table = torch.tensor(by_hand(history.numpy(), usual.numpy()))
    given = torch.tensor(WEIGHTS)
    lines = torch.stack((given[0], given.mean(0), given[1]))  # leads 0 and 2; 1 lies between
    torch.testing.assert_close(
        said[:, 2:], plain[:, 2:] + torch.einsum("bncfhw,ncf->bnchw", table.float(), lines)
    )


def test_a_city_as_usual_has_no_level():
    data = batch(MIX)
    usual = usual_of(data)
    as_usual = usual[:, : MIX.history]
    listed = list(features(as_usual, usual, RADII))
    for radius_feature in listed[3:]:
        assert float(radius_feature.abs().max()) < 1e-6


def test_the_task_is_kept_and_impossible_levels_are_refused():
    assert Task.from_dict(LEVELLED.to_dict()) == LEVELLED
    with pytest.raises(ValueError, match="shape"):
        replace(LEVELLED, levels=(1,))
    with pytest.raises(ValueError, match="levels"):
        replace(LEVELLED, level_weights=None)
    with pytest.raises(ValueError, match="base 'none'"):
        replace(LEVELLED, base="none", weights=None)


def test_fitted_weights_are_those_of_least_squares(ingested):
    config = read_config(ingested.config)
    data = training_data(config, Reading(held_out=1), base="mix", inputs=(), batch=4)
    task = Task(
        leads=config.read_edition().leads,
        history=config.history,
        base="mix",
        weights=data.weights,
        channels=config.read_edition().channels,
    )
    examples = data.train.examples
    fitted = fit_levels(task, RADII, examples)
    assert fitted.levels == RADII
    every = [collate([examples[number]]) for number in range(len(examples))]
    history = np.concatenate([frames(one.history).numpy() for one in every]).astype(np.float64)
    future = np.concatenate([frames(one.future).numpy() for one in every]).astype(np.float64)
    usual = np.concatenate([one.usual.float().numpy() for one in every]).astype(np.float64)
    table, leads = by_hand(history, usual), list(task.leads)
    before = after = 0.0
    for lead, frame in enumerate(leads):
        for channel in range(3):
            weight = data.weights[lead][channel]
            normal = usual[:, config.history + frame, channel]
            base = weight * history.mean(1)[:, channel] + (1 - weight) * normal
            rest = (future[:, lead, channel] - base).ravel()
            columns = np.moveaxis(table[:, frame, channel], 1, -1).reshape(-1, 5)
            solved, *_ = np.linalg.lstsq(columns, rest, rcond=None)
            np.testing.assert_allclose(
                fitted.level_weights[lead][channel], solved, rtol=1e-2, atol=1e-3
            )
            before += np.square(rest).sum()
            after += np.square(rest - columns @ solved).sum()
    assert after < before
