from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from crevnet.config import CrevNetConfig
from crevnet.forecaster import NumpyForecaster
from crevnet.loss import clip_loss
from crevnet.model import CrevNet
from crevnet.rollout import Stream, begin, forecast, look_ahead, observe

TINY = CrevNetConfig(channels=2, blocks=(2, 1), strides=(1, 2), modules=3, clip=3)
KINDS = {
    "3d": TINY,
    "3d, free": replace(TINY, anchored=False),
    "3d, ConvLSTM": replace(TINY, cell="conv_lstm"),
    "2d, two frames stacked": replace(TINY, dims=2, clip=2),
    "2d, single frames": replace(TINY, dims=2, clip=1, cell="released_st_lstm"),
    "2d, with a map": replace(TINY, dims=2, clip=2, static_channels=1),
}
LEADS = [0, 1, 2, 4, 7]


def network(config, seed=0):
    torch.manual_seed(seed)
    return CrevNet(config).double().eval()


def data(config, frames=6, batch=2, size=(16, 24)):
    generator = torch.Generator().manual_seed(1)
    movie = torch.rand(batch, frames, config.channels, *size, generator=generator).double()
    static = None
    if config.static_channels:
        static = torch.rand(batch, config.static_channels, *size, generator=generator).double()
    return movie, static


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_one_frame_at_a_time_is_the_same_as_all_at_once(kind):
    model, (movie, static) = network(KINDS[kind]), data(KINDS[kind])
    together = forecast(model, movie, LEADS, static)
    assert together.shape == (2, 5, 2, 16, 24)
    stream = Stream(movie[:, :1], static)
    if model.config.clip == 1:
        stream = begin(model, movie[:, :1], static)
    for frame in movie[:, 1:].unbind(1):
        stream = observe(model, stream, frame)
    torch.testing.assert_close(look_ahead(model, stream, LEADS), together, rtol=0, atol=1e-12)
    half = begin(model, movie[:, :4], static)
    for frame in movie[:, 4:].unbind(1):
        half = observe(model, half, frame)
    torch.testing.assert_close(look_ahead(model, half, LEADS), together, rtol=0, atol=1e-12)


@torch.no_grad()
def test_looking_ahead_leaves_the_stream_as_it_was():
    model, (movie, _) = network(TINY), data(TINY)
    stream = begin(model, movie)
    first = look_ahead(model, stream, LEADS)
    torch.testing.assert_close(look_ahead(model, stream, LEADS), first, rtol=0, atol=0)
    torch.testing.assert_close(look_ahead(model, stream, [1, 7]), first[:, [1, 4]])


def roll_out_through_frames(model, movie, leads):
    """The long way: every predicted clip is decoded, anchored, and encoded again."""
    halves, k = begin(model, movie), model.config.clip
    (a, b), memory, said = halves.halves, halves.memory, []
    for lead in range(leads[-1] + 1):
        if lead:
            (a, b), memory = model.predictor((a, b), memory)
        clip = model.decode((a, b), *movie.shape[-2:])
        said.append(clip[:, -1])
        known = max(0, k - 1 - lead) if model.config.anchored else 0
        clip = torch.cat((movie[:, movie.shape[1] - known :], clip[:, known:]), 1)
        again = model.encode(clip)
        a, b = again[0][0], again[1][0]
    return torch.stack(said, 1)[:, leads]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "map" not in kind])
@torch.no_grad()
def test_features_fed_back_are_the_same_as_frames_fed_back(kind):
    """The paper's shortcut: encoding what was decoded is the identity (section 2.1)."""
    model, (movie, _) = network(KINDS[kind]), data(KINDS[kind])
    long = roll_out_through_frames(model, movie, LEADS)
    torch.testing.assert_close(forecast(model, movie, LEADS), long, rtol=1e-9, atol=1e-10)


@torch.no_grad()
def test_anchoring_changes_only_what_follows_the_first_clip():
    movie, _ = data(TINY)
    anchored, free = (network(replace(TINY, anchored=value)) for value in (True, False))
    one, two = forecast(anchored, movie, LEADS), forecast(free, movie, LEADS)
    torch.testing.assert_close(one[:, 0], two[:, 0])
    assert (one[:, 1] - two[:, 1]).abs().max() > 1e-6


@torch.no_grad()
def test_the_last_step_of_teacher_forcing_is_lead_zero():
    for config in KINDS.values():
        model, (movie, static) = network(config), data(config)
        steps = model(movie, static)
        assert steps.shape == (2, 6 - config.clip, config.clip, 2, 16, 24)
        lead_zero = forecast(model, movie[:, :-1], [0], static)
        torch.testing.assert_close(steps[:, -1, -1], lead_zero[:, 0])


def test_the_loss_is_the_mean_over_steps_clips_and_cells():
    movie, _ = data(TINY, frames=7)
    predicted = torch.rand(2, 4, 3, 2, 16, 24).double()
    by_hand = [
        (predicted[:, step, place] - movie[:, step + 1 + place]).square().mean()
        for step in range(4)
        for place in range(3)
    ]
    torch.testing.assert_close(clip_loss(predicted, movie), torch.stack(by_hand).mean())
    new = torch.stack(by_hand[2::3])
    old = torch.stack(by_hand[0::3] + by_hand[1::3])
    weighted = (5 * new.sum() + old.sum()) / (4 * 7)
    torch.testing.assert_close(clip_loss(predicted, movie, new_frame=5), weighted)
    late = torch.stack(by_hand[9:]).mean()
    torch.testing.assert_close(clip_loss(predicted, movie, first_step=3), late)
    with pytest.raises(ValueError, match="from step 4"):
        clip_loss(predicted, movie, first_step=4)


