from __future__ import annotations

import json
import re
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipeline.error_curves import error_curve, reliability, timed_rows, worst_days, worst_windows
from pipeline.films import FilmedWindow, film_frames, save_gif, save_mp4
from pipeline.forecasters import MovingAverage, Persistence
from pipeline.maps.sums import sum_errors
from pipeline.palette import LEVELS, PAPER, difference_indices, value_indices
from pipeline.scoring import join, score_windows
from pipeline.sources import TrafficSource
from pipeline.windows import Cut, WindowPlan
from tests.test_cli import facts, t4c
from tests.world import NORTH_UP, TINY, VALIDATION, draw_day

CUT = Cut(48, 5, TINY.leads, 3)


@pytest.fixture
def errors(stores):
    models = {"mean": MovingAverage(), "copy": Persistence()}
    return join(
        [
            score_windows(TrafficSource(s, WindowPlan(s.city.name, VALIDATION, CUT)), models)
            for s in stores
        ]
    )


@pytest.mark.parametrize("part", ["hour", "lead", "channel", "weekday"])
def test_curves_hold_every_error_once(errors, part):
    rows = timed_rows(errors)
    assert len(rows) == len(errors.rows)
    curve = error_curve(errors, part, rows)
    for model in ("mean", "copy"):
        mine = rows[rows["model"] == model]
        weights = mine.groupby(part)["cells"].sum()
        values = curve[curve["model"] == model].set_index(part)["mse"]
        mean = mine["sse"].sum() / mine["cells"].sum() / 255**2
        assert (values * weights).sum() / weights.sum() == pytest.approx(mean, rel=1e-12)
    assert (curve["low"] <= curve["mse"] * (1 + 1e-12)).all()
    assert (curve["mse"] <= curve["high"] * (1 + 1e-12)).all()
    assert set(curve["days"]) <= {1, 2}


def test_hours_are_those_that_people_live_by(errors):
    rows = timed_rows(errors)
    winter = rows[(rows["city"] == "Aal") & (rows["slot"] == 20) & (rows["lead"] == 1)]
    assert set(winter["hour"]) == {11}  # frame 21 starts at 10:30 UTC, 11:30 in Zurich
    assert set(winter["time"]) == {"11:00"}


def test_the_worst_window_is_named(errors):
    worst = worst_windows(errors, "copy", 3)
    mine = errors.rows[errors.rows["model"] == "copy"]
    sums = mine.groupby(["city", "day", "slot"])[["sse", "cells"]].sum()
    mse = (sums["sse"] / sums["cells"] / 255**2).sort_values(ascending=False)
    city, day, slot = mse.index[0]
    assert worst.iloc[0][["city", "day"]].tolist() == [city, day]
    assert worst["mse"].tolist() == pytest.approx(mse.head(3).tolist())
    hours, half = divmod(slot, 2)
    hours = (hours + (city == "Aal")) % 24
    assert worst.iloc[0]["time"] == f"{hours:02d}:{30 * half:02d}"
    assert len(worst_days(errors, "copy")) == 4


def test_reliability_counts_every_cell(stores):
    source = TrafficSource(stores[0], WindowPlan("Aal", VALIDATION, CUT))
    sums = sum_errors(source, {"copy": Persistence()})
    found = reliability(sums.models["copy"], least=1)
    said, came = [], []
    for day in VALIDATION:
        frames = draw_day(NORTH_UP, day)
        for start in range(0, 48 - CUT.length + 1, 3):
            for lead in TINY.leads:
                said.append(frames[start + 4, ..., 0])
                came.append(frames[start + 5 + lead].any(axis=-1))
    slow = pd.Series(np.ravel(came)).groupby(np.ravel(said)).agg(["mean", "size"])
    np.testing.assert_allclose(found, slow.reset_index().to_numpy(float))


