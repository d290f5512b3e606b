"""Features by name from a frozen CrevNet, and the head on them: laws, one by one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.ops import box_iou

from crevnet.checkpoint import CheckpointError, header_text, read_header, write_file
from crevnet.detection.anchors import RATIOS, SIZES, Anchors
from crevnet.detection.batch import Target, side_by_side
from crevnet.detection.checkpoint import HEAD_FORMAT, load_head, read_provenance, save_head
from crevnet.detection.detector import Choice, Detector, HeadLearner
from crevnet.detection.features import (
    ChangedWeightsError,
    FrozenCrevNet,
    extract,
    feature_names,
    fingerprint,
    part_channels,
)
from crevnet.detection.head import DetectionHead, HeadConfig
from crevnet.detection.loss import CODER, IGNORED, NOTHING, MultiBox
from crevnet.settings import TrainingSettings
from crevnet.training import train
from tests.detection_world import SIZE, tiny
from tests.kitti_boxes import read_archive

H, W = SIZE


def clips(count=1, frames=4, seed=0):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.integers(0, 256, (count, frames, 3, H, W), dtype=np.uint8))


def target(boxes=(), classes=(), ignored=()):
    return Target(
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        torch.tensor(classes, dtype=torch.int64),
        torch.tensor(ignored, dtype=torch.float32).reshape(-1, 4),
    )


def head_on(frozen, **change):
    given = {"width": 8, "depth": 1, "sizes": ((8.0, 14.0), (28.0,)), "ratios": (0.5, 2.0)}
    torch.manual_seed(1)
    config = HeadConfig(frozen.channels, frozen.network.config.factor)
    return DetectionHead(HeadConfig(config.channels, config.stride, **(given | change)))


# --- features


@pytest.mark.parametrize(("dims", "clip"), [(2, 1), (2, 2), (3, 2), (3, 3)])
def test_features_have_names_and_one_shape(dims, clip):
    network = tiny(dims=dims, clip=clip).eval()
    found = extract(network, clips(2).float() / 255)
    assert [*found] == [
        "autoencoder.a", "autoencoder.b",
        "predictor.rpms.0.gate", "predictor.rpms.1.gate", "predictor.rpms.2.gate",
    ]  # fmt: skip
    channels = network.config.width * (clip if dims == 3 else 1)
    assert part_channels(network.config) == channels
    assert {tuple(part.shape) for part in found.values()} == {(2, channels, H // 4, W // 4)}
    both, masks = (FrozenCrevNet(network, kind) for kind in ("masks_and_features", "masks"))
    assert both(clips(2)).shape == (2, both.channels, H // 4, W // 4)
    np.testing.assert_array_equal(both(clips(2))[:, 2 * channels :], masks(clips(2)))
    assert feature_names(network.config, "masks") == tuple(found)[2:]


def test_sizes_that_need_padding_are_padded_below_and_right():
    network, frames = tiny().eval(), clips()[..., : H - 3, : W - 1].float() / 255
    whole = torch.zeros(1, 4, 3, H, W)
    whole[..., : H - 3, : W - 1] = frames
    by_hand = extract(network, whole)
    for name, part in extract(network, frames).items():
        torch.testing.assert_close(part, by_hand[name])


@pytest.mark.parametrize(("dims", "cell"), [(2, "st_lstm"), (3, "conv_lstm")])
def test_masks_are_what_the_predictor_used_at_the_step_that_sees_the_target(dims, cell):
    network = tiny(dims=dims, cell=cell, attention="double").eval()
    logits = {number: [] for number in range(3)}
    for number, rpm in enumerate(network.predictor.rpms):
        rpm.attention.register_forward_hook(
            lambda module, seen, said, kept=logits[number]: kept.append(said.detach().clone())
        )
    frames = clips(2).float() / 255
    with torch.no_grad():
        network(frames=torch.cat((frames, frames[:, -1:]), 1))  # steps 0 .. 2, the last on 2, 3
    used = {n: 0.9 * torch.sigmoid(kept[2]) for n, kept in logits.items()}
    assert all(len(kept) == 3 for kept in logits.values())
    found = extract(network, frames)
    for number, gate in used.items():
        folded = gate.flatten(1, 2) if dims == 3 else gate
        torch.testing.assert_close(found[f"predictor.rpms.{number}.gate"], folded)
        assert 0 < float(folded.min()) < float(folded.max()) < 0.9


def test_halves_are_those_of_the_clip_that_ends_with_the_target():
    network = tiny().eval()
    frames = clips().float() / 255
    found = extract(network, frames)
    with torch.no_grad():
        a, b = network.encode(frames[:, -2:])
        whole = network.decode((a[0], b[0]), H, W)
    torch.testing.assert_close(found["autoencoder.a"], a[0])
    torch.testing.assert_close(found["autoencoder.b"], b[0])
    torch.testing.assert_close(whole[0, -1], frames[0, -1], atol=1e-4, rtol=0)  # nothing is lost


def test_masks_see_what_came_before_and_halves_do_not():
    network, frames = tiny().eval(), clips().float() / 255
    other = frames.clone()
    other[:, 0] = 0
    before, after = extract(network, frames), extract(network, other)
    torch.testing.assert_close(before["autoencoder.a"], after["autoencoder.a"])
    assert not torch.equal(before["predictor.rpms.0.gate"], after["predictor.rpms.0.gate"])


# --- frozen


def test_a_fingerprint_is_of_values_names_and_shapes():
    first, same, other = nn.Linear(3, 2), nn.Linear(3, 2), nn.Linear(2, 3)
    same.load_state_dict(first.state_dict())
    assert fingerprint(first) == fingerprint(same) != fingerprint(other)
    with torch.no_grad():
        same.bias[1] += 1e-6
    assert fingerprint(first) != fingerprint(same)


def test_a_head_sees_the_same_in_every_precision():
    frozen = FrozenCrevNet(tiny(), "masks_and_features")
    seen = frozen(clips(2))
    with torch.autocast("cpu", torch.bfloat16):
        under = frozen(clips(2))
    assert under.dtype == torch.float32
    assert torch.equal(under, seen)


class Given:
    """The same few pictures again and again, whole or as features."""

    def __init__(self, seen, targets):
        self.seen, self.targets = seen, targets

    def __len__(self):
        return 2

    def batches(self, epoch, first=0):
        for _ in range(first, 2):
            yield side_by_side(list(self.seen), self.targets, ["0", "1"])


@pytest.mark.parametrize("precision", ["32", "bf16"])
@pytest.mark.parametrize("features", [False, True])
def test_training_a_head_leaves_the_network_as_it_was(tmp_path, features, precision):
    frozen = FrozenCrevNet(tiny(dropout=0.3), "masks_and_features")
    weights = {name: value.clone() for name, value in frozen.network.state_dict().items()}
    head = head_on(frozen)
    before = fingerprint(head)
    seen = frozen(clips(2)) if features else clips(2)
    targets = [target([[4, 4, 20, 24]], [1]), target()]
    settings = TrainingSettings(batch=2, steps=3, accelerator="cpu", threads=1, precision=precision)
    learner = HeadLearner(frozen, head, MultiBox())
    saved = []
    train(learner, Given(seen, targets), None, settings, tmp_path, save_best=saved.append)
    assert frozen.check() == frozen.weights == fingerprint(frozen.network)
    assert fingerprint(head) != before
    assert [*saved[-1]] == [*head.state_dict()]  # of the head alone
    assert not frozen.network.training
    for name, value in frozen.network.state_dict().items():
        assert torch.equal(value, weights[name])
    assert all(p.grad is None and not p.requires_grad for p in frozen.parameters())


def test_windows_to_score_are_not_for_heads(tmp_path):
    frozen = FrozenCrevNet(tiny(), "masks")
    learner = HeadLearner(frozen, head_on(frozen), MultiBox())
    settings = TrainingSettings(batch=2, steps=1, accelerator="cpu", threads=1)
    with pytest.raises(ValueError, match="windows to score a HeadLearner"):
        train(learner, Given(clips(2), [target()] * 2), [], settings, tmp_path)


def test_weights_that_changed_are_told_and_nothing_is_saved(tmp_path):
    frozen = FrozenCrevNet(tiny(), "masks")
    head = head_on(frozen)
    next(frozen.parameters()).data[0] += 1
    with pytest.raises(ChangedWeightsError, match=frozen.weights[:16]):
        save_head(tmp_path / "head.safetensors", head, frozen, "crevnet.safetensors", {})
    assert not [*tmp_path.iterdir()]


def test_a_head_goes_with_its_own_crevnet_alone(tmp_path):
    frozen, path = FrozenCrevNet(tiny(), "masks"), tmp_path / "head.safetensors"
    head = head_on(frozen)
    save_head(path, head, frozen, "mine.safetensors", {"learned": {"pictures": 2}})
    config, origin, extra = read_provenance(path)
    assert (config, extra) == (head.config, {"learned": {"pictures": 2}})
    assert origin.file == "mine.safetensors"
    assert origin.weights == origin.weights_after == frozen.weights
    again = load_head(path, frozen)
    assert fingerprint(again) == fingerprint(head)
    for other, said in (
        (FrozenCrevNet(tiny(seed=1), "masks"), "weights"),
        (FrozenCrevNet(tiny(), "masks_and_features"), "inputs masks, here masks_and_features"),
        (FrozenCrevNet(tiny(), "masks", scale=2.0), "scale 1.0, here 2.0"),
    ):
        with pytest.raises(CheckpointError, match=rf"head.*mine.safetensors.*{said}"):
            load_head(path, other)


def test_other_files_are_no_heads(tmp_path):
    frozen, path = FrozenCrevNet(tiny(), "masks"), tmp_path / "head.safetensors"
    with pytest.raises(CheckpointError, match="no such file"):
        load_head(path, frozen)
    save_head(path, head_on(frozen), frozen, "mine", {})
    data = path.read_bytes()
    for spoiled, said in (
        (data[: len(data) // 2], "not a whole safetensors file"),
        (data.replace(b'\\"depth\\"', b'\\"death\\"'), "header is not one of a head"),
        (data.replace(b'\\"width\\": 8', b'\\"width\\": 9'), "weights do not fit"),
    ):
        assert spoiled != data
        path.write_bytes(spoiled)
        with pytest.raises(CheckpointError, match=said):
            load_head(path, frozen)


@pytest.mark.parametrize("change", [{"depth": 10**9}, {"sizes": ((8.0,),) * 10**5}])
def test_a_header_builds_no_more_than_there_are_weights(tmp_path, change):
    frozen, path = FrozenCrevNet(tiny(), "masks"), tmp_path / "head.safetensors"
    head = head_on(frozen)
    save_head(path, head, frozen, "mine", {})
    value, _ = read_header(path, HEAD_FORMAT)
    value["head"] |= change
    write_file(head, path, {HEAD_FORMAT: header_text(value)})
    with pytest.raises(CheckpointError, match="do not fit the config: 18 tensors, expected at"):
        load_head(path, frozen)


# --- anchors, matching, loss


def test_anchors_lie_in_the_middle_of_cells_in_the_order_in_which_a_head_speaks():
    made = Anchors(((6.0, 8.0), (20.0,)), (0.5, 2.0))
    boxes = made.on([(2, 3), (1, 2)], [4, 8], torch.device("cpu"))
    assert made.each == [4, 2]
    assert len(boxes) == 2 * 3 * 4 + 2 * 2
    middles = (boxes[:, :2] + boxes[:, 2:]) / 2
    expected = [(x, y) for y in (2.0, 6.0) for x in (2.0, 6.0, 10.0) for _ in range(4)]
    expected += [(x, 4.0) for x in (4.0, 12.0) for _ in range(2)]
    torch.testing.assert_close(middles, torch.tensor(expected))
    width, height = (boxes[:, 2] - boxes[:, 0]), (boxes[:, 3] - boxes[:, 1])
    torch.testing.assert_close((width * height).sqrt()[:4], torch.tensor([6.0, 8.0, 6.0, 8.0]))
    torch.testing.assert_close((height / width)[:4], torch.tensor([0.5, 0.5, 2.0, 2.0]))
    frozen = FrozenCrevNet(tiny(), "masks")
    head = head_on(frozen)
    logits, codes, anchors = head(frozen(clips(2)))
    cells = (H // 4) * (W // 4) * 4 + (H // 8) * (W // 8) * 2
    assert (len(anchors), logits.shape, codes.shape) == (cells, (2, cells, 4), (2, cells, 4))
    finer = head_on(frozen, finer=2)
    assert finer.shuffle(finer.enter(frozen(clips()))).shape == (1, 8, H // 2, W // 2)
    assert finer.config.strides == (2, 4)
    assert finer(frozen(clips()))[0].shape[1] == (H // 2) * (W // 2) * 4 + (H // 4) * (W // 4) * 2


def test_anchors_meet_the_labels_of_kitti(shared):
    archive = shared / "kitti_object" / "label_2_all7481.tar.xz"
    if not archive.is_file():
        pytest.skip(f"no {archive}")
    maps = [(32, 104), (16, 52), (8, 26)]
    anchors = Anchors(SIZES, RATIOS).on(maps, [4, 8, 16], torch.device("cpu"))
    best = {"Car": [], "Pedestrian": [], "Cyclist": []}
    for labels in read_archive(archive, every=40).values():
        counted = [
            one for one in labels
            if one.kind in best and one.height >= 25 and one.occluded < 3 and one.truncated <= 0.5
        ]  # fmt: skip
        if counted:
            boxes = torch.tensor([one.box for one in counted]) * torch.tensor(
                [416 / 1242, 128 / 375] * 2
            )
            found = box_iou(boxes, anchors).max(1).values.tolist()
            for one, overlap in zip(counted, found, strict=True):
                best[one.kind].append(overlap)
    assert len(best["Car"]) > 400
    for kind, least in (("Car", 0.98), ("Pedestrian", 0.9), ("Cyclist", 0.9)):
        assert np.mean(np.array(best[kind]) > 0.5) > least, kind


def test_every_object_has_an_anchor_and_ignored_places_none():
    anchors = Anchors(((8.0,), (16.0,)), (1.0,)).on([(8, 26), (4, 13)], [4, 8], torch.device("cpu"))
    odd = [10.3, 2.0, 13.1, 31.0]  # like no anchor
    square = [36.0, 4.0, 52.0, 20.0]
    classes, boxes = MultiBox(0.3).match(anchors, target([odd, square], [2, 1], [[60, 0, 104, 32]]))
    overlaps = box_iou(torch.tensor([odd, square]), anchors)
    assert overlaps[0].max() < 0.3
    assert (classes == 2).sum() == 1
    assert classes[overlaps[0].argmax()] == 2
    assert boxes[classes == 1].unique().tolist() == [1]
    assert torch.equal(classes == 1, overlaps[1] >= 0.3)
    assert (classes == 1).sum() == 5
    middle = (anchors[:, 0] + anchors[:, 2]) / 2
    assert (classes[middle > 66] == IGNORED).all()
    assert (classes[middle < 34][classes[middle < 34] != 2] == NOTHING).all()


def test_the_loss_as_written_out():
    torch.manual_seed(0)
    anchors = Anchors(((8.0,),), (1.0,)).on([(3, 4)], [8], torch.device("cpu"))
    logits, codes = torch.randn(1, 12, 3), torch.randn(1, 12, 4)
    box = [9.0, 9.0, 15.0, 16.0]
    said = MultiBox(negatives=3, least=2)(
        logits, codes, anchors, (target([box], [2], [[24, 0, 32, 24]]),)
    )
    sure = -logits[0].log_softmax(-1)
    objects = [5]  # row 1, column 1
    nothing = [n for n in range(12) if n not in objects and n % 4 != 3]
    hardest = sorted((float(sure[n, 0]) for n in nothing), reverse=True)[:3]
    truth = CODER.encode_single(torch.tensor([box]), anchors[5:6])
    far = (codes[0, 5] - truth[0]).abs()
    place = torch.where(far < 1, far**2 / 2, far - 0.5).sum()
    expected = float(sure[5, 2]) + sum(hardest) + float(place)
    assert float(said) == pytest.approx(expected, rel=1e-5)
    empty = MultiBox(least=2)(logits, codes, anchors, (target(),))
    both = sorted(map(float, sure[:, 0]), reverse=True)[:2]
    assert float(empty) == pytest.approx(sum(both), rel=1e-5)  # a street without objects teaches


@pytest.mark.parametrize("spread", [1.0, 3e-4])
def test_each_channel_is_normalised_by_itself_however_little_it_differs(spread):
    head = DetectionHead(HeadConfig(5, 4))
    noise = torch.randn(2, 5, 6, 7, generator=torch.manual_seed(0))
    seen = torch.tensor([0.0, 0.1, 0.2, 0.5, 0.9])[:, None, None] + spread * noise
    said = head.norm(seen)
    np.testing.assert_allclose(said.mean((2, 3)).detach(), 0, atol=1e-3)
    np.testing.assert_allclose(said.std((2, 3), correction=0).detach(), 1, rtol=5e-3)


def test_a_finer_head_learns_which_channels_make_the_finer_cells():
    head = head_on(FrozenCrevNet(tiny(), "masks"), finer=2)
    with torch.no_grad():  # of every map the lower right of four cells alone
        head.enter.weight.zero_()
        head.enter.bias.copy_(torch.tensor([0.0, 0, 0, 1]).repeat(8))
    said = head.shuffle(head.enter(torch.zeros(1, head.config.channels, 3, 5)))
    assert said.shape == (1, 8, 6, 10)
    assert said.sum().item() == said[..., 1::2, 1::2].sum().item() == 8 * 3 * 5


def test_what_is_told_is_sure_apart_and_inside():
    anchors = torch.tensor([[0.0, 0, 10, 10], [1, 0, 11, 10], [50, 0, 60, 10], [98, 26, 110, 40]])
    logits = torch.full((4, 3), -5.0)
    for place, (kind, value) in enumerate([(1, 3.0), (1, 4.0), (2, 2.0), (1, 1.0)]):
        logits[place, kind] = value
    found = Choice(least=0.1).of(logits, torch.zeros(4, 4), anchors, (H, W))
    assert found.classes.tolist() == [1, 2, 1]  # the surer of the first two
    assert found.boxes[0].tolist() == [1, 0, 11, 10]
    assert found.boxes[2].tolist() == [98, 26, W, H]
    assert (found.scores.diff() <= 0).all()
    assert len(Choice(least=0.1, most=1).of(logits, torch.zeros(4, 4), anchors, (H, W)).boxes) == 1
    none = Choice(least=0.9999).of(logits, torch.zeros(4, 4), anchors, (H, W))
    assert none.boxes.shape == (0, 4)


def test_a_code_and_its_box_are_each_other():
    rng = torch.Generator().manual_seed(0)
    corner, size = (torch.rand(9, 2, generator=rng, dtype=torch.float64) * 40 + 3 for _ in "cs")
    boxes = torch.cat((corner, corner + size), 1)
    anchors = boxes.roll(1, 0)
    again = CODER.decode_single(CODER.encode_single(boxes, anchors), anchors)
    torch.testing.assert_close(again, boxes, atol=1e-9, rtol=0)


def test_a_clip_is_seen_alike_alone_and_beside_others():
    frozen = FrozenCrevNet(tiny(), "masks_and_features")
    features = frozen(clips(3))
    torch.testing.assert_close(features[1:2], frozen(clips(3)[1:2]), atol=1e-6, rtol=1e-5)
    head = head_on(frozen).eval().double()  # a channel that hardly differs is made large
    several, alone = head(features.double()), head(features[1:2].double())
    for together, by_itself in zip(several[:2], alone[:2], strict=True):
        torch.testing.assert_close(together[1], by_itself[0], atol=1e-9, rtol=1e-9)
    head = head.float()
    found = Detector(frozen, head, Choice(least=0.0, most=5)).detect(clips(3))
    assert [len(one.boxes) for one in found] == [5, 5, 5]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"width": 0}, "at least 1"),
        ({"finer": 3}, "3 times finer"),
        ({"ratios": ()}, "expected above 0"),
        ({"sizes": ((8.0,), (-1.0,))}, "expected above 0"),
        ({"classes": ("Car", "Car")}, "expected each once"),
    ],
)
def test_impossible_heads_are_refused(change, said):
    with pytest.raises(ValueError, match=said):
        HeadConfig(48, 4, **change)
