from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from crevnet.batch import Example, collate, frames
from crevnet.config import CrevNetConfig
from crevnet.correction import Correction
from crevnet.loss import clip_loss
from crevnet.model import CrevNet
from crevnet.objectives import RollOut, TeacherForcing, Trainee, mean_square
from crevnet.task import Task
from tests.toy_training import TASK, C, H, Toy, W, example

MIX = replace(TASK, base="mix", weights=((0.5, 0.25), (0.3, 0.05)))
BASES = {
    "none": replace(TASK, base="none"),
    "window_mean": replace(TASK, base="window_mean"),
    "climatology": TASK,
    "mix": MIX,
}


class Says(nn.Module):
    """Says one number, of as many history frames as asked, and remembers what it saw."""

    def __init__(self, value=0.0, early=0):
        super().__init__()
        self.value, self.early = value, early

    def unroll(self, history, horizon, static=None, *, memory="plain"):
        self.seen = history
        B, _, *frame = history.shape
        return torch.full((B, self.early + horizon, *frame), self.value)


def batch(task=TASK, count=3, static=0):
    return collate([example(i, task, static) for i in range(count)])


def usual_of(data):
    return data.usual.float()


def test_a_network_that_says_zero_is_exactly_the_naive_mix():
    data = batch(MIX)
    history, usual = frames(data.history), usual_of(data)
    weights = torch.tensor(MIX.weights)[..., None, None]
    mixed = weights * history.mean(1, keepdim=True) + (1 - weights) * usual[:, [4, 6]]
    silent = Correction(Says(early=2), MIX)
    torch.testing.assert_close(silent.forecast(data), mixed, rtol=0, atol=1e-7)
    torch.testing.assert_close(silent.naive(data), silent.forecast(data), rtol=0, atol=0)


def test_the_mix_of_a_history_frame_knows_only_what_came_before_it():
    data = batch(MIX)
    history, usual = frames(data.history), usual_of(data)
    said = Correction(Says(early=3), MIX)(history, data.usual)
    assert said.shape == (3, 6, C, H, W)
    w = torch.tensor(MIX.weights[0])[:, None, None]
    for place, frame in enumerate((1, 2, 3)):
        before = history[:, :frame].mean(1)
        torch.testing.assert_close(said[:, place], w * before + (1 - w) * usual[:, frame])
    between = torch.tensor([0.4, 0.15])[:, None, None]  # lead 1 was not asked for
    expected = between * history.mean(1) + (1 - between) * usual[:, 5]
    torch.testing.assert_close(said[:, 4], expected)


@pytest.mark.parametrize("base", BASES)
def test_what_is_seen_and_said_are_scaled_differences_to_the_base(base):
    task = BASES[base]
    data = batch(task)
    history, silent, loud = frames(data.history), Says(0.0, 1), Says(0.5, 1)
    quiet = Correction(silent, task)(history, data.usual)
    torch.testing.assert_close(Correction(loud, task)(history, data.usual), quiet + 0.25)
    torch.testing.assert_close(silent.seen, Correction(silent, task).seen(history, data.usual))
    below = {
        "none": torch.zeros_like(history),
        "window_mean": history.mean(1, keepdim=True).expand_as(history),
    }.get(base)
    below = usual_of(data)[:, :4] if below is None else below
    torch.testing.assert_close(silent.seen / 2 + below, history)
    if base in ("none", "window_mean", "climatology"):
        expected = usual_of(data)[:, 3:] if base == "climatology" else below[:, :1].expand_as(quiet)
        torch.testing.assert_close(quiet, expected)


@pytest.mark.parametrize("base", BASES)
def test_a_perfect_network_is_perfect_whatever_the_base(base):
    task = BASES[base]
    data = batch(task)
    truth = torch.rand(3, 3, C, H, W)
    correction = Correction(Says(), task)
    under = correction.base(frames(data.history), data.usual, 3)
    correction.network.unroll = lambda *_, **__: (truth - under) * task.scale
    torch.testing.assert_close(correction.forecast(data), truth[:, [0, 2]], atol=1e-6, rtol=0)


