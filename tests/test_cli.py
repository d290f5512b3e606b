from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli import app
from flows.config import read_config
from pipeline.errors import ConfigError
from tests.conftest import ROOT
from tests.world import NORTH_UP, TINY, write_frames


def t4c(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def facts(result):
    return json.loads(result.stdout.splitlines()[-1])


def test_help_is_cheap():
    def used():
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    before = used()
    code = (
        "import sys; from flows.cli import app\n"
        "try: app(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'numpy', 'pandas', 'torch', 'prefect', 'xarray', 'dask', 'h5py', 'matplotlib'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert used() - before < 1.0
    assert said.stderr.strip() == "[]"
    for verb in ("demo", "synth", "rasterise", "ingest", "score", "submit", "check", "maps"):
        assert verb in said.stdout


def test_the_whole_walk(world):
    ingested = t4c("ingest", world.config, "--json")
    assert ingested.exit_code == 0, ingested.output
    assert len(facts(ingested)["cities"]["Aal"]["ingested"]) == 7
    assert facts(t4c("ingest", world.config, "--json"))["cities"]["Aal"]["ingested"] == []

    scored = t4c("score", world.config, "--json")
    assert scored.exit_code == 0, scored.output
    scores = facts(scored)["scores"]
    assert set(scores) == {
        "zeros",
        "persistence",
        "moving_average_3",
        "window_mean",
        "climatology",
        "mix",
    }
    assert scores["mix"]["mse"] <= scores["window_mean"]["mse"] < scores["persistence"]["mse"]
    assert (world.out / "ladder.csv").read_text().startswith("model,mse,volume")

    one = facts(t4c("submit", world.config, "--json"))
    two = facts(t4c("submit", world.config, "--json"))
    assert one["sha256"] == two["sha256"]
    assert one["members"] == 4
    assert t4c("check", world.config).exit_code == 0

    answer = t4c("score", world.config, "--submission", world.out / "submission.zip", "--json")
    assert answer.exit_code == 0, answer.output
    assert 0 < facts(answer)["scores"]["submission"]["mse"] < 0.1

    drawn = t4c("maps", world.config, "--json")
    assert drawn.exit_code == 0, drawn.output
    assert sorted(facts(drawn)["maps"]) == ["Aal_mix", "Bex_mix"]
    assert (world.out / "maps" / "Bex_mix.png").stat().st_size > 5000


def test_a_corrupt_day_ends_in_failure_but_not_at_once(world):
    bad = world.release / "Aal" / "Aal_training" / "20180102_100m_bins.h5"
    bad.write_bytes(b"not HDF5")
    result = t4c("ingest", world.config, "--json")
    assert result.exit_code == 1
    assert str(bad) in result.stderr
    said = facts(result)
    assert said["ok"] is False
    assert len(said["cities"]["Aal"]["ingested"]) == 6
    assert len(said["cities"]["Bex"]["ingested"]) == 7


def test_a_spoiled_submission_fails_the_check_with_all_its_faults(ingested):
    t4c("submit", ingested.config)
    path = ingested.out / "submission.zip"
    path.write_bytes(path.read_bytes()[:5000])
    result = t4c("check", ingested.config, "--json")
    assert result.exit_code == 1
    assert "not a readable zip" in facts(result)["faults"][0]


def test_verbs_out_of_order_say_what_to_do(world):
    for verb in ("score", "submit", "maps"):
        result = t4c(verb, world.config)
        assert result.exit_code == 1
        assert "`t4c ingest` makes it" in result.stderr
    assert "rasterise: not given" in t4c("rasterise", world.config).stderr


def test_a_run_of_some_cities_is_about_those_alone(ingested):
    some = ("--set", "cities=[Bex]")
    made = facts(t4c("submit", ingested.config, *some, "--json"))
    assert made["members"] == 2
    assert t4c("check", ingested.config, *some).exit_code == 0
    shutil.rmtree(ingested.truth / "Aal")
    path = ingested.out / "submission.zip"
    answer = t4c("score", ingested.config, *some, "--submission", path, "--json")
    assert answer.exit_code == 0, answer.output
    assert "Bex" not in facts(answer)["scores"]["submission"]  # one city is the mean itself


def test_a_release_that_was_put_away_does_not_hinder_a_submission(ingested):
    shutil.rmtree(ingested.release)
    result = t4c("submit", ingested.config)
    assert result.exit_code == 0, result.output


def test_a_cluster_that_is_not_there_is_named(world):
    result = t4c("ingest", world.config, "--set", "cluster=garbage")
    assert result.exit_code == 1
    assert "cluster: no Dask scheduler at 'garbage'" in result.stderr


def test_a_folder_named_like_a_shipped_configuration_is_passed_over(tmp_path, monkeypatch):
    (tmp_path / "demo").mkdir()
    monkeypatch.chdir(tmp_path)
    assert read_config(Path("demo")).edition == "synthetic"


def test_the_demo_tells_of_every_step(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    days = ("synth.training=3", "synth.validation=1", "synth.test=1")
    small = (*days, "cities=[Arbon]", "workers=0", "models.crevnet.training.steps=2")
    result = t4c("demo", *(f for s in small for f in ("--set", s)), "--json")
    assert result.exit_code == 0, result.output
    told = facts(result)
    verbs = ["synth", "ingest", "train", "score", "submit", "score_submission", "maps"]
    assert list(told)[1:-1] == verbs
    assert told["score"]["scored_on"] == "validation windows"
    assert told["score_submission"]["scored_on"] == "test slots"
    assert Path(told["maps"]["maps"]["Arbon_mix"]["picture"]).exists()


def test_inspect_describes_a_file(tmp_path):
    from tests.world import draw_day

    path = write_frames(tmp_path / "day.h5", draw_day(NORTH_UP, "20180101"))
    result = t4c("inspect", path, "--json")
    assert result.exit_code == 0, result.output
    assert facts(result)["shape"] == str(TINY.day_shape)
    assert t4c("inspect", tmp_path / "none.h5").exit_code == 1


def test_shipped_configurations_are_valid():
    shipped = sorted((ROOT / "configs").glob("*.yaml"))
    assert len(shipped) >= 4
    for path in shipped:
        if path.stem.startswith(("moving_mnist", "kitti")):  # tests/test_benchmark.py and _video_
            continue
        config = read_config(path)
        assert config.chosen_cities()
    assert read_config((ROOT / "configs" / "demo.yaml").with_suffix("").relative_to(
        ROOT / "configs")) == read_config(ROOT / "configs" / "demo.yaml")  # fmt: skip


def test_overrides_are_read_as_yaml(world):
    config = read_config(world.config, ["stride=4", "submit.gzip=9", "cities=[Bex]"])
    assert (config.stride, config.submit.gzip, config.cities) == (4, 9, ("Bex",))


SPOILED = {
    "edition: none": "no edition 'none'; there are",
    "stride: 0": "stride: .*greater than or equal to 1.*found 0",
    "stride: often": "stride: .*found 'often'",
    "hisotry: 9": "hisotry: Extra inputs are not permitted",
    "submit: {model: oracle}": "submit.model: 'oracle' is no naive forecast, and models has",
    "submit: {gzip: 11}": "submit.gzip: .*less than or equal to 9",
    "submit: {file: ../up.zip}": "submit.file: ",
    "ladder: []": "ladder: ",
    "ladder: [moving_average_0]": "ladder: 'moving_average_0' is no naive forecast",
    "cities: [Aal, Aal]": "cities: name at least one city, each once",
    "cities: [Oslo]": "has no .'Oslo'.; it has .'Aal', 'Bex'.",
    "synth: {first_day: yesterday}": "synth.first_day: ",
    "synth: 3": "synth: ",
    "rasterise: {}": "rasterise.points: Field required",
    "rasterise: {points: [a], max_speed_kmh: -1}": "max_speed_kmh: ",
    "rasterise: {points: [a], naive_time_zone: Mars/Base}": "no time zone 'Mars/Base'",
    "ladder: [moving_average_20]": "moving_average_20 takes 20 frames, but history is 5",
    "submit: {model: moving_average_6}": "moving_average_6 takes 6 frames",
    "workers: -1": "workers: ",
    "store: [a, b]": "store: ",
    "stride: 3\nstride: 4": "duplicate key",
    "- a": "not YAML",
}


@pytest.mark.parametrize("line", SPOILED)
def test_a_spoiled_configuration_is_refused_by_name(world, line):
    key = line.split(":")[0]
    kept = [x for x in world.config.read_text().splitlines() if not x.startswith(f"{key}:")]
    world.config.write_text("\n".join([*kept, line]) + "\n")
    result = t4c("score", world.config)
    assert result.exit_code == 1
    import re

    assert re.search(f"(?s){SPOILED[line]}", result.stderr), result.stderr
    assert "run.yaml" in result.stderr or "catalog" in result.stderr or "cities" in result.stderr


@pytest.mark.parametrize(
    ("override", "said"),
    [("stride", "expected key=value"), ("stride.x=1", "not a section"), ("a=[", "not YAML")],
)
def test_a_spoiled_override_is_refused(world, override, said):
    with pytest.raises(ConfigError, match=said):
        read_config(world.config, [override])


def test_a_missing_configuration_is_named():
    result = t4c("score", "nowhere.yaml")
    assert result.exit_code == 1
    assert "nowhere.yaml: no such file" in result.stderr
