"""t4c ingest-video and benchmark on drives: a whole walk in a tiny world, and what is refused."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from crevnet.checkpoint import load_model
from crevnet.model import CrevNet
from crevnet.presets import PRESETS
from crevnet.rollout import forecast
from flows.benchmark import benchmark
from flows.benchmarking.config import BenchmarkConfig
from flows.benchmarking.data import benchmark_data
from flows.benchmarking.train import describe_model
from flows.cli import app
from flows.config import read_as
from flows.ingest_video import ingest_video
from pipeline.errors import ConfigError, VideoError
from tests.conftest import ROOT
from tests.video_world import build_drives

CONFIG = """
title: Tiny drives
catalog: {root}/catalog.yaml
out: {root}/out
history: 4
training: &set
  {{data: tiny_drives, root: {root}/release, store: {root}/store, split: training, horizon: 2,
   mirror: true, epoch: 5}}
validation: {{<<: *set, split: validation}}
test: {{<<: *set, split: test, horizon: 3}}
schedule: {{steps: 4}}
score: {{batch: 2, threads: 1, metrics: [frame_sse, psnr, ssim_uniform7_range1]}}
pictures: {{sequences: [1, 0], hard: 1}}
costs: {{measure: false}}
models:
  crevnet:
    network: small_kitti_2d
    change: {{blocks: [1, 1], modules: 2, anchored: false}}
    sees: 3
    teacher: 1.0
    training: &training
      {{batch: 2, learning_rate: 0.004, threads: 1, accelerator: cpu, log_every: 1,
       evaluate_every: 2}}
  conv_lstm:
    network: small_stacked_conv_lstm
    change: {{cells: 2, width: 5, kernel: 3}}
    sees: 3
    teacher: 1.0
    training: *training
  pred_net:
    network: small_pred_net
    change: {{widths: [4, 5, 6]}}
    sees: 3
    teacher: 1.0
    training: *training
published:
  Others: {{psnr: 29.3, ssim: 0.925, ssim_at: {{3: 0.84}}}}
"""
NETWORKS = ("crevnet", "conv_lstm", "pred_net")


@pytest.fixture
def world(tmp_path):
    build_drives(tmp_path)
    (tmp_path / "run.yaml").write_text(CONFIG.format(root=tmp_path))
    return tmp_path


def configured(world, *overrides):
    return read_as(BenchmarkConfig, world / "run.yaml", list(overrides))


def rolled_out(network, seen, leads):
    """The same of a network that is none of CrevNet's."""
    return network.unroll(seen, len(leads))[:, -len(leads) :]


def told(world, *words):
    return CliRunner().invoke(app, [words[0], str(world / "run.yaml"), *words[1:]])


def test_from_pictures_to_tables(world):
    result = told(world, "ingest-video", "--json")
    assert result.exit_code == 0, result.stderr
    facts = json.loads(result.stdout.splitlines()[-1])["drives"]
    assert facts["tiny_drives training"]["ingested"] == ["day/one", "day/two"]
    assert "2 unchanged" in ingest_video(configured(world)).lines[0]
    assert told(world, "benchmark").exit_code == 0
    table = pd.read_csv(world / "out/table.csv", index_col="model")
    assert {*table.index} == {"copy_last", "zeros", *NETWORKS}
    # copy-last by hand: `unseen` has 10 frames, so 4 windows of 4 + 3
    data = benchmark_data(configured(world))
    clips = [data.test[i] for i in range(4)]
    assert len(data.test) == 4
    gaps = np.stack([((c.history[-1:] / 255.0 - c.future / 255.0) ** 2) for c in clips])
    assert table.loc["copy_last", "frame_sse"] == pytest.approx(gaps.sum((2, 3, 4)).mean())
    frames = pd.read_csv(world / "out/frames.csv", index_col="model")
    by_hand = (-10 * np.log10(gaps[:, 0].mean((1, 2, 3)))).mean()
    assert frames.loc["copy_last", "PSNR +1"] == pytest.approx(by_hand)
    assert [c for c in frames if c.startswith("ssim")] == [
        "ssim_uniform7_range1 +1", "ssim_uniform7_range1 +3"]  # fmt: skip
    published = pd.read_csv(world / "out/published.csv", index_col="model")
    assert published.loc["Others", ["PSNR +1", "SSIM +3"]].tolist() == [29.3, 0.84]
    with Image.open(world / "out/pictures/sequence_00001.png") as strip:
        assert strip.mode == "RGB"
    # each network's own word, from its file alone
    seen = torch.from_numpy(clips[1].history[None, -3:]).float() / 255
    files = [world / f"out/models/{name}.safetensors" for name in NETWORKS]
    for name, path in zip(NETWORKS, files, strict=True):
        network, task, _ = load_model(path, "cpu")
        assert (task.channels, task.leads, task.sees) == (("red", "green", "blue"), (0, 1), 3)
        with torch.inference_mode():
            frames_of = forecast if name == "crevnet" else rolled_out
            said = frames_of(network.eval(), seen, [0, 1, 2]).clamp(0, 1)[0].numpy()
        kept = np.load(world / f"out/scores/{name}.npy")
        np.testing.assert_allclose(kept[0], said, atol=1e-5)
    # the same networks at another horizon, not trained again
    before = [path.read_bytes() for path in files]
    near = configured(world, "test.horizon=1", f"out={world}/next", f"networks={world}/out/models")
    scores = benchmark(near).facts["scores"]
    assert [path.read_bytes() for path in files] == before
    assert len(benchmark_data(near).test) == 6
    assert {*scores} == {"copy_last", "zeros", *NETWORKS}
    # one frame is said: a picture with a row a sequence, and copying shows what was seen last
    with Image.open(world / "next/pictures/next_frames.png") as page:
        drawn = np.asarray(page)
    names = ["truth", *sorted(scores, key=lambda name: scores[name]["frame_sse"])]
    H, W = data.canvas
    across = max(2 * W, 7 * max(map(len, names))) + 2
    for row, number in enumerate((1, 0)):
        clip, top = benchmark_data(near).test[number], 18 + row * (2 * H + 2)
        for name, frame in (("truth", clip.future[0]), ("copy_last", clip.history[-1])):
            left = 2 + names.index(name) * across
            cell = drawn[top : top + 2 * H : 2, left : left + 2 * W : 2]
            np.testing.assert_array_equal(cell, frame.transpose(1, 2, 0))


