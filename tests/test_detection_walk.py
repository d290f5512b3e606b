"""t4c detect: from drawn pictures to AP and back, killed and gone on with, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from typer.testing import CliRunner

from crevnet.curves import CSV, read_curve
from crevnet.detection.checkpoint import read_provenance
from crevnet.detection.detector import HeadLearner
from crevnet.detection.features import fingerprint
from flows.cli import app
from flows.config import read_as
from flows.detect import detect
from flows.detection.config import DetectionConfig
from flows.detection.data import PictureBatches, learned_from
from flows.detection.train import train_head
from flows.kitti_ap import kitti_ap
from flows.recipe import StoppedError
from pipeline.errors import ConfigError, LabelError, ModelError, VideoError
from pipeline.kitti.labels import read_detections, read_labels
from tests.conftest import ROOT
from tests.detection_world import SIZE, STREET, add_preceding, build_street, save_crevnet, tiny

FEW = ("heads.both.training.steps=4", "heads.both.training.log_every=1")


@pytest.fixture
def street(tmp_path):
    build_street(tmp_path)
    return tmp_path


def configured(street, *overrides):
    return read_as(DetectionConfig, street / "run.yaml", list(overrides))


def told(street, *words):
    return CliRunner().invoke(app, ["detect", str(street / "run.yaml"), *words])


def test_from_pictures_to_average_precision(street):
    result = told(street, "--json")
    assert result.exit_code == 0, result.stderr
    facts = json.loads(result.stdout.splitlines()[-1])
    assert (facts["pictures"], facts["learned_from"], facts["stills"]) == (3, 3, 3)
    assert "no measure of detection elsewhere" in result.stdout
    out = street / "out"
    curve = read_curve(out / "heads" / "both" / CSV)
    assert curve[-1]["loss"] < 0.2 * curve[0]["loss"]
    ours, best = facts["AP11"]["both"], facts["AP11"]["the labels themselves"]
    kinds = ("Car easy", "Pedestrian moderate", "Cyclist hard")
    assert min(best[kind] for kind in kinds) > 0
    assert sum(ours[kind] for kind in kinds) > sum(best[kind] for kind in kinds) / 3  # by heart
    assert ours["FPS"] > 0
    right = sure_ones = 0
    for number, objects in STREET.items():
        name = f"{number:06d}.txt"
        labels = read_labels(out / "labels" / name)
        assert labels == read_labels(street / "street" / "label_2" / name)
        lines = (out / "detections" / "both" / name).read_text().splitlines()
        assert lines
        for line in lines:
            words = line.split()
            assert len(words) == 16
            assert words[1:4] == ["-1", "-1", "-10"]
            assert words[8:15] == ["-1", "-1", "-1", "-1000", "-1000", "-1000", "-10"]
        sure = [
            one for one in read_detections(out / "detections" / "both" / name) if one.score > 0.5
        ]
        sure_ones += len(sure)
        right += sum(
            any(
                kind == one.kind and all(abs(a - b) < 20 for a, b in zip(one.box, box, strict=True))
                for one in sure
            )
            for kind, box in objects
        )
    there = sum(map(len, STREET.values()))
    assert there - 1 <= right <= sure_ones <= there + 1  # another processor rounds otherwise
    again = kitti_ap(out / "labels", out / "detections" / "both").facts["rows"]
    assert again["Car easy"]["AP11"] == ours["Car easy"]
    for name in ("table.md", "table.csv", "ap_both.md", "detections_both.png"):
        assert (out / name).stat().st_size
    assert "Others (published)" in (out / "table.md").read_text()
    _, origin, extra = read_provenance(out / "heads" / "both.safetensors")
    assert origin.weights == origin.weights_after == fingerprint(tiny())
    assert extra["learned"]["stills"] == 3
    head = (out / "heads" / "both.safetensors").read_bytes()
    found = {path.name: path.read_bytes() for path in (out / "detections" / "both").iterdir()}
    assert told(street).exit_code == 0  # nothing is learned again, and the same is found
    assert (out / "heads" / "both.safetensors").read_bytes() == head
    assert {p.name: p.read_bytes() for p in (out / "detections" / "both").iterdir()} == found


def test_pictures_without_labels_are_searched_with_heads_as_they_are(street):
    assert detect(configured(street, *FEW)).faults == []
    shutil.copytree(street / "street" / "image_2", street / "unseen" / "image_2")
    (street / "out" / "detections" / "both" / "000003.txt").unlink()
    shutil.copy(
        street / "out" / "detections" / "both" / "000004.txt",
        street / "out" / "detections" / "both" / "000099.txt",
    )
    (street / "unseen" / "image_2" / "000003.png").unlink()
    words = ("--no-train", "--set", f"test.root={street}/unseen", "--json")
    result = told(street, *words)
    assert result.exit_code == 0, result.stderr
    facts = json.loads(result.stdout.splitlines()[-1])
    assert "AP11" not in facts
    assert (facts["pictures"], facts["learned_from"]) == (2, 0)
    names = {path.name for path in (street / "out" / "detections" / "both").iterdir()}
    assert names == {"000004.txt", "000007.txt"}  # none of the run before
    result = told(street, "--no-train", "--set", "height=40")
    assert result.exit_code == 1
    assert "learned on frames of [32, 104], expected [40, 104]" in " ".join(result.stderr.split())


def stopped_at(monkeypatch, passes):
    """Be asked to stop in the n-th forward pass of a training."""
    seen = [0]
    forward = HeadLearner.forward

    def ask(self, *given, **named):
        seen[0] += 1
        if seen[0] == passes:
            os.kill(os.getpid(), signal.SIGTERM)
        return forward(self, *given, **named)

    monkeypatch.setattr(HeadLearner, "forward", ask)


@pytest.mark.parametrize("keep", ["features", "nothing"])
def test_a_training_that_was_stopped_ends_with_the_same_bytes(street, monkeypatch, keep):
    asked = (*FEW, f"keep={keep}", "mirror=true")
    train_head(configured(street, *asked, f"out={street}/whole"), "both")
    halves = configured(street, *asked, f"out={street}/halves")
    with monkeypatch.context() as patched:
        stopped_at(patched, 2)
        with pytest.raises(StoppedError, match="SIGTERM after step 2; run again"):
            train_head(halves, "both")
    assert not (street / "halves" / "heads" / "both.safetensors").exists()
    assert train_head(halves, "both").steps == 4
    one, other = (street / name / "heads" / "both.safetensors" for name in ("whole", "halves"))
    assert one.read_bytes() == other.read_bytes()
    losses = [
        [row["loss"] for row in read_curve(street / name / "heads" / "both" / CSV)]
        for name in ("whole", "halves")
    ]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 4


def test_kept_features_are_what_the_network_would_say(street):
    frozen = []

    def batches(keep):
        from flows.detection.frozen import frozen_network

        config = configured(street)
        frozen.append(frozen_network(config, "masks"))
        folder = config.training.folder
        return PictureBatches(folder, [3, 4, 7], SIZE, 2, 5, True, keep, frozen[-1])

    for epoch in range(3):
        plain, kept = (next(iter(batches(keep).batches(epoch))) for keep in ("frames", "features"))
        assert plain.where == kept.where
        torch.testing.assert_close(
            torch.cat([frozen[-1](one[None]) for one in plain.seen]), kept.seen
        )
    twice = batches("features")
    assert [b.where for b in twice.batches(1)] == [b.where for b in twice.batches(1)]
    orders = {next(iter(twice.batches(epoch))).where for epoch in range(8)}
    assert len(orders) > 3
    assert any("mirrored" in name for names in orders for name in names)
    shares = [
        PictureBatches(twice.folder, [3, 4, 7], SIZE, 2, 5, world=2, rank=rank) for rank in (0, 1)
    ]
    parts = [next(iter(share.batches(0))).where for share in shares]
    assert sorted(parts[0] + parts[1]) == sorted(next(iter(batches("nothing").batches(0))).where)


def test_two_processes_train_one_head_after_the_other(street):
    how = {"batch": 2, "steps": 2, "devices": 2, "accelerator": "cpu", "threads": 1}
    shape = {"width": 8, "depth": 0, "sizes": [[10, 16]]}
    heads = {
        name: shape | {"inputs": name, "training": how} for name in ("masks_and_features", "masks")
    }
    (street / "two.yaml").write_text(
        yaml.safe_dump(yaml.safe_load((street / "run.yaml").read_text()) | {"heads": heads})
    )
    said = subprocess.run(
        [Path(sys.executable).with_name("t4c"), "detect", street / "two.yaml"],
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert said.returncode == 0, said.stderr
    for name in heads:
        assert said.stdout.count(f"{name}: 2 steps") == 1  # one of them speaks
        assert len([*(street / "out" / "detections" / name).iterdir()]) == 3


def test_what_is_learned_from_is_known_by_every_byte(street):
    def facts(*overrides):
        return learned_from(configured(street, *overrides), [3, 4])

    before = facts()
    assert before == facts("training.images=[3, 4]")
    assert before != facts("keep=frames")  # seen several at a time, rounded otherwise
    assert facts("keep=frames") == facts("keep=nothing")
    path = street / "street" / "image_2" / "000004.png"
    path.write_bytes(bytes(reversed(path.read_bytes())))
    assert before != facts()


def test_real_pasts_are_used_where_they_are(street):
    still = detect(configured(street, *FEW))
    for number in STREET:
        add_preceding(street, number)
    with pytest.raises(ModelError, match=r"state of another training.*stills"):
        detect(configured(street, *FEW))
    moving = detect(configured(street, *FEW, f"out={street}/moving", "training.preceding=required"))
    assert (still.facts["stills"], moving.facts["stills"]) == (3, 0)
    one, other = (
        (street / name / "heads" / "both.safetensors").read_bytes() for name in ("out", "moving")
    )
    assert one != other


@pytest.mark.parametrize(
    ("overrides", "kind", "said"),
    [
        (["network={root}/none.safetensors"], ModelError, "none.safetensors: no such model"),
        (["network={root}/run.yaml"], ModelError, "run.yaml: not a whole safetensors file"),
        (["training.images=[3, 5]"], VideoError, r"1 pictures are missing, \[5\]"),
        (["training.images={root}/train.txt"], VideoError, "train.txt: cannot be read"),
        (["training.preceding=required"], VideoError, "prev_2: missing 000003_03.png"),
        (["draw.images=[9]"], ConfigError, r"draw.images: \[9\] are not among"),
        (["heads.both.training.batch=5"], ConfigError, "heads.both: no batches to train on"),
        (["heads.both.training.epochs=3"], ConfigError, "heads.both.training: budget"),
        (["heads.both.finer=3"], ConfigError, "heads.both: .* 3 times finer"),
        (["heads.both.inputs=pixels"], ConfigError, "heads.both.inputs"),
        (["training.images=[-3]"], ConfigError, "training.images"),
        (["mirrors=true"], ConfigError, "mirrors: Extra inputs"),
        (["heads.both.training.patience=2"], ConfigError, "training.patience: 2, expected 0"),
        (["heads.both.training.evaluate_every=9"], ConfigError, "training.evaluate_every: 9.0"),
        (["tell.device=cuda:99"], ModelError, "tell.device: cuda:99 is not here"),
    ],
)
def test_what_is_wrong_is_refused_by_name(street, overrides, kind, said):
    with pytest.raises(kind, match=said):
        detect(configured(street, *FEW, *(one.format(root=street) for one in overrides)))


def test_other_networks_heads_and_labels_are_refused(street):
    with pytest.raises(ConfigError, match=r"heads: no \['neither'\]; there are \['both'\]"):
        detect(configured(street), heads=["neither"])
    with pytest.raises(ModelError, match="both.safetensors: no such head"):
        detect(configured(street), train=False)
    detect(configured(street, *FEW))
    save_crevnet(street / "crevnet.safetensors", tiny(seed=1))
    with pytest.raises(ModelError, match=r"both.safetensors: learned on another CrevNet.*weights"):
        detect(configured(street, *FEW), train=False)
    with pytest.raises(ModelError, match=r"state of another training: crevnet: weights"):
        detect(configured(street, *FEW))
    for network, task, said in (
        (tiny(), {"channels": ("volume", "speed", "heading")}, "their names"),
        (tiny(static_channels=1), {}, "planes of a map 1, expected 0"),
        (tiny(clip=5), {"history": 6}, "clips of 5 frames, expected 4 at most"),
    ):
        save_crevnet(street / "crevnet.safetensors", network, **task)
        with pytest.raises(ModelError, match=said):
            detect(configured(street, *FEW))
    label = street / "street" / "label_2" / "000004.txt"
    label.write_text(label.read_text().replace("180", "290"))
    save_crevnet(street / "crevnet.safetensors", tiny())
    with pytest.raises(LabelError, match=r"000004.txt: line 1: a box from \(290"):
        detect(configured(street, *FEW, f"out={street}/other"))


def test_it_is_a_flow_that_refuses_a_bad_configuration(street):
    from prefect.exceptions import ParameterTypeError

    from flows.deployments import detect as flow

    config = configured(street)
    plain = config.model_dump(mode="json")
    assert flow.validate_parameters({"config": plain})["config"] == config
    with pytest.raises(ParameterTypeError, match="mirrors"):
        flow.validate_parameters({"config": plain | {"mirrors": True}})


@pytest.mark.parametrize("name", ["kitti_detection", "kitti_detection_cpu"])
def test_shipped_configurations_are_whole(name):
    config = read_as(DetectionConfig, ROOT / "configs" / f"{name}.yaml")
    assert [head.inputs for head in config.heads.values()] == ["masks", "masks_and_features"]
    paper = config.published["CrevNet, masks and features"]
    assert sum((*paper.car, *paper.pedestrian, *paper.cyclist)) / 9 == pytest.approx(
        84.31, abs=0.01
    )
    assert config.size == (128, 416)
