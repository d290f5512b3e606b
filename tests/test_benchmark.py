"""t4c benchmark: a whole walk in a tiny world, twice, killed, refused; every table's cell."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from crevnet.batch import Batch, Example, collate
from crevnet.correction import Correction
from crevnet.curves import read_curve
from crevnet.footprint import measure
from crevnet.objectives import RollOut, TeacherForcing, Trainee
from crevnet.perceptual import lpips_measure
from crevnet.plain import to_plain
from crevnet.step_memory import kept_by_step
from crevnet.task import Task
from crevnet.zoo import ZOO, build, config_of, configure
from flows.benchmark import benchmark
from flows.benchmarking.config import BenchmarkConfig
from flows.benchmarking.data import DrawnBatches, KeptBatches, benchmark_data
from flows.benchmarking.train import describe_model, is_trained, objective_of, settings_of, task_of
from flows.cli import app
from flows.config import read_as
from pipeline.errors import ConfigError, ModelError
from pipeline.moving_mnist.motion import MOTIONS
from pipeline.sources.moving_mnist import DrawnSequences
from tests.conftest import ROOT
from tests.digits_world import FRAMES, HISTORY, build_digits, glyphs

CONFIG = """
title: Tiny digits
data: tiny_digits
catalog: {root}/catalog.yaml
digits: {root}/digits
store: {root}/store
out: {root}/{out}
history: 4
training: {{motion: common, digits: 3, seed: 1, epoch: 5}}
validation: {{set: common_validation}}
test: {{set: common_test, first: 5}}
schedule: {{steps: {steps}}}
score: {{batch: 2, threads: 1}}
pictures: {{sequences: [3, 0], hard: 1}}
costs: {{measure: false}}
models:
  crevnet:
    network: small_mnist_3d
    change: {{blocks: [1, 1], strides: [1, 2], modules: 2}}
    objective: teacher_forcing
    training: &training
      {{batch: 2, learning_rate: 0.004, threads: 1, accelerator: cpu, log_every: 1,
       save_every_seconds: 0, evaluate_every: 3}}
    paper: {{mse: 22.3, ssim: 0.949, memory_mb: 195}}
  unet:
    network: unet_small_conv_lstm
    change: {{width: 4, widest: 8}}
    teacher: 0.5
    training: *training
