"""Structural similarity as a loss: scikit-image's value, and a gradient that leads to the truth."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity as reference

from crevnet.structural import structural_similarity


def test_it_is_what_scikit_image_says_where_windows_fit():
    rng = np.random.default_rng(0)
    truth = rng.random((2, 3, 17, 23))
    said = np.clip(truth + 0.2 * rng.standard_normal(truth.shape), 0, 1)
    how = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "full": True}
    pairs = zip(said.reshape(-1, 17, 23), truth.reshape(-1, 17, 23), strict=True)
    maps = [reference(s, t, data_range=1, **how)[1][5:-5, 5:-5] for s, t in pairs]
    found = structural_similarity(torch.from_numpy(said), torch.from_numpy(truth))
    assert float(found) == pytest.approx(np.mean(maps), abs=1e-9)


def test_it_is_one_for_the_truth_and_its_gradient_is_the_difference_quotient():
    truth = torch.rand(1, 2, 12, 13, dtype=torch.float64, generator=torch.manual_seed(1))
    assert float(structural_similarity(truth, truth)) == pytest.approx(1)
    said = torch.rand_like(truth).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: structural_similarity(x, truth), said)


def test_mixed_precision_leaves_it_as_it_is():
    truth = 0.7 + 0.01 * torch.rand(2, 3, 12, 13, generator=torch.manual_seed(2))
    said = truth.flip(-1)
    plain = structural_similarity(said, truth)
    short = structural_similarity(said.bfloat16().float(), truth)
    with torch.autocast("cpu", torch.bfloat16):
        assert structural_similarity(said, truth) == plain
        assert structural_similarity(said.bfloat16(), truth) == short
    assert structural_similarity(said, truth.double()).dtype == torch.float64


@pytest.mark.parametrize("shape", [(1, 12, 13), (1, 10, 13)])
def test_it_refuses_other_shapes_and_small_frames(shape):
    with pytest.raises(ValueError, match="expected equal shapes of at least 11 x 11"):
        structural_similarity(torch.zeros(shape), torch.zeros(1, 10, 13))
