"""Two ways to roll out overlapping clips, each restated and held against the network's own."""

from __future__ import annotations

import pytest
import torch

from crevnet.correction import Correction
from crevnet.protocols import forecast_by, roll_out_clips, roll_out_features
from crevnet.task import Task
from crevnet.zoo import build

HISTORY, HORIZON = 5, 4
TINY = {"blocks": [1, 1], "strides": [1, 2], "modules": 2}


def network(dims=3, clip=3, **more):
    torch.manual_seed(0)
    model = build(f"small_mnist_{dims}d", channels=1, **TINY | {"clip": clip} | more).eval()
    for parameter in model.parameters():  # far from where little moves
        torch.nn.init.normal_(parameter, std=0.15)
    return model


def history(channels=1):
    torch.manual_seed(1)
    return torch.rand(2, HISTORY, channels, 12, 20)


def restated(model, frames, k):
    """The authors' roll-out from the facts: clip numbers, patches, last frames."""
    clips = [frames[:, i : i + k] for i in range(HISTORY - k + 1)]
    memory, said, patched = None, [], clips[-1]
    for number in range(len(clips) - 1 + HORIZON):
        clip = clips[number] if number < len(clips) else patched
        a, b = model.encode(clip)
        memory = memory or model.predictor.start(a[0])
        (a, b), memory = model.predictor((a[0], b[0]), memory)
        after = model.decode((a, b), 12, 20)  # the clip that begins a frame later
        if number >= len(clips) - 1:
            said.append(after[:, -1])
        patched = after.clone()
        for place in range(k):
            frame = number + 1 + place
            if frame < HISTORY:
                patched[:, place] = frames[:, frame]
    return torch.stack(said, 1)


@torch.no_grad()
@pytest.mark.parametrize(("dims", "clip"), [(3, 3), (2, 2), (3, 2)])
def test_the_authors_protocol_is_their_roll_out(dims, clip):
    model, frames = network(dims, clip), history()
    said = roll_out_clips(model, frames, HORIZON)
    torch.testing.assert_close(said, restated(model, frames, clip), atol=1e-5, rtol=1e-4)
    assert model.config.anchored
    own = model.unroll(frames, HORIZON)[:, -HORIZON:]
    torch.testing.assert_close(said, own, atol=1e-4, rtol=1e-3)


@torch.no_grad()
def test_the_clean_protocol_feeds_features_back():
    model, frames = network(), history()
    loose = build("small_mnist_3d", channels=1, **TINY, anchored=False).eval()
    loose.load_state_dict(model.state_dict())
    clean = roll_out_features(model, frames, HORIZON)
    own = loose.unroll(frames, HORIZON)[:, -HORIZON:]
    torch.testing.assert_close(clean, own, atol=1e-5, rtol=1e-4)
    authors = roll_out_clips(model, frames, HORIZON)
    torch.testing.assert_close(clean[:, 0], authors[:, 0], atol=1e-5, rtol=1e-4)
    assert (clean[:, 1:] - authors[:, 1:]).abs().amax((0, 2, 3, 4)).min() > 1e-3


@torch.no_grad()
def test_without_overlap_both_are_one():
    model, frames = network(2, 1), history()
    clean, authors = (roll(model, frames, HORIZON) for roll in (roll_out_features, roll_out_clips))
    torch.testing.assert_close(clean, authors, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_a_history_of_one_clip_is_enough():
    model, frames = network(), history()[:, :3]
    first = roll_out_clips(model, frames, 2)[:, 0]
    torch.testing.assert_close(first, roll_out_features(model, frames, 2)[:, 0])


@torch.no_grad()
@pytest.mark.parametrize("protocol", ["authors", "clean"])
def test_a_task_is_forecast_by_either(protocol):
    model, frames = network(), history()
    task = Task(leads=(0, 1, 3), history=HISTORY, scale=2.0)
    said = forecast_by(Correction(model, task).eval(), frames, protocol)
    roll = {"authors": roll_out_clips, "clean": roll_out_features}[protocol]
    torch.testing.assert_close(said, roll(model, frames * 2, HORIZON)[:, [0, 1, 3]] / 2)
    other = build("unet_small_conv_lstm", channels=1, width=4, widest=8).eval()
    correction = Correction(other, task).eval()
    whole = correction(frames)[:, -HORIZON:][:, [0, 1, 3]]
    torch.testing.assert_close(forecast_by(correction, frames, protocol), whole)


def test_corrections_are_refused():
    task = Task(leads=(0,), history=HISTORY, base="window_mean")
    with pytest.raises(ValueError, match="base 'window_mean'"):
        forecast_by(Correction(network(), task), history(), "clean")