def test_a_benchmark_without_its_drives_says_so(world):
    result = told(world, "benchmark")
    assert result.exit_code == 1
    assert "no training drives of tiny_drives; ingest them first" in result.stderr


REFUSED = {
    "test.horizon=7": r"no drive of 11 frames; there are {'day/unseen': 10}",
    "test.first=5": r"first 5 windows, but it has 4",
    "test.data=other": r"no video 'other'",
    "test={data: tiny_drives, root: ., store: STORE, split: validation, horizon: 3}":
        "tiny_drives validation is the test set",
    "models.crevnet.network=unet_small": r"models.crevnet: unet_small says 2 frames at once, but 3",
    "validation.horizon=1": r"validation.horizon: expected training's, 2",
    "validation={set: x}": "videos and digits, expected one kind",
    "models.crevnet.sees=5": r"\['crevnet'\] see more than the 4 frames",
    "test.speed=2": "speed: Extra inputs",
}  # fmt: skip


def test_what_cannot_be_is_refused_before_anything_is_trained(world):
    ingest_video(configured(world))
    for override, said in REFUSED.items():
        given = override.replace("STORE", str(world / "store"))
        plain = ["--set", "models.crevnet.change={}"] if "unet" in given else []
        result = told(world, "benchmark", "--set", given, *plain)
        assert result.exit_code == 1, override
        assert re.search(f"(?s){said}", result.stderr), (override, result.stderr)
    assert not (world / "out/models").exists()


def test_the_same_frames_under_two_names_are_refused(world):
    shutil.rmtree(world / "release/day/unseen")
    shutil.copytree(world / "release/day/held", world / "release/day/unseen")
    ingest_video(configured(world))
    with pytest.raises(ConfigError, match="day/unseen: the same frames as day/held"):
        benchmark(configured(world))


def test_a_faulty_drive_fails_the_ingest_and_is_named(world):
    (world / "release/day/two/camera/0000000002.png").write_bytes(b"no picture")
    result = told(world, "ingest-video")
    assert result.exit_code == 1
    assert "0000000002.png: cannot be decoded" in result.stderr
    with pytest.raises(VideoError, match="no such drive"):
        ingest_video(configured(world, "test.root=nowhere"))


def test_digits_are_not_ingested_as_videos():
    config = read_as(BenchmarkConfig, ROOT / "configs/moving_mnist_cpu.yaml")
    with pytest.raises(ConfigError, match="no videos"):
        ingest_video(config)


@pytest.mark.parametrize("name", ["kitti", "kitti_cpu"])
def test_shipped_configurations_can_be_built(name):
    config = read_as(BenchmarkConfig, ROOT / "configs" / f"{name}.yaml")
    assert config.published["CrevNet"].ssim_at == {3: 0.84, 6: 0.76, 9: 0.7, 12: 0.65}
    assert {"crevnet_2d", "conv_lstm", "pred_net"} <= {*config.models}
    assert len({model.sees for model in config.models.values()}) == 1
    for model in config.models:
        description = describe_model(config, model, config.training_horizon)
        assert description["config"]["channels"] == 3


def test_a_network_that_starts_nearly_shut_starts_nearly_at_the_last_frame():
    torch.manual_seed(0)
    config = PRESETS["small_kitti_2d"]
    frames = torch.rand(1, 3, 3, 24, 32)
    with torch.inference_mode():
        said = forecast(CrevNet(config).eval(), frames, [0])
    assert config.modules % 2 == 0
    assert (said[:, 0] - frames[:, -1]).square().mean() < 0.15 * frames[:, -1].square().mean()
