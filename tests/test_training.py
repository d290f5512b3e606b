from __future__ import annotations

import json
import math
import multiprocessing
import os
import pickle
import random
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace

import pytest
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from torch import nn

from crevnet.averaging import Average
from crevnet.batch import collate
from crevnet.budget import Budget, Clock, cpu_seconds
from crevnet.correction import Correction
from crevnet.curves import read_curve
from crevnet.devices import start_fabric
from crevnet.evaluation import evaluate
from crevnet.folder_lock import FolderInUseError, FolderLock
from crevnet.loop import DivergedError
from crevnet.objectives import RollOut, Trainee
from crevnet.optimisation import START, adamw, rate
from crevnet.settings import TrainingSettings
from crevnet.training import train
from crevnet.training_state import TrainingStateError, load_state
from tests.conftest import ROOT
from tests.toy_training import TASK, Movies, Toy, example, held_out, settings, trainee

LEARNED = ("step", "epoch", "examples", "learning_rate", "loss", "grad_norm", "held_out_mse")


def run(folder, *options, processes=1):
    command = [sys.executable, "-m", "tests.toy_training", str(folder), *options]
    if processes > 1:
        command[1:1] = [
            "-m",
            "torch.distributed.run",
            "--standalone",
            f"--nproc-per-node={processes}",
        ]
        command += [f"--devices={processes}"]
    quiet = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    return subprocess.run(
        command, cwd=ROOT, env=quiet, capture_output=True, text=True, timeout=120, check=False
    )


def learned(folder):
    """The columns of a curve that do not depend on the clock."""
    return [{name: row.get(name) for name in LEARNED} for row in read_curve(folder / "curve.csv")]


def state(folder):
    return torch.load(folder / "state.pt", weights_only=True)