def test_forecasts_are_clipped_and_forward_is_not():
    data = batch(BASES["none"])
    correction = Correction(Says(9.0), BASES["none"])
    assert correction.forecast(data).max() == 1
    assert correction(frames(data.history)).max() == 4.5


def test_roll_out_weighs_leads_and_one_step_predictions():
    data = batch()
    history, future = frames(data.history), frames(data.future)
    correction = Correction(Toy(dropout=0).eval(), TASK)
    said = correction(history, data.usual)
    assert said.shape[1] == 6
    ahead = (said[:, [3, 5]] - future).square()
    early = (said[:, :3] - history[:, 1:]).square()
    both = RollOut(2.0, 0.5)(correction, data, "plain")
    torch.testing.assert_close(both, 2 * ahead.mean() + 0.5 * early.mean())
    share = RollOut(channel_weights=(3, 1))(correction, data, "plain")
    by_channel = ahead.mean((0, 1, 3, 4))
    torch.testing.assert_close(share, (3 * by_channel[0] + by_channel[1]) / 4)
    torch.testing.assert_close(mean_square(said, said * 0, (5, 5)), mean_square(said, said * 0))
    with pytest.raises(ValueError, match="at least 11 x 11"):  # smaller than its window
        RollOut(structure=1)(correction, data, "plain")
    said = Trainee(correction, RollOut()).identity()["objective"]  # as before it could be asked
    assert said == "RollOut(forecast=1.0, teacher=0.0, channel_weights=None)"
    assert "structure=0.5" in Trainee(correction, RollOut(structure=0.5)).identity()["objective"]
    alone = Correction(Says(), TASK)  # nothing said on the way: nothing to teach
    torch.testing.assert_close(RollOut(1, 1)(alone, data, "plain"), RollOut()(alone, data, "plain"))


def test_teacher_forcing_is_the_clip_loss_in_units_of_frames():
    task = replace(TASK, leads=(0, 1, 2), base="none", scale=3.0)
    torch.manual_seed(0)
    config = CrevNetConfig(
        channels=C, dims=2, clip=2, blocks=(1, 1), strides=(1, 2), modules=2, anchored=False
    )
    network, data = CrevNet(config), batch(task)
    movie = torch.cat((frames(data.history), frames(data.future)), 1)
    expected = clip_loss(network(movie * 3), movie * 3, new_frame=2.0) / 9
    found = Trainee(Correction(network, task), TeacherForcing(new_frame=2.0))(data)
    torch.testing.assert_close(found, expected)
    for impossible in (TASK, replace(task, base="window_mean")):
        with pytest.raises(ValueError, match="teacher forcing with leads"):
            TeacherForcing()(Correction(network, impossible), batch(impossible), "plain")


def test_crevnet_sees_extra_channels_and_says_its_history():
    task = replace(TASK, inputs=("activity", "hour"))
    torch.manual_seed(0)
    config = CrevNetConfig(
        channels=C, static_channels=3, dims=2, clip=2, blocks=(1, 1), strides=(1, 2), modules=2
    )
    data, correction = batch(task, static=3), Correction(CrevNet(config), task)
    assert correction(frames(data.history), data.usual, data.static).shape == (3, 5, C, H, W)
    losses = []
    for memory in ("plain", "frugal"):
        correction.zero_grad()
        loss = Trainee(correction, RollOut(teacher=1))(data, memory)
        loss.backward()
        losses.append([loss, *(p.grad for p in correction.parameters())])
    torch.testing.assert_close(*losses, rtol=1e-3, atol=1e-6)