def test_impossible_requests_name_both_numbers():
    model, (movie, _) = network(TINY), data(TINY)
    for request, said in (
        (lambda: forecast(model, movie, [2, 1]), "not rising"),
        (lambda: forecast(model, movie, []), "not rising"),
        (lambda: forecast(model, movie[:, :2], [0]), "2 frames of 2 channels, expected at least 3"),
        (lambda: forecast(model, movie[:, :, :1], [0]), "of 1 channels"),
        (lambda: forecast(model, movie, [0], movie[:, 0]), "static map .* expected None"),
        (lambda: look_ahead(model, Stream(movie[:, :2]), [0]), "2 frames were seen"),
        (lambda: model(movie[:, :3]), "3 frames, but clips of 3 and the next one take 4"),
    ):
        with pytest.raises(ValueError, match=said):
            request()
    mapped = network(KINDS["2d, with a map"])
    with pytest.raises(ValueError, match="static map None"):
        forecast(mapped, movie, [0])


@pytest.mark.parametrize("bfloat16", [False, True])
def test_the_front_door_takes_and_gives_arrays(bfloat16):
    torch.manual_seed(0)
    model = CrevNet(KINDS["2d, with a map"]).train()
    movie, static = (x.float().numpy() for x in data(model.config, batch=5, size=(17, 23)))
    door = NumpyForecaster(model, batch=2, bfloat16=bfloat16)
    said = door.forecast(movie, LEADS, static)
    assert (said.shape, said.dtype) == ((5, 5, 2, 17, 23), np.float32)
    assert said.min() >= 0
    assert said.max() <= 1
    assert model.training
    alone = NumpyForecaster(model, batch=1, bfloat16=bfloat16).forecast(movie, LEADS, static)
    # Rounding, grown over eight steps of a network that never learned.
    np.testing.assert_allclose(said, alone, atol=2e-2 if bfloat16 else 5e-5)
    with pytest.raises(ValueError, match="expected \\(B, T, C, H, W\\)"):
        door.forecast(movie[0], LEADS, static)
    with pytest.raises(ValueError, match="batches of 0"):
        NumpyForecaster(model, batch=0)


@pytest.mark.gpu
def test_a_gpu_forecasts_like_the_cpu():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA")
    torch.manual_seed(0)
    model = CrevNet(TINY)
    movie = data(TINY)[0].float().numpy()
    here = NumpyForecaster(model).forecast(movie, LEADS)
    there = NumpyForecaster(model, device="cuda").forecast(movie, LEADS)
    np.testing.assert_allclose(here, there, atol=1e-3)


def test_it_overfits_one_clip_to_near_zero():
    torch.manual_seed(0)
    config = CrevNetConfig(dims=2, clip=2, blocks=(2, 1), strides=(1, 2), modules=2)
    model = CrevNet(config)
    clip = torch.rand(1, 6, 1, 8, 12)
    optimiser = torch.optim.Adam(model.parameters(), 5e-3)
    losses = []
    for _ in range(400):
        loss = clip_loss(model(clip), clip)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    copy_last = (clip[:, 1:] - clip[:, :-1]).square().mean().item()
    assert losses[-1] < 0.01 * copy_last


@pytest.mark.parametrize("anchored", [True, False])
@pytest.mark.parametrize("dims", [2, 3])
def test_unrolling_says_what_a_forecast_and_teacher_forcing_say(dims, anchored):
    torch.manual_seed(0)
    config = CrevNetConfig(
        dims=dims, clip=3, blocks=(1, 1), strides=(1, 2), modules=2, anchored=anchored
    )
    model = CrevNet(config).double().eval()
    history = torch.rand(2, 6, 1, 9, 13).double()
    said = model.unroll(history, 4)
    assert said.shape == (2, 7, 1, 9, 13)
    with torch.no_grad():
        torch.testing.assert_close(said[:, -4:], forecast(model, history, range(4)))
        torch.testing.assert_close(said[:, :3], model(history)[:, :, -1])
    with pytest.raises(ValueError, match="horizon of 0"):
        model.unroll(history, 0)


@pytest.mark.parametrize("anchored", [True, False])
@pytest.mark.parametrize("segment", [1, 4])
def test_frugal_unrolling_has_the_same_gradients(anchored, segment):
    torch.manual_seed(0)
    config = CrevNetConfig(blocks=(1, 1), strides=(1, 2), modules=2, anchored=anchored)
    model = CrevNet(config).double()
    history = torch.rand(2, 6, 1, 8, 12).double()
    parameters = list(model.parameters())
    plain, frugal = (
        torch.autograd.grad(model.unroll(history, 3, **how).square().mean(), parameters)
        for how in ({}, {"memory": "frugal", "segment": segment})
    )
    for one, other in zip(plain, frugal, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)