"""


@pytest.fixture
def world(tmp_path):
    return build_digits(tmp_path)


def configured(world, *overrides, out="out", steps=6):
    path = world.root / f"{out}.yaml"
    path.write_text(CONFIG.format(root=world.root, out=out, steps=steps))
    return read_as(BenchmarkConfig, path, list(overrides))


def files(folder: Path) -> dict[str, str]:
    """Checksums of what no clock has a part in."""
    timed = ("state.pt", "curve.csv", "report.json", ".lock", "learning.png")
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and path.name not in timed
        and not path.name.startswith("events")
        and path.stem != "costs"
    }


@pytest.fixture(scope="module")
def walked(tmp_path_factory):
    """A world in which the benchmark was walked once; not to be written to."""
    world = build_digits(tmp_path_factory.mktemp("walked"))
    config = configured(world)
    return config, benchmark(config)


def test_a_benchmark_leaves_tables_pictures_and_films(walked):
    config, outcome = walked
    table = pd.read_csv(config.out / "table.csv", index_col="model")
    assert sorted(table.index) == ["copy_last", "crevnet", "unet", "zeros"]
    assert table["frame_sse"].is_monotonic_increasing
    assert table.loc["crevnet", "paper MSE"] == 22.3
    assert table.loc["unet", "sees"] == 4
    assert table.loc["crevnet", "MB kept, frugal"] < table.loc["crevnet", "MB kept"]
    assert "| crevnet |" in (config.out / "table.md").read_text()
    # copy-last by hand, from the set as it is stored
    data = benchmark_data(config)
    clips = [data.test[i] for i in range(5)]
    gaps = [((c.history[-1:].astype(float) - c.future) / 255) ** 2 for c in clips]
    by_hand = np.stack(gaps).sum((2, 3, 4))
    assert table.loc["copy_last", "frame_sse"] == pytest.approx(by_hand.mean(), rel=1e-5)
    leads = pd.read_csv(config.out / "leads.csv", index_col="model")
    found = leads.loc["copy_last frame_sse"].to_numpy()
    np.testing.assert_allclose(found, by_hand.mean(0), rtol=1e-5)
    error = by_hand.mean(1).std(ddof=1) / np.sqrt(5)
    assert table.loc["copy_last", "error"] == pytest.approx(error, rel=1e-5)
    protocols = json.loads((config.out / "protocols.json").read_text())["rows"]
    both = protocols["crevnet: frame_sse"]
    assert both["clean"] == pytest.approx(table.loc["crevnet", "frame_sse"])
    assert both["difference"] == pytest.approx(both["clean"] - both["authors"])
    assert both["difference"] != 0
    assert not [name for name in protocols if name.startswith("unet")]
    pictures = config.out / "pictures"
    names = sorted(path.name for path in pictures.iterdir())
    hard = outcome.facts["hard"][0][0]
    shown = [f"hard_{hard:05d}" if n == hard else f"sequence_{n:05d}" for n in {0, 3, hard}]
    ends = [f"{name}.{kind}" for name in shown for kind in ("gif", "png")]
    assert names == sorted([*ends, "leads.png", "learning.png"])
    with Image.open(pictures / f"{shown[0]}.gif") as film:
        assert film.n_frames == FRAMES
    assert outcome.lines[0].startswith("Tiny digits: 5 sequences of common_test, 4 frames in, 3")


def test_what_is_done_is_not_done_again(walked):
    config, _ = walked
    before = files(config.out)
    kept = ["scores/crevnet.npy", "scores/unet.json", "hard.json", "costs/unet.json"]
    times = {name: (config.out / name).stat().st_mtime_ns for name in kept}
    benchmark(config)
    assert files(config.out) == before
    assert times == {name: (config.out / name).stat().st_mtime_ns for name in times}


def test_models_may_be_asked_for_one_by_one(walked, world):
    (whole, outcome), config = walked, configured(world)
    first = benchmark(config, models=["unet"]).facts["scores"]
    assert set(first) == {"copy_last", "zeros", "unet"}
    both = benchmark(config, models=["crevnet"]).facts["scores"]
    assert both == outcome.facts["scores"]
    a, b = files(config.out), files(whole.out)
    assert a.keys() == b.keys()
    assert {name for name in a if a[name] != b[name]} == set()


KILLED = """
import os, signal
from crevnet.loop import Loop
from flows.cli import main

step = Loop._step

def die_at_three(self, stream):
    if self.kept.folder.name == "unet" and self.kept.now.step == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    step(self, stream)