def same(one, two):
    """Whether two states are bit-equal, but for the clock."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, two)
    if isinstance(one, dict):
        names = set(one) - {"seconds", "cpu_seconds"}
        return set(one) == set(two) and all(same(one[name], two[name]) for name in names)
    if isinstance(one, list):
        return len(one) == len(two) and all(map(same, one, two))
    return bool(one == two)


def weights(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


# killed, stopped, resumed


def test_killed_at_any_step_and_resumed_it_ends_bit_equal(tmp_path):
    here, there = tmp_path / "undisturbed", tmp_path / "killed"
    undisturbed = trainee()
    torch.set_num_threads(1)
    train(undisturbed, Movies(12), held_out(), settings(steps=14), here)
    for options, status in (
        (("--die-at=0",), -signal.SIGKILL),  # before the first step
        (("--die-at=4",), -signal.SIGKILL),
        (("--die-writing=1",), -signal.SIGKILL),  # one more step is saved, the next half
        (("--stop-at=2",), 75),  # a request in the middle of a step
        (("--die-at=3",), -signal.SIGKILL),
        ((), 0),
    ):
        said = run(there, "--steps=14", *options)
        assert said.returncode == status, said.stderr
        if status == 75:
            assert "SIGTERM after step 7" in said.stdout
    assert list(there.glob("*.partial")) == []
    assert learned(there) == learned(here)
    assert [row["step"] for row in learned(here)] == [2, 4, 5, 6, 8, 10, 12, 14]
    assert same(state(there), state(here))
    final = torch.load(there / "final.pt", weights_only=True)
    assert same(final, weights(undisturbed.correction.network))


def test_asked_to_stop_while_scoring_it_scores_later(tmp_path):
    class Asked(list):
        def __iter__(self):
            os.kill(os.getpid(), signal.SIGTERM)
            return super().__iter__()

    here, there = tmp_path / "undisturbed", tmp_path / "stopped"
    train(trainee(), Movies(), held_out(), settings(), here)
    before = signal.getsignal(signal.SIGTERM)
    for shared in (Asked(held_out()), Asked(held_out())):
        with pytest.raises(Exception, match="SIGTERM after step 5; run again") as stop:
            train(trainee(), Movies(), shared, settings(), there)
        assert type(stop.value).__name__ == "Interrupted"
        assert stop.value.step == 5
        assert signal.getsignal(signal.SIGTERM) == before
    train(trainee(), Movies(), held_out(), settings(), there)
    assert learned(there) == learned(here)
    assert same(state(there), state(here))


def test_a_training_that_ended_is_not_done_again(tmp_path):
    kept = []
    first = train(trainee(), Movies(), held_out(), settings(), tmp_path, save_best=kept.append)
    curve, times = (tmp_path / "curve.csv").read_text(), len(kept)
    pupil = trainee(seed=5)
    again = train(pupil, Movies(), held_out(), settings(), tmp_path, save_best=kept.append)
    assert again == first
    assert (tmp_path / "curve.csv").read_text() == curve
    assert len(kept) == times + 1
    assert same(kept[-1], kept[-2])


def test_a_state_that_is_not_this_trainings_is_refused_by_name(tmp_path):
    train(trainee(), Movies(), held_out(), settings(), tmp_path, data="toys")
    path = tmp_path / "state.pt"
    whole = path.read_bytes()

    def again(pupil=None, movies=None, data="toys", **given):
        train(
            pupil or trainee(),
            movies or Movies(),
            held_out(),
            settings(**given),
            tmp_path,
            data=data,
        )

    again(save_every_seconds=9.0, log_every=7)
    mapped = trainee(task=replace(TASK, inputs=("hour",)), static=1)
    wide = Trainee(trainee().correction, RollOut(teacher=0.25))
    for call, said in (
        (lambda: again(learning_rate=0.5), "learning_rate 0.01, expected 0.5"),
        (lambda: again(steps=99), "steps 12, expected 99"),
        (lambda: again(data="trains"), "data: data toys, expected trains"),
        (lambda: again(movies=Movies(20)), "data: batches 5, expected 10"),
        (lambda: again(mapped), r"enter.weight \[6, 2, 3, 3\], expected \[6, 3, 3, 3\]"),
        (lambda: again(wide), "objective RollOut.*teacher=0.5.*expected .*teacher=0.25"),
    ):
        with pytest.raises(TrainingStateError, match=f"state.pt: the state of another.*{said}"):
            call()
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    for spoiled in (b"", b"hello", whole[:-1], whole[:middle], flipped, pickle.dumps(print)):
        path.write_bytes(spoiled)
        with pytest.raises(TrainingStateError, match=r"state\.pt: .*(not a whole|damaged)"):
            again()
    torch.save(Toy(), path)  # code to run
    with pytest.raises(TrainingStateError, match=r"state\.pt: not a whole state"):
        again()
    for other, said in (([1], "format 'list'"), ({"format": "x"}, "format 'x'")):
        torch.save(other, path)
        with pytest.raises(TrainingStateError, match=f"{said}, expected 'crevnet-training-1'"):
            again()


def test_a_spoiled_state_is_refused_or_whole(tmp_path):
    train(trainee(), Movies(), held_out(), settings(), tmp_path)
    path, rng = tmp_path / "state.pt", random.Random(0)
    whole, identity = path.read_bytes(), state(tmp_path)["identity"]
    original, refused = asdict(load_state(path, identity)), 0
    tail = len(whole) - whole.rindex(b"PK\1\2", 0, whole.index(b"PK\1\2") + 4)
    for n in range(200):
        spoiled = bytearray(whole)
        reach = tail if n % 2 else len(whole)  # half of them where names and sizes are
        at, size = len(whole) - 1 - rng.randrange(reach), rng.choice((1, 1, 2, 30))
        change = rng.randrange(4)
        if change == 0:
            spoiled[at] ^= 1 << rng.randrange(8)
        elif change == 1:
            spoiled[at : at + size] = rng.randbytes(size)
        elif change == 2:
            del spoiled[at : at + size]
        else:
            del spoiled[at:]
        path.write_bytes(spoiled)
        try:
            found = asdict(load_state(path, identity))
        except TrainingStateError:
            refused += 1
        else:
            assert exactly(found, original), (n, at, change)
    assert refused > 100


def exactly(one, two):
    """Whether two values are bit-equal, clock and all."""
    if isinstance(one, dict):
        return set(one) == set(two) and all(exactly(one[name], two[name]) for name in one)
    return same(one, two)


def test_a_state_of_other_things_is_refused_by_name(tmp_path):
    train(trainee(), Movies(), held_out(), settings(), tmp_path)
    path, value = tmp_path / "state.pt", state(tmp_path)
    for change, said in (
        *(({name: ...}, name) for name in value if name != "format"),
        *(({name: 7.5}, name) for name in value if name != "format"),
        ({"more": 1}, "more"),
        ({"weights": {"enter.weight": 3}}, "weights"),
        ({"progress": value["progress"] | {"step": "x"}}, "step is a str"),
        ({"progress": value["progress"] | {"steps": 1}}, "steps"),
        ({"identity": {1: 2}}, "'<' not supported"),
        ({"optimiser": {}}, "does not fit the network"),
        ({"optimiser": value["optimiser"] | {"param_groups": [3]}}, "does not fit the network"),
        ({"average": {"x": torch.zeros(1)}}, "does not fit the network"),
    ):
        spoiled = {name: part for name, part in (value | change).items() if part is not ...}
        torch.save(spoiled, path)
        with pytest.raises(TrainingStateError, match=f"state.pt: .*{said}"):
            train(trainee(), Movies(), held_out(), settings(), tmp_path)


def test_a_folder_has_one_training_at_a_time(tmp_path):
    class Meanwhile(Movies):
        def batches(self, epoch, first=0):
            with pytest.raises(TrainingStateError, match="in use by another.*wait for that one"):
                train(trainee(), Movies(), held_out(), settings(), tmp_path)
            yield from super().batches(epoch, first)

    train(trainee(), Meanwhile(), held_out(), settings(), tmp_path)
    train(trainee(), Movies(), held_out(), settings(), tmp_path)
    with pytest.raises(TrainingStateError, match="another training"):
        train(trainee(), Movies(), held_out(), settings(learning_rate=1.0), tmp_path)
    train(trainee(), Movies(), held_out(), settings(), tmp_path)


def test_a_killed_process_keeps_no_folder_though_its_children_live(tmp_path):
    code = (
        "import os, signal, sys, time\n"
        "from pathlib import Path\n"
        "from crevnet.folder_lock import FolderLock\n"
        "lock = FolderLock(Path(sys.argv[1]))\n"
        "ready, go = os.pipe()\n"
        "child = os.fork()\n"
        "if child: os.read(ready, 1), print(child, flush=True)\n"
        "else: os.write(go, b'.')\n"
        "time.sleep(60)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, tmp_path], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    child = int(process.stdout.readline())
    try:
        with pytest.raises(FolderInUseError, match="in use"):
            FolderLock(tmp_path)
        process.kill()
        process.wait()
        FolderLock(tmp_path).let_go()
        os.kill(child, 0)  # it lives
    finally:
        os.kill(child, signal.SIGKILL)


# what is learned


def test_it_learns_one_batch_by_heart(tmp_path):
    torch.manual_seed(0)

    class Heart(nn.Module):
        def __init__(self):
            super().__init__()
            self.said = nn.Parameter(torch.zeros(1, 3, 2, 6, 5))

        def unroll(self, history, horizon, static=None, *, memory="plain"):
            assert memory == ("frugal" if torch.is_grad_enabled() else "plain")
            return self.said.expand(len(history), -1, -1, -1, -1)

    pupil = Trainee(Correction(Heart(), TASK), RollOut())
    shared = [collate([example(0)])]
    chosen = settings(steps=200, learning_rate=0.05, memory="frugal", save_every_seconds=9)
    report = train(pupil, Movies(1, 1), shared, chosen, tmp_path)
    assert report.best.mse < 1e-4 < 1e-2 < report.naive.mse
    assert report.progress.epoch == 200
    torch.testing.assert_close(sum(report.best.by_lead) / 2, report.best.mse)
    torch.testing.assert_close(sum(report.best.by_channel) / 2, report.best.mse)


def test_accumulated_batches_are_one_large_batch(tmp_path):
    ends = []
    for accumulate, size in ((1, 4), (2, 2), (4, 1)):
        pupil = trainee(dropout=0)
        chosen = settings(accumulate=accumulate, batch=size, steps=6)
        report = train(pupil, Movies(12, size), held_out(), chosen, tmp_path / str(size))
        assert report.progress.examples == 24
        ends.append(weights(pupil))
    for end in ends[1:]:
        torch.testing.assert_close(end, ends[0], rtol=1e-4, atol=1e-6)


def test_the_best_is_what_scored_best(tmp_path):
    kept = []
    chosen = settings(steps=20, learning_rate=0.3, evaluate_every=1)
    pupil = trainee()
    report = train(pupil, Movies(), held_out(), chosen, tmp_path, save_best=kept.append)
    scores = [row["held_out_mse"] for row in read_curve(tmp_path / "curve.csv")]
    assert report.best.mse == min(scores) == scores[report.progress.best_step - 1]
    assert len(kept) == sum(s < min(scores[:n], default=9) for n, s in enumerate(scores))
    best = trainee(seed=9).correction
    best.network.load_state_dict(kept[-1])
    fabric = start_fabric(chosen)
    assert evaluate(best, held_out(), fabric).mse == report.best.mse
    assert evaluate(best, held_out(), fabric, naive=True) == report.naive


def test_no_better_for_long_enough_ends_it(tmp_path):
    pupil = trainee()
    chosen = settings(steps=500, learning_rate=1e-30, evaluate_every=2, patience=3, ema=0.0)
    report = train(pupil, Movies(), held_out(), chosen, tmp_path)
    assert report.progress.finished == "patience"
    assert (report.progress.best_step, report.progress.step) == (2, 8)


def test_a_score_that_is_not_a_number_is_no_best(tmp_path):
    pupil = trainee()
    pupil.correction.forecast = lambda batch: torch.full(batch.future.shape, math.nan)
    kept = []
    report = train(pupil, Movies(), held_out(), settings(), tmp_path, save_best=kept.append)
    assert math.isnan(report.last.mse)
    assert (report.best, kept) == (None, [])


def test_without_held_out_windows_the_last_is_the_best(tmp_path):
    kept = []
    pupil = trainee()
    report = train(pupil, Movies(), None, settings(ema=0), tmp_path, save_best=kept.append)
    assert (report.best, report.last, len(kept)) == (None, None, 1)
    assert same(kept[0], weights(pupil.correction.network))


def test_what_is_not_a_number_stops_it_and_names_the_window(tmp_path):
    def spoil(correction, batch, memory):
        loss = RollOut()(correction, batch, memory)
        return loss * (math.nan if "window 3" in batch.where else 1)

    with pytest.raises(DivergedError, match=r"step \d: loss nan; windows .*window 3") as fault:
        train(Trainee(trainee().correction, spoil), Movies(), None, settings(), tmp_path)
    assert len(str(fault.value).split("windows ")[1].split(", ")) == 2

    def steep(correction, batch, memory):
        return (RollOut()(correction, batch, memory) * 0).sqrt()

    with pytest.raises(DivergedError, match=r"step 1: gradient (nan|inf); windows window"):
        train(Trainee(trainee().correction, steep), Movies(), None, settings(), tmp_path / "b")
    with pytest.raises(ValueError, match="no batches"):
        train(trainee(), Movies(1), None, settings(), tmp_path / "c")
    with pytest.raises(ValueError, match="no held-out windows"):
        train(trainee(), Movies(), [], settings(), tmp_path / "d")


def test_the_curve_says_what_happened(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    report = train(trainee(), Movies(), held_out(), settings(clip_norm=1e-3), tmp_path)
    rows = read_curve(tmp_path / "curve.csv")
    assert rows[-1]["held_out_mse"] == report.last.mse
    assert rows[-1]["examples"] == report.progress.examples == 24
    assert all(row["grad_norm"] > 1e-3 and row["examples_per_second"] > 0 for row in rows)
    assert all(row["memory_mb"] > 1 for row in rows)
    assert [*sorted(row["cpu_seconds"] for row in rows)] == [row["cpu_seconds"] for row in rows]
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("loss")] == [row["step"] for row in rows]
    assert events.Scalars("held_out_mse/speed")[-1].value == pytest.approx(
        report.last.by_channel[1]
    )
    assert events.Scalars("held_out_mse/lead_2")[-1].value == pytest.approx(report.last.by_lead[1])


# budgets, schedules, averages


def test_time_is_counted_over_resumes(tmp_path):
    class Slow(Movies):
        def batches(self, epoch, first=0):
            for batch in super().batches(epoch, first):
                time.sleep(0.03)
                yield batch

    class Stopping(Slow):
        def batches(self, epoch, first=0):
            for count, batch in enumerate(super().batches(epoch, first)):
                if count == 3:
                    os.kill(os.getpid(), signal.SIGTERM)
                yield batch

    chosen = settings(minutes=0.6 / 60, evaluate_every=0.5, schedule="one_cycle", warmup=0.3)
    with pytest.raises(Exception, match="SIGTERM after step 4"):
        train(trainee(), Stopping(), held_out(), chosen, tmp_path)
    used = state(tmp_path)["progress"]["seconds"]
    assert used > 0.09
    began = time.monotonic()
    report = train(trainee(), Slow(), held_out(), chosen, tmp_path)
    assert report.progress.finished == "budget"
    assert 0.6 <= report.progress.seconds <= used + time.monotonic() - began
    rates = [row["learning_rate"] for row in read_curve(tmp_path / "curve.csv")]
    assert rates[0] < max(rates) > rates[-1]


def test_cpu_seconds_end_it(tmp_path):
    report = train(trainee(), Movies(), held_out(), settings(cpu_seconds=0.2), tmp_path)
    assert report.progress.cpu_seconds >= 0.2
    assert read_curve(tmp_path / "curve.csv")[-1]["held_out_mse"] == report.last.mse


def test_a_budget_knows_its_share():
    assert Budget("epochs", 2.5).in_steps(10, 4) == Budget("steps", 6)
    assert Budget("epochs", 0.01).in_steps(10, 4) == Budget("steps", 1)
    assert Budget("steps", 8).progress(2, 99, 99) == 0.25
    assert Budget("minutes", 2).progress(99, 30, 99) == 0.25
    assert Budget("cpu_seconds", 40).progress(99, 99, 10) == 0.25
    with pytest.raises(ValueError, match="unknown number"):
        Budget("epochs", 1).progress(1, 1, 1)
    clock = Clock(100, 50)
    assert 100 <= clock.seconds() < 110
    assert 50 <= clock.cpu_seconds() < 60


def _burn():
    while time.process_time() < 0.5:
        pass
    time.sleep(60)


def test_a_running_worker_counts():
    before, began = cpu_seconds(), time.process_time()
    worker = multiprocessing.get_context("fork").Process(target=_burn, daemon=True)
    worker.start()
    try:
        deadline = time.monotonic() + 30
        while cpu_seconds() - before - (time.process_time() - began) < 0.45:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        worker.kill()
        worker.join()


def test_the_learning_rate_rises_then_falls():
    for schedule in ("cosine", "one_cycle", "constant"):
        steps = [rate(schedule, 0.25, n / 100) for n in range(101)]
        assert steps[0] == START
        assert steps[25] == max(steps) == 1
        assert steps[:26] == sorted(steps[:26])
        assert steps[25:] == sorted(steps[25:], reverse=True)
        assert steps[-1] == pytest.approx(1 if schedule == "constant" else 0)
        assert rate(schedule, 0.25, 1.5) == steps[-1]
        assert rate(schedule, 0, 0) == 1
    assert rate("cosine", 0.2, 0.6) == pytest.approx(0.5)
    assert rate("cosine", 0.2, 0.1) == pytest.approx((1 + START) / 2)


def test_an_average_is_the_sum_of_what_was_with_fading_weights():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    average, by_hand = Average(module, 0.5), module[0].weight.detach().clone()
    for n in range(12):
        with torch.no_grad():
            module[0].weight.normal_()
            module[1].num_batches_tracked += 1
        average.update(module)
        decay = min(0.5, (1 + n) / (10 + n))
        by_hand = decay * by_hand + (1 - decay) * module[0].weight.detach()
    torch.testing.assert_close(average.values["0.weight"], by_hand)
    assert average.values["1.num_batches_tracked"] == 12
    own = weights(module)
    with average.swapped(module):
        assert same(weights(module), average.values)
    assert same(weights(module), own)
    with pytest.raises(ValueError, match="decay 1"):
        Average(module, 1)


def test_biases_and_norms_do_not_decay():
    decayed, free = adamw(Toy(), 0.1, 0.5).param_groups
    assert [p.ndim for p in decayed["params"]] == [4, 4]
    assert [p.ndim for p in free["params"]] == [1, 1, 1, 1]
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.5, 0)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "exactly one of"),
        ({"steps": 1, "minutes": 1}, "exactly one of"),
        ({"steps": 0}, "budget of 0.0 steps"),
        ({"minutes": math.nan}, "budget of nan minutes"),
        ({"steps": 1, "batch": 0}, "batch 0, expected at least 1"),
        ({"steps": 1, "learning_rate": 0}, "learning_rate 0, expected above 0"),
        ({"steps": 1, "ema": 1.0}, "ema 1.0, expected in"),
        ({"steps": 1, "evaluate_every": 2.5}, "evaluate_every 2.5"),
        ({"steps": 1, "schedule": "step"}, "schedule 'step', expected one of"),
        ({"steps": 1, "precision": "16"}, "precision '16', expected one of"),
        ({"steps": 1, "accelerator": "gpu"}, "accelerator 'gpu', expected one of"),
        ({"steps": 1, "devices": 3}, "batches of 8 over 1 x 3|batches of 8 over 3 x 1"),
    ],
)
def test_impossible_settings_are_refused(given, said):
    with pytest.raises(ValueError, match=said):
        TrainingSettings(**given)


# processes and devices


def test_two_processes_train_like_one(tmp_path):
    options = ("--batch=4", "--dropout=0", "--steps=6")
    for folder, processes in (("one", 1), ("two", 2)):
        if processes > 1:  # one is asked to stop, both do
            said = run(tmp_path / folder, *options, "--stop-at=3", processes=processes)
            assert said.returncode
            assert state(tmp_path / folder)["progress"]["step"] == 3
        said = run(tmp_path / folder, *options, processes=processes)
        assert said.returncode == 0, said.stderr
    one, two = (
        torch.load(tmp_path / name / "final.pt", weights_only=True) for name in ("one", "two")
    )
    torch.testing.assert_close(one, two, rtol=0, atol=1e-6)
    for here, there in zip(learned(tmp_path / "one"), learned(tmp_path / "two"), strict=True):
        assert (here["held_out_mse"] is None) == (there["held_out_mse"] is None)
        expected = {name: value for name, value in there.items() if value is not None}
        assert {name: here[name] for name in expected} == pytest.approx(expected, rel=1e-4)
    assert there["held_out_mse"] > 0


def test_processes_that_do_not_agree_end_with_names(tmp_path):
    said = run(tmp_path, "--disagree", processes=2)
    assert said.returncode == 0, said.stderr
    first, second = (json.loads((tmp_path / f"said-{rank}").read_text()) for rank in (0, 1))
    other = "OtherProcessError: another process of this training"
    failed, gone = f"{other} failed and says why", f"{other} is gone"
    assert (first["order"], second["order"]) == ("nothing", "nothing")
    assert (first["first fails"], second["first fails"]) == ("KeyError: 'mine'", failed)
    assert (first["second fails"], second["second fails"]) == (failed, "KeyError: 'mine'")
    assert "in use by another process" in first["locked"]
    assert second["locked"] == failed
    for heard in (first, second):
        assert "holds step 0 for one process and step 4 for another" in heard["two folders"]
        assert "ValueError: norm batch (correction.network.norm)" in heard["batch norm"]
    assert second["first is gone"].startswith(gone)


def test_one_of_several_does_not_train_alone(monkeypatch):
    for name, value in (("WORLD_SIZE", "2"), ("SLURM_NTASKS", "2"), ("LOCAL_RANK", "1")):
        with monkeypatch.context() as changed:
            changed.setenv(name, value)
            with pytest.raises(ValueError, match=f"{name}.*the settings say 1"):
                start_fabric(settings())
    monkeypatch.setenv("WORLD_SIZE", "1")
    monkeypatch.setenv("SLURM_NTASKS", "2")
    monkeypatch.setenv("SLURM_JOB_NAME", "interactive")
    assert start_fabric(settings()).world_size == 1


@pytest.mark.parametrize(
    ("fault", "kind", "said"),
    [
        (MisconfigurationException("no\ngpu 7"), RuntimeError, "Misconfig.*: no gpu 7"),
        (ModuleNotFoundError("No module named 'torch_xla'"), RuntimeError, "torch_xla"),
        (KeyError("SLURM_PROCID"), RuntimeError, "KeyError: 'SLURM_PROCID'"),
        (AssertionError(), RuntimeError, "AssertionError: no reason given"),
        (ValueError("devices"), ValueError, "devices"),
    ],
)
def test_no_such_device_is_named(monkeypatch, fault, kind, said):
    def refuse(**_):
        raise fault

    monkeypatch.setattr("crevnet.devices.Fabric", refuse)
    with pytest.raises(kind, match=said):
        start_fabric(settings())


@pytest.mark.parametrize("memory", ["plain", "frugal"])
def test_two_processes_train_a_crevnet_in_bfloat16(tmp_path, memory):
    options = (f"--crevnet={memory}", "--precision=bf16", "--batch=4", "--steps=12")
    said = run(tmp_path, *options, processes=2)
    assert said.returncode == 0, said.stderr
    losses = [row["loss"] for row in learned(tmp_path)]
    assert all(map(math.isfinite, losses))
    assert losses[-1] < losses[0]


@pytest.mark.gpu
def test_a_gpu_trains_in_bfloat16_like_a_cpu(tmp_path):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA")
    losses = {}
    for accelerator, precision in (("cpu", "32"), ("cuda", "32"), ("cuda", "bf16")):
        folder = tmp_path / f"{accelerator}-{precision}"
        chosen = settings(accelerator=accelerator, precision=precision, steps=20)
        pupil = trainee(dropout=0)
        train(pupil, Movies(), held_out(), chosen, folder)
        losses[folder.name] = [row["loss"] for row in learned(folder)]
        again = trainee(dropout=0)  # its state fits where it was made
        train(again, Movies(), held_out(), chosen, folder)
        assert next(again.parameters()).device.type == accelerator
    assert losses["cuda-32"] == pytest.approx(losses["cpu-32"], rel=1e-2)
    assert losses["cuda-bf16"] == pytest.approx(losses["cpu-32"], rel=5e-2)
