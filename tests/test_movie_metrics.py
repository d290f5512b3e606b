"""Every convention against scikit-image and against the formula written out."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.filters import gaussian
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from pipeline import movie_metrics as metrics
from pipeline.movie_metrics import METRICS


def pictures(frames=3, channels=2, rows=17, columns=23, seed=0):
    """Blobs in the dark, and the same blurred and noisy: no two sizes equal."""
    rng = np.random.default_rng(seed)
    truth = np.zeros((frames, channels, rows, columns))
    for frame in truth.reshape(-1, rows, columns):
        y, x = rng.integers(3, rows - 3), rng.integers(3, columns - 3)
        frame[y - 3 : y + 3, x - 2 : x + 2] = rng.uniform(0.5, 1)
    noisy = gaussian(truth, sigma=(0, 0, 1, 1)) + rng.normal(0, 0.02, truth.shape)
    return np.clip(noisy, 0, 1), truth


def by_hand(x, y, weights, value_range, *, padded, unbiased):
    """One channel of one frame, window by window, as the paper's equation says."""
    size = len(weights)
    window = np.outer(weights, weights)
    if padded:
        x, y = (np.pad(v, size // 2) for v in (x, y))
    c1, c2 = (0.01 * value_range) ** 2, (0.03 * value_range) ** 2
    values = []
    for i in range(x.shape[0] - size + 1):
        for j in range(x.shape[1] - size + 1):
            a, b = x[i : i + size, j : j + size], y[i : i + size, j : j + size]
            ma, mb = (window * a).sum(), (window * b).sum()
            n = size**2 / (size**2 - 1) if unbiased else 1
            va, vb = n * (window * (a - ma) ** 2).sum(), n * (window * (b - mb) ** 2).sum()
            vab = n * (window * (a - ma) * (b - mb)).sum()
            values.append(
                (2 * ma * mb + c1) * (2 * vab + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2))
            )
    return np.array(values)


def bell(size, sigma):
    weights = [np.exp(-((i - size // 2) ** 2) / (2 * sigma**2)) for i in range(size)]
    return np.array(weights) / sum(weights)


def test_sums_are_sums_by_hand():
    said, truth = pictures()
    squared = [sum((a - b) ** 2 for a, b in zip(f.flat, t.flat, strict=True))
               for f, t in zip(said, truth, strict=True)]  # fmt: skip
    absolute = [sum(abs(a - b) for a, b in zip(f.flat, t.flat, strict=True))
                for f, t in zip(said, truth, strict=True)]  # fmt: skip
    np.testing.assert_allclose(metrics.frame_sse(said, truth), squared, rtol=1e-12)
    np.testing.assert_allclose(metrics.frame_sae(said, truth), absolute, rtol=1e-12)
    np.testing.assert_allclose(
        metrics.frame_mse(said, truth), np.array(squared) / truth[0].size, rtol=1e-12
    )


def test_psnr_is_scikit_images():
    said, truth = pictures()
    theirs = [peak_signal_noise_ratio(t, f, data_range=1)
              for f, t in zip(said, truth, strict=True)]  # fmt: skip
    np.testing.assert_allclose(metrics.psnr(said, truth), theirs, atol=1e-6)
    assert metrics.psnr(truth, truth).tolist() == [metrics.BEST_PSNR] * 3


@pytest.mark.parametrize("value_range", [1, 2])
def test_uniform_ssim_is_scikit_images_and_the_formula(value_range):
    said, truth = pictures()
    measure = METRICS[f"ssim_uniform7_range{value_range}"].measure
    theirs = [structural_similarity(t, f, data_range=value_range, channel_axis=0)
              for f, t in zip(said, truth, strict=True)]  # fmt: skip
    np.testing.assert_allclose(measure(said, truth), theirs, atol=1e-6)
    flat = np.full(7, 1 / 7)
    mine = [
        np.mean([by_hand(a, b, flat, value_range, padded=False, unbiased=True)
                 for a, b in zip(f, t, strict=True)])
        for f, t in zip(said, truth, strict=True)
    ]  # fmt: skip
    np.testing.assert_allclose(measure(said, truth), mine, atol=1e-6)


def test_gaussian_ssim_is_the_formula_with_zeros_around():
    said, truth = pictures(frames=2)
    mine = [
        np.mean([by_hand(a, b, bell(11, 1.5), 1, padded=True, unbiased=False)
                 for a, b in zip(f, t, strict=True)])
        for f, t in zip(said, truth, strict=True)
    ]  # fmt: skip
    np.testing.assert_allclose(metrics.ssim_gaussian11_range1(said, truth), mine, atol=1e-6)


def test_gaussian_ssim_is_scikit_images_where_the_window_fits():
    """Dark borders wider than the window: what lies outside, zeros or mirrored, is alike."""
    said, truth = (np.pad(v, ((0, 0), (0, 0), (11, 11), (11, 11))) for v in pictures())
    theirs = [
        structural_similarity(t, f, data_range=1, channel_axis=0, gaussian_weights=True, sigma=1.5,
                              use_sample_covariance=False, full=True)[1].mean()
        for f, t in zip(said, truth, strict=True)
    ]  # fmt: skip
    np.testing.assert_allclose(metrics.ssim_gaussian11_range1(said, truth), theirs, atol=1e-6)


@pytest.mark.parametrize("sigma", [0.6, 1.0, 1.5])
def test_range_2_flatters_dark_pictures(sigma):
    """The same wrong frames look better with range 2, most of all where the dark is not quite dark.

    That is what networks say: blurred strokes, and a faint glow where nothing is.
    """
    rng = np.random.default_rng(1)
    truth = np.zeros((20, 1, 64, 64))
    for frame in truth[:, 0]:
        for y, x in rng.integers(0, 44, (2, 2)):
            frame[y : y + 20, x + 9 : x + 12] = 1
            frame[y + 9 : y + 12, x : x + 20] = 1
    blurred = gaussian(truth, sigma=(0, 0, sigma, sigma))
    glowing = np.clip(blurred + rng.normal(0, 0.02, truth.shape), 0, 1)
    gaps = []
    for said in (blurred, glowing):
        theirs = [
            np.mean([structural_similarity(t[0], f[0], data_range=r)
                     for f, t in zip(said, truth, strict=True)])
            for r in (1, 2)
        ]  # fmt: skip
        mine = [METRICS[f"ssim_uniform7_range{r}"].measure(said, truth).mean() for r in (1, 2)]
        np.testing.assert_allclose(mine, theirs, atol=1e-6)
        gaps.append(mine[1] - mine[0])
    assert 0.005 < gaps[0] < 0.05 < gaps[1] < 0.4
    # PSNR of range 2 would be 20 log10(2) more, for every frame
    other = [peak_signal_noise_ratio(t, f, data_range=2)
             for f, t in zip(glowing, truth, strict=True)]  # fmt: skip
    np.testing.assert_allclose(other - metrics.psnr(glowing, truth), 20 * np.log10(2), atol=1e-6)


@pytest.mark.parametrize("name", METRICS)
def test_a_forecast_of_itself_is_best_and_shapes_must_agree(name):
    said, truth = (v.astype(np.float32) for v in pictures())
    metric = METRICS[name]
    right, wrong = metric.measure(truth, truth), metric.measure(said, truth)
    assert right.shape == (3,)
    assert right.dtype == np.float64
    assert ((right < wrong) if metric.better == "low" else (right > wrong)).all()
    with pytest.raises(ValueError, match=r"\(3, 2, 17, 23\) for a truth of \(3, 1, 17, 23\)"):
        metric.measure(said, truth[:, :1])


def test_many_frames_are_measured_in_parts():
    said, truth = pictures(frames=300, channels=1)
    whole = metrics.ssim_uniform7_range1(said, truth)
    np.testing.assert_array_equal(
        whole[290:], metrics.ssim_uniform7_range1(said[290:], truth[290:])
    )