def test_a_film_shows_bytes_and_their_differences(tmp_path):
    rng = np.random.default_rng(0)
    history, truth, forecast = (
        rng.integers(0, 256, (frames, 9, 14), dtype=np.uint8) for frames in (4, 3, 3)
    )
    times = [f"00:{5 * n:02d}" for n in range(7)]
    frames = film_frames(FilmedWindow("Aal", history, truth, forecast, times), zoom=8)
    assert len(frames) == 7
    assert {frame.size for frame in frames} == {(8 + 4 * (14 * 8 + 8), 48 + 9 * 8 + 16)}
    last = np.asarray(frames[-1])[32 : 32 + 72]
    shown = [last[::8, 8 + p * 120 : 8 + p * 120 + 112 : 8] for p in range(4)]
    for place, wanted in enumerate(
        [
            value_indices(history[-1]),
            value_indices(truth[-1]),
            value_indices(forecast[-1]),
            difference_indices(forecast[-1], truth[-1]),
        ]
    ):
        np.testing.assert_array_equal(shown[place], wanted)
    first = np.asarray(frames[0])[32 : 32 + 72]
    assert (first[::8, 128 : 128 + 112 : 8] == PAPER).all()
    same = difference_indices(truth, truth)
    assert set(np.unique(same)) <= {LEVELS + LEVELS // 2, LEVELS + LEVELS // 2 - 1}
    with Image.open(save_gif(tmp_path / "f.gif", frames)) as gif:
        assert gif.n_frames == 7


def test_a_film_is_an_mp4_where_there_is_ffmpeg(tmp_path, monkeypatch):
    frames = [Image.new("RGB", (33, 21), colour) for colour in ("red", "blue")]
    if shutil.which("ffmpeg"):
        path = save_mp4(tmp_path / "f.mp4", frames)
        probe = ["ffprobe", "-v", "error", "-count_frames", "-show_streams", "-of", "json", path]
        [stream] = json.loads(subprocess.run(probe, capture_output=True, check=True).stdout)[
            "streams"
        ]
        assert (stream["codec_name"], stream["width"], stream["height"]) == ("h264", 34, 22)
        assert int(stream["nb_read_frames"]) == 5  # the last one is held
        again = save_mp4(tmp_path / "g.mp4", frames)
        assert path.read_bytes() == again.read_bytes()
    bad = tmp_path / "bin" / "ffmpeg"
    bad.parent.mkdir()
    bad.write_text("#!/bin/sh\necho no codec >&2\nexit 3\n")
    bad.chmod(0o755)
    monkeypatch.setenv("PATH", f"{bad.parent}:/bin")
    with pytest.raises(OSError, match=r"h.mp4: ffmpeg ended with 3: no codec"):
        save_mp4(tmp_path / "h.mp4", frames)
    assert not list(tmp_path.glob("h.mp4*"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert save_mp4(tmp_path / "i.mp4", frames) is None


def test_the_report_holds_all_and_asks_for_nothing(ingested):
    result = t4c(
        "report", ingested.config, "--json", "--set", "ladder=[persistence,window_mean]",
        "--set", "maps={models: [mix], baseline: window_mean}",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    said = facts(result)
    page = (ingested.out / "report.html").read_text()
    assert said["bytes"] == len(page.encode()) < 8e6
    assert set(said["scores"]) == {"persistence", "window_mean", "mix"}
    assert not re.findall(r"(?:src|href|url)\s*[=(]\s*[\"']?(?!data:)[a-z]", page)
    assert f"{said['scores']['mix'] * 1e3:.3f}" in page
    for word in ("Where it fails", "digest", "Aal", "Bex", "&quot;stride&quot;: 3"):
        assert word in page, word


def test_words_of_a_configuration_cannot_become_markup(ingested):
    text = (ingested.root / "catalog.yaml").read_text()
    evil = "<script>alert(1)</script><img src=x>"
    (ingested.root / "catalog.yaml").write_text(text.replace("A tiny edition", f'"{evil}"'))
    some = ("--set", "cities=[Aal]", "--set", "ladder=[zeros]", "--set", "maps={models: [zeros]}")
    assert t4c("report", ingested.config, *some).exit_code == 0
    made = t4c("study", "make", ingested.config, *some, "--pairs", "2")
    assert made.exit_code == 0, made.output
    for page in (ingested.out / "report.html", ingested.out / "study" / "study.html"):
        assert "<script>alert" not in page.read_text()
        assert "<img src=x" not in page.read_text()
        assert "&lt;script&gt;alert(1)" in page.read_text()


def test_a_study_is_made_and_scored_from_the_command_line(ingested):
    made = t4c("study", "make", ingested.config, "--model", "window_mean", "--model", "zeros",
               "--pairs", "5", "--seed", "2", "--json")  # fmt: skip
    assert made.exit_code == 0, made.output
    assert facts(made)["pairs"] == 10
    key = json.loads((ingested.out / "study" / "key.json").read_text())
    answers = [{"pair": n, "side": asked["truth"], "ms": 5} for n, asked in enumerate(key["pairs"])]
    path = ingested.root / "answers.json"
    path.write_text(json.dumps({"study": key["study"], "judge": "", "answers": answers}))
    scored = t4c("study", "score", ingested.config, path, "--json")
    assert scored.exit_code == 0, scored.output
    assert facts(scored)["models"]["zeros"]["accuracy"] == 1
    path.write_text("{}")
    refused = t4c("study", "score", ingested.config, path)
    assert refused.exit_code == 1
    assert "answers.json: study: Field required" in refused.stderr
    for wrong, said in {
        "--model=oracle": "'oracle'",
        "--channel=smell": "--channel smell: no such channel",
        "--pairs=900": "pairs, but Aal has",
    }.items():
        refused = t4c("study", "make", ingested.config, wrong)
        assert refused.exit_code == 1, wrong
        assert said in refused.stderr


def test_films_are_north_up_and_refuse_by_name(ingested):
    film = ("film", ingested.config, "--model", "window_mean", "--json")
    made = t4c(*film, "--city", "Bex", "--at", "12:00", "--zoom", "8")
    assert made.exit_code == 0, made.output
    with Image.open(facts(made)["films"][0]) as gif:
        assert gif.n_frames == 5 + 4
        assert gif.size == (8 + 4 * (11 * 8 + 8), 48 + 7 * 8 + 16)  # 11 wide and 7 high: turned
    for wrong, said in {
        "--city=Oslo": "--city Oslo: no such city; there are",
        "--day=20990101": "--day 20990101: Aal has",
        "--at=25:00": "--at 25:00: expected HH:MM",
        "--at=01:30": "--at 01:30: leaves no room",
        "--channel=smell": "--channel smell: no such channel",
        "--model=oracle": "'oracle'",
    }.items():
        refused = t4c(*film, wrong)
        assert refused.exit_code == 1, wrong
        assert said in refused.stderr, refused.stderr


def test_a_study_is_made_of_a_benchmark_too(tmp_path):
    from tests.digits_world import build_digits
    from tests.test_benchmark import CONFIG

    build_digits(tmp_path)
    config = tmp_path / "digits.yaml"
    config.write_text(CONFIG.format(root=tmp_path, out="out", steps=1))
    make = ("study", "make", config, "--set", "pictures.hard=0", "--json")
    made = t4c(*make, "--model", "copy_last", "--model", "zeros", "--pairs", "2")
    assert made.exit_code == 0, made.output
    assert facts(made)["pairs"] == 4
    key = json.loads((tmp_path / "out" / "study" / "key.json").read_text())
    names = {(asked["model"], asked["name"]) for asked in key["pairs"]}
    wanted = ("sequence 3", "sequence 0")
    assert names == {(model, name) for model in ("copy_last", "zeros") for name in wanted}
    for wrong, said in {
        ("--model", "unet"): "trained are",
        ("--model", "zeros", "--pairs", "3"): "3 pairs, but",
        ("--pairs", "2"): "a study of no pairs",
    }.items():
        refused = t4c(*make, *wrong)
        assert refused.exit_code == 1
        assert re.search(said, refused.stderr), refused.stderr