Loop._step = die_at_three
main()
"""


def test_a_killed_benchmark_goes_on_to_the_same_files(walked, world):
    """Killed while the second model learns: the first is scored already, and not trained again."""
    whole, killed = walked[0], configured(world, out="killed")
    said = subprocess.run(
        [sys.executable, "-c", KILLED, "benchmark", str(world.root / "killed.yaml")],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert said.returncode == -signal.SIGKILL, said.stderr
    unet = killed.out / "models" / "unet"
    assert [row["step"] for row in read_curve(unet / "curve.csv")] == [1, 2, 3]
    assert not (unet / "report.json").is_file()
    scored = (killed.out / "scores" / "crevnet.npy").stat().st_mtime_ns
    benchmark(killed)
    assert (killed.out / "scores" / "crevnet.npy").stat().st_mtime_ns == scored
    assert files(killed.out) == files(whole.out)


REFUSED = {
    "test={set: none}": r"no set 'none'",
    "test={set: common_test, first: 7}": r"first 7 sequences, but it has 6",
    "history=7": r"history: 7 of 7 frames",
    "pictures.sequences=[5]": r"pictures.sequences: \[5\], but 5 are scored",
    "models.unet={network: unet_small, objective: teacher_forcing}": r"unet.objective: .* is for",
    "models.unet.network=oracle": r"models.unet: no network 'oracle'; there are",
    "models.unet.change={channels: 3}": r"models.unet.change: \['channels'\] follow",
    "score.metrics=[frame_sse, lpips]": r"score.metrics: lpips cannot be imported",
    "score.device=cuda:99": r"score.device: cuda:99 is not here",
    "digits=nowhere": r"nowhere.*no such file",
    "data=other": r"no moving_mnist 'other'",
}


def test_a_training_from_before_a_choice_is_the_one_without_it(walked, tmp_path):
    config = walked[0].model_copy(update={"networks": tmp_path})
    shutil.copytree(walked[0].out / "models", tmp_path, dirs_exist_ok=True)
    path = tmp_path / "unet" / "report.json"
    for structure, same in (({}, True), ({"structure": 0.0}, True), ({"structure": 0.5}, False)):
        report = json.loads(path.read_text())
        report["asked"]["model"].pop("structure", None)
        report["asked"]["model"] |= structure
        path.write_text(json.dumps(report))
        assert is_trained(config, "unet") is same


@pytest.mark.parametrize("override", REFUSED)
def test_what_cannot_be_is_refused_before_anything_is_trained(world, override):
    configured(world)
    result = CliRunner().invoke(app, ["benchmark", str(world.root / "out.yaml"), "--set", override])
    assert result.exit_code == 1
    assert re.search(f"(?s){REFUSED[override]}", result.stderr), result.stderr
    assert not (world.root / "out" / "models").exists()


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("schedule={steps: 3, minutes: 1}", "exactly one of steps, minutes, cpu_minutes"),
        ("schedule=forever", "schedule"),
        ("validation={set: common_test}", "is the test set, and may not choose weights"),
        ("score.metrics=[psnr]", "frame_sse is what models are ranked by"),
        ("score.metrics=[frame_sse, beauty]", r"no \['beauty'\]"),
        ("costs.batches=[2, 2]", "expected rising"),
        ("seeds=[1, 1]", "name one twice"),
        ("models={zeros: {network: unet_small}}", r"\['zeros'\] are names of naive"),
        ("epochs=3", "epochs: Extra inputs"),
        ("models.crevnet.teacher=0.5", r"\['teacher'\] are not of the objective teacher_forcing"),
        ("models.crevnet.structure=0.1", r"\['structure'\] are not of the objective teacher_forc"),
        ("models.unet.new_frame=2", r"\['new_frame'\] are not of the objective roll_out"),
    ],
)
def test_a_spoiled_configuration_is_refused_by_key(world, override, said):
    with pytest.raises(ConfigError, match=f"(?s)out.yaml: .*{said}"):
        configured(world, override)


def test_another_schedule_is_no_training_of_this_one(world):
    benchmark(configured(world), models=["unet"])
    with pytest.raises(ModelError, match="the state of another training: settings: steps"):
        benchmark(configured(world, steps=7), models=["unet"])
    table = pd.read_csv(world.root / "out" / "table.csv", index_col="model")
    assert sorted(table.index) == ["copy_last", "zeros"]  # nothing is said of the other one


def test_schedules_become_budgets(world):
    paper = configured(world, "schedule=paper")
    assert settings_of(paper, "unet", 3).budget().amount == 300_000
    assert settings_of(paper, "unet", 3).batch == 16
    assert settings_of(paper, "unet", 3).seed == 3
    cpu = configured(world, "schedule={cpu_minutes: 1.5}")
    assert settings_of(cpu, "unet", 0).budget().kind == "cpu_seconds"
    assert settings_of(cpu, "unet", 0).budget().amount == 90
    assert settings_of(cpu, "unet", 0).batch == 2
    assert [*configured(world, "seeds=[4, 5]").runs().values()] == [
        ("crevnet", 4), ("crevnet", 5), ("unet", 4), ("unet", 5)]  # fmt: skip


def test_no_training_sequence_is_seen_twice_and_processes_share_them():
    source = DrawnSequences(
        glyphs(5, 0), MOTIONS["common"], 2, 0, "t", 1 << 40, FRAMES, (40, 36), HISTORY
    )
    alone = DrawnBatches(source, 4, 3)
    seen = [where for epoch in (0, 1) for b in alone.batches(epoch) for where in b.where]
    assert seen == [f"sequence {n}" for n in range(24)]
    later = next(alone.batches(1, 2))
    assert later.where == tuple(f"sequence {n}" for n in range(20, 24))
    np.testing.assert_array_equal(later.history[1], source[21].history)
    shares = [next(DrawnBatches(source, 4, 3, 2, rank).batches(1, 2)) for rank in (0, 1)]
    assert [share.where for share in shares] == [("sequence 20", "sequence 22"),
                                                 ("sequence 21", "sequence 23")]  # fmt: skip


def test_kept_sequences_are_each_scored_once():
    source = DrawnSequences(
        glyphs(5, 0), MOTIONS["common"], 2, 0, "t", 7, FRAMES, (40, 36), HISTORY
    )
    for world_size in (1, 2, 3):
        ranks = [KeptBatches(source, 3, world_size, rank) for rank in range(world_size)]
        seen = sorted(where for rank in ranks for batch in rank for where in batch.where)
        assert seen == [f"sequence {n}" for n in range(7)]


# --- what a step takes

STEP = Task(leads=(0, 1), history=4, channels=("brightness",))


@pytest.mark.parametrize("memory", ["plain", "frugal"])
@pytest.mark.parametrize("objective", [RollOut(), TeacherForcing()])
def test_bytes_of_a_step_are_those_that_training_keeps(objective, memory):
    description = configure(
        "small_mnist_3d", channels=1, history=4, horizon=2, blocks=[1, 2], strides=[1, 2], modules=2
    )
    trainee = Trainee(Correction(build(description), STEP), objective)
    own = {p.untyped_storage().data_ptr() for p in trainee.parameters()}
    kept = {}

    def pack(tensor):
        if tensor.untyped_storage().data_ptr() not in own:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    batch = Batch(torch.zeros(1, 4, 1, 20, 12, dtype=torch.uint8),
                  torch.zeros(1, 2, 1, 20, 12, dtype=torch.uint8))  # fmt: skip
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        trainee(batch, memory)
    wanted = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    counted = kept_by_step(description, STEP, objective, height=20, width=12, memory=memory)
    assert counted == wanted > 0


@pytest.mark.parametrize("name", ["mnist_conv_lstm_3d", "mnist_st_lstm_3d"])
def test_the_papers_networks_train_in_12_mb_a_sample(name):
    description = configure(name, channels=1, history=10, horizon=10)
    how = {"height": 64, "width": 64, "memory": "frugal"}
    assert 6e6 < kept_by_step(description, MNIST, TeacherForcing(), **how) < 12e6


def test_a_footprint_is_measured():
    torch.manual_seed(0)
    network = build("unet_small_conv_lstm", channels=1, width=8, widest=16)
    trainee = Trainee(Correction(network, STEP), RollOut())
    frames = torch.randint(0, 256, (4, 6, 1, 96, 160), dtype=torch.uint8)
    found = measure(trainee, Batch(frames[:, :4], frames[:, 4:]), rounds=2)
    assert found.step_cpu_seconds > found.forecast_cpu_seconds > 0
    if found.peak_growth is not None:
        kept = kept_by_step(
            configure("unet_small_conv_lstm", channels=1, width=8, widest=16),
            STEP, RollOut(), height=96, width=160,
        )  # fmt: skip
        assert found.peak_growth > kept  # of one sequence; there were four
    assert trainee.training


def test_lpips_is_asked_for_by_name(monkeypatch):
    class Fake(torch.nn.Module):
        def __init__(self, net, verbose):
            super().__init__()

        def forward(self, x, y):
            assert x.shape[1:] == (3, 8, 9)
            assert x.min() >= -1
            return (x - y).abs().mean((1, 2, 3), keepdim=True)

    monkeypatch.setitem(sys.modules, "lpips", type(sys)("lpips"))
    sys.modules["lpips"].LPIPS = Fake
    rng = np.random.default_rng(0)
    one, other = rng.random((2, 70, 1, 8, 9))
    found = lpips_measure()(one, other)
    np.testing.assert_allclose(found, 2 * np.abs(one - other).mean((1, 2, 3)), rtol=1e-4)


# --- the paper's tables

SHIPPED = [
    (name, model)
    for name in ("moving_mnist", "moving_mnist3", "moving_mnist_cpu")
    for model in read_as(BenchmarkConfig, ROOT / "configs" / f"{name}.yaml").models
]
MNIST = Task(leads=tuple(range(10)), history=10, channels=("brightness",))


@pytest.mark.parametrize(("config", "model"), SHIPPED)
def test_every_row_can_be_built_and_trained(config, model):
    """In its full size on shapes alone; the schedule's settings are those of a training."""
    shipped = read_as(BenchmarkConfig, ROOT / "configs" / f"{config}.yaml")
    network = shipped.models[model].network
    if network not in ZOO:
        pytest.skip(f"no network {network!r} in the zoo")
    settings = settings_of(shipped, model, 0)
    if config != "moving_mnist_cpu":
        assert (settings.steps, settings.batch) == (300_000, 16)
    description = describe_model(shipped, model, 10)
    assert task_of(shipped, shipped.models[model], 10).leads == MNIST.leads
    assert objective_of(shipped.models[model])
    with torch.device("meta"):
        assert sum(p.numel() for p in build(description).parameters()) > 0