def test_what_does_not_fit_the_task_is_refused():
    data, correction = batch(), Correction(Says(), TASK)
    history, usual = frames(data.history), data.usual
    for call, said in (
        (lambda: correction(history[:, 1:], usual), "history of 3 frames, expected 4"),
        (lambda: correction(history), "usual is missing, but the base is 'climatology'"),
        (lambda: correction(history, usual[:, 1:]), r"usual is \(3, 6, .* expected \(3, 7"),
        (lambda: correction(history, usual, usual[:, 0]), "extra channels are given"),
        (lambda: Correction(Says(), BASES["none"])(history, usual), "usual is given"),
        (lambda: Correction(Says(early=4), TASK)(history, usual), "7 frames of 4 seen"),
        (lambda: RollOut(channel_weights=(1,))(correction, data, "plain"), "1 channel weights"),
        (lambda: RollOut(0, 0), "all 0"),
        (lambda: RollOut(1, -1), "below 0"),
    ):
        with pytest.raises(ValueError, match=said):
            call()


def test_a_task_survives_being_written_down():
    task = replace(MIX, inputs=("hour",), edition="toy", cities=("Arbon",), grid=(H, W))
    assert Task.from_dict(task.to_dict()) == task
    for spoiled, said in (
        ({"surprise": 1}, "surprise"),
        ({"leads": [2, 0]}, "leads"),
        ({"leads": [0]}, "2 rows"),
        ({"base": "none"}, "a mix has them"),
        ({"base": "other"}, "'other'"),
        ({"weights": [[1.0], [1.0]]}, "leads of 2 channels"),
        ({"scale": 0}, "scale 0"),
        ({"history": 0}, "history 0"),
    ):
        with pytest.raises((TypeError, ValueError), match=said):
            Task.from_dict(task.to_dict() | spoiled)


def test_a_batch_names_what_does_not_belong_together():
    one, two = example(0), example(1)
    together = collate([one, two])
    assert (together.size, together.where) == (2, ("window 0", "window 1"))
    assert together.history.dtype == torch.uint8
    np.testing.assert_array_equal(together.usual[1].numpy(), two.usual)
    assert together.to("cpu").where == together.where
    with pytest.raises(ValueError, match="history of different shapes.*window 1"):
        collate([one, replace(two, history=two.history[1:])])
    with pytest.raises(ValueError, match="usual of different shapes"):
        collate([one, replace(two, usual=None)])
    with pytest.raises(ValueError, match="no examples"):
        collate([])
    assert collate([Example(one.history, one.future)]).usual is None


def test_a_network_that_sees_less_still_corrects_the_whole_mix():
    weights = ((0.3, 0.6),)
    task = Task((0,), 5, "mix", weights=weights, sees=2)
    seen = []

    class Zero(nn.Module):
        def unroll(self, history, horizon, static=None, *, memory="plain"):
            seen.append(history.shape[1])
            return history.new_zeros(len(history), horizon, *history.shape[2:])

    torch.manual_seed(0)
    history, usual = torch.rand(2, 5, 2, 3, 4), torch.rand(2, 6, 2, 3, 4)
    said = Correction(Zero(), task).ahead(history, usual, None)
    w = torch.tensor(weights)[0][:, None, None]
    torch.testing.assert_close(said[:, 0], w * history.mean(1) + (1 - w) * usual[:, 5])
    assert seen == [2]
    with pytest.raises(ValueError, match="sees 6 frames of a history of 5"):
        Task((0,), 5, sees=6)


def test_what_was_recent_comes_in_as_planes_after_the_others():
    task = Task((0,), 4, "climatology", scale=2.0, inputs=("a",), sees=1, recent=True)
    given = []

    class Zero(nn.Module):
        def unroll(self, history, horizon, static=None, *, memory="plain"):
            given.append(static)
            return history.new_zeros(len(history), horizon, *history.shape[2:])

    torch.manual_seed(0)
    history, usual = torch.rand(2, 4, 2, 3, 5), torch.rand(2, 5, 2, 3, 5)
    plane = torch.rand(2, 1, 3, 5)
    Correction(Zero(), task).ahead(history, usual, plane)
    (static,) = given
    torch.testing.assert_close(static[:, :1], plane)
    torch.testing.assert_close(static[:, 1:], 2 * (history - usual[:, :4]).mean(1))