def shrunk(description):
    """The same network with less of everything: the kind, the norms, the order of things stay."""
    config = config_of(description)
    less = {"width": 4, "widest": 6, "wide": 8, "modules": 2, "encoder": 2, "decoder": 1}
    less |= {"cells": 3 if description["kind"] == "pred_rnn_plus_plus" else 2}
    less |= {"filters": (3, 4), "units": (4, 5, 6), "kernels": (3, 3, 3)}
    blocks = getattr(config, "blocks", 2)
    less |= {"blocks": 2 if isinstance(blocks, int) else (1,) * len(blocks)}
    known = {field.name for field in fields(config)}
    small = replace(config, **{name: value for name, value in less.items() if name in known})
    return {"kind": description["kind"], "config": to_plain(small)}


@pytest.mark.parametrize(("config", "model"), SHIPPED)
def test_every_row_takes_a_step_and_forecasts(config, model):
    """With its own objective, on movies of ten and ten frames of 16 x 16."""
    shipped = read_as(BenchmarkConfig, ROOT / "configs" / f"{config}.yaml")
    torch.manual_seed(0)
    task = task_of(shipped, shipped.models[model], 10)
    network = build(shrunk(describe_model(shipped, model, 10)))
    trainee = Trainee(Correction(network, task), objective_of(shipped.models[model]))
    rng = np.random.default_rng(0)
    movies = rng.integers(0, 256, (2, 20, 1, 16, 16), dtype=np.uint8)
    batch = collate([Example(m[:10], m[10:], None, None, "noise") for m in movies])
    optimiser = torch.optim.SGD(network.parameters(), lr=1e-3)
    before = [p.detach().clone() for p in network.parameters()]
    loss = trainee(batch)
    loss.backward()
    optimiser.step()
    assert torch.isfinite(loss)
    assert any(not torch.equal(p, q) for p, q in zip(before, network.parameters(), strict=True))
    with torch.no_grad():
        said = trainee.correction.eval().forecast(batch)
    assert said.shape == (2, 10, 1, 16, 16)
    assert torch.isfinite(said).all()


def test_the_tables_are_whole():
    for name in ("moving_mnist", "moving_mnist3"):
        shipped = read_as(BenchmarkConfig, ROOT / "configs" / f"{name}.yaml")
        published = [m for m in shipped.models.values() if m.paper.mse]
        assert len(published) == (16 if name == "moving_mnist" else 8)
        assert shipped.test.set == f"authors_{shipped.training.digits}_test"
        assert shipped.score.protocol == "authors"
