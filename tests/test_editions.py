"""Every edition since 2020, from a seed to a score, on a tiny grid in its exact layout."""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import replace
from datetime import date
from pathlib import Path
from zipfile import ZipFile

import h5py
import numpy as np
import pytest

from pipeline.catalog import read_catalog, read_edition
from pipeline.clock import local_minutes
from pipeline.editions import UNDATED_TEST, Days, Slot
from pipeline.errors import CatalogError, HeatmapError, StoreError
from pipeline.grid import Grid
from pipeline.heatmaps import read_frames, row_writer, write_frames
from pipeline.members import expected_members, listed_days
from pipeline.store import Store
from pipeline.synthetic.since_2020 import Drawing, calendar, draw_frames
from pipeline.synthetic.style import DEFAULT_STYLE
from pipeline.test_slots import read_additional, read_slot_table, with_slots, write_slot_table
from tests.edition_world import CITIES, DAYS, HISTORY, SLOTS, EditionWorld, build, facts, t4c

TESTED = ("traffic4cast2020", "traffic4cast2021", "traffic4cast2021_extended")
LEADS = (0, 1, 2, 5, 8, 11)


@pytest.fixture(scope="module")
def worlds(tmp_path_factory):
    """Every edition drawn, ingested, forecast by copying the last frame; not to be written to."""
    made = {}
    for name in TESTED:
        world = build(tmp_path_factory.mktemp(name), name)
        facts(t4c("synth", world.config, "--json"))
        facts(t4c("ingest", world.config, "--json"))
        facts(t4c("submit", world.config, "--json"))
        made[name] = world
    return made


@pytest.fixture(params=TESTED)
def world(request, worlds):
    return worlds[request.param]


@pytest.fixture
def copied(world, tmp_path):
    """A world of one's own to spoil."""
    shutil.copytree(world.root, tmp_path / "w")
    config = world.config.read_text().replace(str(world.root), str(tmp_path / "w"))
    (tmp_path / "w" / "run.yaml").write_text(config)
    return EditionWorld(tmp_path / "w", world.name)


def drawing(world):
    run = world.run
    training, validation, test = DAYS[world.name]
    counts = {"training": training, "validation": validation, "test": test}
    first = run.synth.first_day
    return Drawing(world.edition, world.release, world.truth, 7, first, counts, 1, DEFAULT_STYLE)


def names(root):
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


LAYOUT_2020 = {
    "training/2019-01-01_{low}_9ch.h5",
    "training/2019-01-02_{low}_9ch.h5",
    "validation/2019-01-03_{low}_9ch.h5",
    *(f"testing/2019-01-0{day}_test.h5" for day in (4, 5, 6)),
    "{up}_static_2019.h5",
}
LAYOUT_2021 = {
    "training/2019-01-02_{up}_8ch.h5",
    "training/2019-01-03_{up}_8ch.h5",
    "training/2019-06-17_{up}_8ch.h5",
    "training/2019-06-18_{up}_8ch.h5",
}
MAPS_2021 = {"{up}_static.h5", "{up}_map_high_res.h5"}
TESTS_2021 = {"{up}_test_%s.h5", "{up}_test_additional_%s.h5"}


def expected_names(name):
    files = {"synthetic.json"} | ({"test_slots.json"} if name == "traffic4cast2020" else set())
    for city in CITIES[name]:
        wanted = set(LAYOUT_2020)
        if name != "traffic4cast2020":
            kind = "spatiotemporal" if name.endswith("extended") else "temporal"
            wanted = set(MAPS_2021) | (set() if kind == "spatiotemporal" else LAYOUT_2021)
            wanted |= set() if city == "ANTWERP" else {test % kind for test in TESTS_2021}
        files |= {f"{city}/{file.format(up=city, low=city.lower())}" for file in wanted}
    return files


def test_a_synthetic_release_has_the_exact_layout(world):
    assert names(world.release) == expected_names(world.name)
    again = facts(t4c("synth", world.config, "--json"))
    assert again["written"] == []


def test_files_have_the_shapes_types_and_chunks_of_the_year(world):
    channels = 9 if world.name == "traffic4cast2020" else 8
    static = (23, 17, 7) if channels == 9 else (9, 23, 17)
    for path in world.release.rglob("*.h5"):
        with h5py.File(path) as file:
            found = file["array"]
            assert (list(file), found.dtype) == (["array"], np.uint8)
            if "_test_additional" in path.name:
                assert found.shape == (SLOTS, 2)
            elif "_test" in path.name:
                slots = SLOTS if channels == 8 else found.shape[0]
                assert found.shape == (slots, HISTORY, 23, 17, channels)
            elif "static" in path.name:
                assert found.shape == static
            elif "high_res" in path.name:
                assert found.shape == (230, 170)
                continue
            else:
                assert found.shape == (48, 23, 17, channels)
            if channels == 8:
                assert found.chunks == (1, *found.shape[1:])


def test_tests_are_the_hours_before_their_slots_and_the_truth_what_follows(world):
    edition, drawn = world.edition, drawing(world)
    for city in edition.cities:
        if not city.tested:
            continue
        for member, shape in expected_members(
            edition, {city.name: listed_days(edition, city)}
        ).items():
            truth = read_frames(world.truth / member, shape)
            day = member.rpartition("/")[2][:10] if world.name == "traffic4cast2020" else ""
            path = edition.layout.path("test", city.name, day)
            given = read_frames(world.release / path, (None,) * 5)
            assert len(given) == len(truth) == shape[0]
            if day:
                starts = [
                    (date.fromisoformat(day), first - HISTORY) for first in edition.slots(city, day)
                ]
            else:
                week = calendar(drawn)["test"]
                extra = world.release / edition.layout.path("additional", city.name)
                told = read_frames(extra, (SLOTS, 2)).astype(int)
                starts = [(week[weekday], start) for weekday, start in told]
            for place, (when, start) in enumerate(starts):
                whole = draw_frames(drawn, city, when)
                np.testing.assert_array_equal(given[place], whole[start : start + HISTORY])
                ahead = [start + HISTORY + lead for lead in LEADS]
                np.testing.assert_array_equal(truth[place], whole[ahead][..., :8])
            assert truth.any()


def test_a_submission_copies_the_last_frame_of_each_slot_in_the_order_of_the_file(world, tmp_path):
    edition = world.edition
    with ZipFile(world.submission) as archive:
        members = set(archive.namelist())
        for member in members:
            archive.extract(member, tmp_path)
    wanted = {
        "traffic4cast2020": {
            f"{city}/2019-01-0{day}_test.h5" for city in ("BERLIN", "MOSCOW") for day in (4, 5, 6)
        },
        "traffic4cast2021": {f"{c}/{c}_test_temporal.h5" for c in ("CHICAGO", "MELBOURNE")},
        "traffic4cast2021_extended": {
            f"{c}/{c}_test_spatiotemporal.h5" for c in ("NEWYORK", "VIENNA")
        },
    }
    assert members == wanted[world.name]
    for member in members:
        city, _, name = member.partition("/")
        day = name[:10] if world.name == "traffic4cast2020" else ""
        given = read_frames(world.release / edition.layout.path("test", city, day), (None,) * 5)
        found = read_frames(tmp_path / member, (None,) * 5)
        assert found.shape == (len(given), 6, 23, 17, 8)
        for lead in range(6):
            np.testing.assert_array_equal(found[:, lead], given[:, -1, ..., :8])


def test_the_rest_of_the_walk(world):
    assert t4c("check", world.config).exit_code == 0
    one = facts(t4c("score", world.config, "--submission", world.submission, "--json"))
    told = one["reports"]["submission"]
    assert set(told) == {"mse", "masked", "volume", "speed", "wiedemann"}
    assert told["mse"] == one["scores"]["submission"]["mse"]
    assert told["masked"] > told["mse"] > told["volume"]
    slots = (world.root / "out" / "score_submission_slots.csv").read_text().splitlines()
    assert slots[0] == "model,city,day,slot,lead,mse"
    assert len(slots) == 1 + one["windows"] * 6
    again = facts(t4c("ingest", world.config, "--json"))
    assert all(city["ingested"] == [] for city in again["cities"].values())
    if world.name == "traffic4cast2021_extended":
        assert "no validation days" in t4c("score", world.config).stderr
        return
    ladder = facts(t4c("score", world.config, "--json"))["scores"]
    assert set(ladder) == {"zeros", "persistence", "window_mean"}
    assert ladder["window_mean"]["mse"] < ladder["persistence"]["mse"]


def test_a_release_that_was_put_away_does_not_hinder_a_submission(copied):
    before = copied.submission.read_bytes()
    shutil.rmtree(copied.release)
    assert t4c("submit", copied.config).exit_code == 0
    assert copied.submission.read_bytes() == before


def test_a_truth_that_lacks_a_file_is_no_truth(copied):
    first = sorted(copied.truth.rglob("*.h5"))[0]
    first.unlink()
    result = t4c("score", copied.config, "--submission", copied.submission)
    assert result.exit_code == 1
    city = next(city.name for city in copied.edition.cities if city.name in str(first))
    day = "2019-01-04" if copied.name == "traffic4cast2020" else UNDATED_TEST
    assert f"{city} lacks the truth of ['{day}']" in result.stderr


def test_a_truth_that_lacks_a_city_is_no_truth(copied):
    """The organisers' scorer of 2019 left out what was not there, and took the mean of the rest."""
    city = [city for city in copied.edition.cities if city.tested][-1].name
    shutil.rmtree(copied.truth / city)
    result = t4c("score", copied.config, "--submission", copied.submission)
    assert result.exit_code == 1
    assert f"{city} lacks the truth of" in result.stderr


def test_masks_are_asked_of_tested_cities_and_named_where_they_lack(copied, tmp_path):
    tested = [city.name for city in copied.edition.cities if city.tested]
    how = ("score", copied.config, "--submission", copied.submission, "--json")
    for city in tested:
        write_frames(tmp_path / f"{city}.h5", np.eye(23, 17, dtype=np.uint8))
    masked = facts(t4c(*how, "--set", f"masks={tmp_path}/{{city}}.h5"))["reports"]["submission"]
    assert masked["masked"] > 0
    (copied.release / copied.edition.layout.path("static", tested[0])).unlink()
    result = t4c(*how)
    assert "masked" not in facts(result)["reports"]["submission"]
    assert f"no masked score: the release lacks ['{copied.release}/{tested[0]}" in result.stdout
    write_frames(tmp_path / f"{tested[0]}.h5", np.zeros((23, 17), np.uint8))
    spoiled = t4c(*how, "--set", f"masks={tmp_path}/{{city}}.h5")
    assert "a mask without a cell" in spoiled.stderr
    if copied.name == "traffic4cast2021":
        whole = (SLOTS, len(LEADS), 23, 17, 8)
        for city in copied.edition.cities:
            write_frames(tmp_path / f"{city.name}.h5", np.ones(whole, np.uint8))
        ladder = t4c("score", copied.config, "--set", f"masks={tmp_path}/{{city}}.h5")
        assert "only for --submission" in ladder.stderr


def test_additional_files_that_changed_are_read_again(worlds, tmp_path):
    """Of the same size, and older than the test file beside them."""
    shutil.copytree(worlds["traffic4cast2021"].root, tmp_path / "w")
    config = worlds["traffic4cast2021"].config.read_text()
    (tmp_path / "w" / "run.yaml").write_text(
        config.replace(str(worlds["traffic4cast2021"].root), str(tmp_path / "w"))
    )
    copied = EditionWorld(tmp_path / "w", "traffic4cast2021")
    (beside,) = (copied.release / "CHICAGO").glob("*additional*")
    with h5py.File(beside, "r+") as file:
        file["array"][0, 0] = (int(file["array"][0, 0]) + 1) % 7
    os.utime(beside, ns=(1, 1))
    said = facts(t4c("ingest", copied.config, "--json"))["cities"]
    assert said["CHICAGO"]["ingested"] == [UNDATED_TEST]
    assert said["MELBOURNE"]["ingested"] == []


def test_days_that_a_run_puts_elsewhere_are_not_used_before_they_are_ingested_again(worlds):
    world = worlds["traffic4cast2021"]
    moved = ("--set", "validation={first: 2019-01-02, last: 2019-01-02}")
    result = t4c("score", world.config, *moved)
    assert result.exit_code == 1
    assert "'2019-01-02'" in result.stderr
    assert "ingest again" in result.stderr


def test_a_release_without_tests_is_drawn(tmp_path):
    world = build(tmp_path / "w", "traffic4cast2021")
    drawn = facts(t4c("synth", world.config, "--set", "synth.test=0", "--json"))
    assert drawn["ok"]
    assert not list(world.release.rglob("*test*"))
    (world.release / "CHICAGO/training/._2019-01-02_CHICAGO_8ch.h5").write_bytes(b"Mac OS X")
    assert facts(t4c("ingest", world.config, "--json"))["ok"]


def test_each_city_of_2022_has_days_to_validate_on():
    edition = read_edition("traffic4cast2022")
    for year in (2019, 2020, 2021):
        assert edition.split_of(f"{year}-12-20") == "validation"
        assert edition.split_of(f"{year}-07-01") == "training"
    with pytest.raises(ValueError, match="share days"):
        replace(
            edition, splits=edition.splits | {"training": Days(date(2020, 1, 1), date(2021, 1, 1))}
        )


def test_a_test_file_that_is_not_there_is_no_submission(copied):
    edition = copied.edition
    day = "2019-01-05" if copied.name == "traffic4cast2020" else UNDATED_TEST
    city = edition.cities[0]
    (copied.release / edition.layout.path("test", city.name, day)).unlink()
    shutil.rmtree(copied.root / "store")
    t4c("ingest", copied.config)
    result = t4c("submit", copied.config)
    assert result.exit_code == 1
    lacking = rf"lacks test files of the release, by city: \{{.*'{city.name}': \['{day}'\]"
    assert re.search(rf"{lacking}|no day of {city.name}|no such store", result.stderr)


def test_slots_that_changed_are_ingested_again(copied):
    edition, city = copied.edition, copied.edition.cities[0]
    if copied.name == "traffic4cast2020":
        table = dict(city.slots_by_day)
        table["2019-01-05"] = tuple(reversed(table["2019-01-05"]))
        moved = table["2019-01-05"] != city.slots_by_day["2019-01-05"]
        write_slot_table(copied.release / "test_slots.json", edition, table)
        wanted = ["2019-01-05"] if moved else []
    else:
        path = copied.release / edition.layout.path("additional", city.name)
        with h5py.File(path, "r+") as file:
            file["array"][0] = 6, 3
        wanted = [UNDATED_TEST]
    said = facts(t4c("ingest", copied.config, "--json"))["cities"][city.name]
    assert said["ingested"] == wanted
    if copied.name != "traffic4cast2020":
        store = Store.open(copied.run.store, edition, city)
        first = store.slot_windows(UNDATED_TEST, history=HISTORY)[0]
        assert (edition.day_of(first.day).weekday(), first.start) == (6, 3)


def test_a_missing_additional_file_is_named(copied):
    if copied.name == "traffic4cast2020":
        (copied.release / "test_slots.json").unlink()
        shutil.rmtree(copied.root / "store")
        result = t4c("ingest", copied.config)
        assert result.stderr.count("test_slots.json tells no slots of this day") == 6
        assert "no test days" in t4c("check", copied.config).stderr
        return
    city = copied.edition.cities[0]
    path = copied.release / copied.edition.layout.path("additional", city.name)
    path.unlink()
    assert f"{path}: no such file" in t4c("ingest", copied.config).stderr


def test_movies_of_2022_are_read(tmp_path):
    world = build(tmp_path, "traffic4cast2022")
    facts(t4c("synth", world.config, "--json"))
    assert names(world.release) == {"synthetic.json"} | {
        f"movie/{city}/{day}_{city}_8ch.h5"
        for city in ("london", "madrid")
        for day in ("2019-07-01", "2019-12-18")
    }
    ingested = facts(t4c("ingest", world.config, "--json"))["cities"]
    assert all(len(city["ingested"]) == 2 for city in ingested.values())
    store = Store.open(world.run.store, world.edition, world.edition.cities[0])
    assert (store.days("training"), store.days("validation")) == (["2019-07-01"], ["2019-12-18"])
    frames = store.read_day("2019-07-01")
    drawn = draw_frames(drawing(world), world.edition.cities[0], date(2019, 7, 1))
    np.testing.assert_array_equal(frames, drawn)
    result = t4c("submit", world.config)
    assert "no test days" in result.stderr
    other = facts(t4c("ingest", world.config, "--set",
                      "validation={first: 2019-07-01, last: 2019-07-31}", "--json"))  # fmt: skip
    assert all(len(city["ingested"]) == 2 for city in other["cities"].values())


# Rehearsals.


def test_a_private_test_is_cut_and_can_be_answered(copied, tmp_path):
    if copied.name == "traffic4cast2021_extended":
        said = t4c("prepare-test", copied.config, "--set", f"prepare.into={tmp_path}/r").stderr
        assert "has 0 validation days to cut, expected 2" in said
        return
    into, cities = tmp_path / "r", [c for c in copied.edition.cities if c.tested]
    how = ("--set", f"prepare.into={into}", "--set", "prepare.days=1")
    cut = facts(t4c("prepare-test", copied.config, *how, "--json"))
    assert facts(t4c("prepare-test", copied.config, *how, "--json"))["written"] == []
    run = into / "run.yaml"
    assert (
        "another seed" in t4c("prepare-test", copied.config, *how, "--set", "prepare.seed=1").stderr
    )
    ingested = facts(t4c("ingest", run, "--json"))["cities"]
    assert set(ingested) == {city.name for city in copied.edition.cities}
    for city in cities:
        (held,) = cut["days"][city.name]
        assert held not in set(ingested[city.name]["ingested"]) - {UNDATED_TEST} or (
            copied.name == "traffic4cast2020"
        )
        store = Store.open(into / "store", read_run(run).chosen_edition(), city)
        assert held not in store.days("training") + store.days("validation")
        assert store.days("training") == Store.open(copied.run.store, copied.edition, city).days(
            "training"
        )
    made = facts(t4c("submit", run, "--json"))
    assert made["faults"] == []
    score = facts(t4c("score", run, "--submission", made["path"], "--json"))
    whole = Store.open(copied.run.store, copied.edition, cities[0])
    (held,) = cut["days"][cities[0].name]
    edition = read_run(run).chosen_edition()
    cut_store = Store.open(into / "store", edition, edition.city(cities[0].name))
    test = cut_store.days("test")[0]
    windows = cut_store.slot_windows(test, history=HISTORY)
    truth = read_frames(into / "truth" / edition.layout.path("submission", cities[0].name, held),
                        edition.forecast_shape(edition.city(cities[0].name), test))  # fmt: skip
    for place, window in enumerate(windows):
        seen = cut_store.slot_history(test, place, window)
        np.testing.assert_array_equal(seen, whole.read(held, window.start, window.split))
        ahead = whole.read_day(held)[list(window.future)][..., :8]
        np.testing.assert_array_equal(truth[place], ahead)
        assert edition.day_of(window.day).weekday() == edition.day_of(held).weekday()
    assert score["scores"]["submission"]["mse"] > 0


def read_run(path: Path):
    from flows.config import read_config

    return read_config(path)


def test_a_rehearsal_of_2019_is_blanked(ingested, tmp_path):
    into = tmp_path / "rehearsal"
    how = ("--set", f"prepare.into={into}", "--set", "prepare.days=1")
    cut = facts(t4c("prepare-test", ingested.config, *how, "--json"))
    run = into / "run.yaml"
    assert t4c("ingest", run).exit_code == 0
    made = facts(t4c("submit", run, "--json"))
    assert made["members"] == 2
    assert facts(t4c("score", run, "--submission", made["path"], "--json"))["windows"] == 4
    from tests.world import TINY, blank, draw_day, truth_of

    for city in TINY.cities:
        (day,) = cut["days"][city.name]
        frames = draw_day(city, day)
        shown = into / "release" / TINY.layout.path("test", city.name, day)
        np.testing.assert_array_equal(read_frames(shown, TINY.day_shape), blank(city, frames))
        truth = into / "truth" / TINY.layout.path("submission", city.name, day)
        np.testing.assert_array_equal(read_frames(truth, (None,) * 5), truth_of(city, frames))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    said = t4c("prepare-test", ingested.config, "--set", f"prepare.into={tmp_path}/full").stderr
    assert "holds other files" in said
    assert "prepare: not given" in t4c("prepare-test", ingested.config).stderr


# What the catalogue says.


def test_the_editions_are_what_the_organisers_fixed():
    pairs = [f"{what}_{way}" for way in ("NE", "NW", "SE", "SW") for what in ("volume", "speed")]
    twenty, core = read_edition("traffic4cast2020"), read_edition("traffic4cast2021")
    extended = read_edition("traffic4cast2021_extended")
    assert twenty.day_shape == (288, 495, 436, 9)
    assert twenty.channels == (*pairs, "incidents")
    assert core.channels == extended.channels == tuple(pairs)
    for edition in (twenty, core, extended):
        assert edition.leads == LEADS
        assert edition.test_history + edition.leads[-1] + 1 == 24
        assert edition.forecast_channels == 8
    assert (twenty.score_scale, core.score_scale, extended.score_scale) == (255, 1, 1)
    berlin = core.city("BERLIN")
    assert core.forecast_shape(berlin) == (100, 6, 495, 436, 8)
    assert core.test_shape(berlin, UNDATED_TEST) == (100, 12, 495, 436, 8)
    assert core.layout.submission_mib == 6400
    days = {city.name: listed_days(core, city) for city in core.cities}
    assert sorted(expected_members(core, days)) == [
        f"{c}/{c}_test_temporal.h5" for c in ("BERLIN", "CHICAGO", "ISTANBUL", "MELBOURNE")
    ]
    days = {city.name: listed_days(extended, city) for city in extended.cities}
    assert sorted(expected_members(extended, days)) == [
        f"{c}/{c}_test_spatiotemporal.h5" for c in ("NEWYORK", "VIENNA")
    ]


def test_every_box_is_the_size_of_its_grid_and_two_cities_are_rotated():
    rotated = set()
    for name, edition in read_catalog().items():
        if not name.startswith("traffic4cast"):
            continue
        for city in edition.cities:
            tall, wide = city.lat_max - city.lat_min, city.lon_max - city.lon_min
            if city.rotated:
                rotated.add(city.name)
                tall, wide = wide, tall
            assert (tall, wide) == pytest.approx((0.495, 0.436)), city.name
    assert rotated == {"Moscow", "MOSCOW", "ANTWERP"}


@pytest.mark.parametrize(
    ("city", "north_east", "cell"),
    [
        # Antwerp cathedral 51.2203 N, 4.4015 E; the Kremlin 55.7520 N, 37.6175 E; Berlin's gate.
        ("ANTWERP", (51.2203, 4.4015), (494 - 248, 435 - 219)),
        ("MOSCOW", (55.7520, 37.6175), (494 - 259, 435 - 246)),
        ("BERLIN", (52.5163, 13.3777), (494 - 157, 188)),
    ],
)
def test_places_fall_into_their_cells(city, north_east, cell):
    edition = read_edition("traffic4cast2021")
    grid = Grid.of(edition, edition.city(city))
    row, column, inside = grid.cells(*(np.array([degrees]) for degrees in north_east))
    assert inside.all()
    assert (int(row[0]), int(column[0])) == cell


def test_files_keep_local_time_and_undated_slots_their_weekday(worlds):
    edition = read_edition("traffic4cast2021")
    for name in ("BERLIN", "CHICAGO", "MELBOURNE"):
        weekday, minute = local_minutes(edition, edition.city(name), "2019-04-06")
        np.testing.assert_array_equal(minute, 5 * np.arange(288))
        assert set(weekday) == {5}
    weekday, minute = local_minutes(
        read_edition("traffic4cast2020"), read_edition("traffic4cast2020").city("ISTANBUL"),
        "2019-04-06",
    )  # fmt: skip
    assert (weekday[0], minute[0], weekday[-1]) == (5, 180, 6)
    assert [edition.day_of(edition.weekday(n)).weekday() for n in range(7)] == list(range(7))


def test_the_calendar_of_2020_is_the_real_one(shared):
    edition = read_edition("traffic4cast2020")
    counts = {"training": 181, "validation": 18, "test": 163}
    nowhere, first = Path("nowhere"), date(2019, 1, 1)
    days = calendar(Drawing(edition, nowhere, nowhere, 0, first, counts, 1, DEFAULT_STYLE))
    real = json.loads((shared / "t4c_fragments" / "2020_val_dates.json").read_text())
    assert [f"{day}" for day in days["validation"]] == real
    table = read_slot_table(shared / "t4c_fragments" / "2020_test_slots.json", edition)
    assert [f"{day}" for day in days["test"]][:80] == sorted(table)[:80]


# Tables of slots, spoiled.

SPOILED_TABLES = {
    "{": "not JSON",
    "{}": "holds dict, expected a list of days",
    "[]": "expected a list of days",
    "[3]": "entry 0: '3', expected one day and its first frames",
    '[{"2019-07-02": [1], "2019-07-03": [1]}]': "expected one day",
    '[{"20190702": [1]}]': "does not match|is not how",
    '[{"2019-7-02": [1]}]': "is not how",
    '[{"2019-07-02": []}]': "expected a list of first frames",
    '[{"2019-07-02": [1.0]}]': "expected frames from 0 to 264",
    '[{"2019-07-02": [true]}]': "expected frames from 0 to 264",
    '[{"2019-07-02": [265]}]': "expected frames from 0 to 264",
    '[{"2019-07-02": [5, 5]}]': "expected each once",
    '[{"2019-07-02": [5]}, {"2019-07-02": [6]}]': "entry 1: 2019-07-02 is given twice",
}


@pytest.mark.parametrize("text", SPOILED_TABLES)
def test_a_spoiled_table_of_slots_is_refused(tmp_path, text):
    (tmp_path / "test_slots.json").write_text(text)
    edition = read_edition("traffic4cast2020")
    with pytest.raises(CatalogError, match=rf"test_slots\.json: .*({SPOILED_TABLES[text]})"):
        with_slots(edition, [tmp_path])


def test_all_faults_of_a_table_are_listed(tmp_path):
    (tmp_path / "t.json").write_text('[3, {"2019-07-02": [999]}, {"x": [1]}]')
    with pytest.raises(CatalogError) as refusal:
        read_slot_table(tmp_path / "t.json", read_edition("traffic4cast2020"))
    assert len(str(refusal.value).splitlines()) == 3


def test_a_table_is_read_as_it_was_written_and_not_sorted(tmp_path):
    edition = read_edition("traffic4cast2020")
    table = {"2019-07-03": (240, 12, 100), "2019-07-02": (57,)}
    write_slot_table(tmp_path / "t.json", edition, table)
    assert read_slot_table(tmp_path / "t.json", edition) == table
    assert list(read_slot_table(tmp_path / "t.json", edition)) == list(table)


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ((7, 0), "row 1 is weekday 7"),
        ((0, 255), None),
        ((6, 240), None),
    ],
)
def test_an_additional_file_out_of_range_is_refused(tmp_path, told, said):
    edition = replace(read_edition("traffic4cast2021"), slots_per_test=2)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["array"] = np.array([(0, 0), told], np.uint8)
    if said is None:
        slots = read_additional(tmp_path / "a.h5", edition)
        assert slots[0] == Slot("2020-04-20", 12)
        assert slots[1].first == told[1] + 12
        return
    with pytest.raises(HeatmapError, match=said):
        read_additional(tmp_path / "a.h5", edition)


def test_an_additional_file_of_another_length_is_refused(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["array"] = np.zeros((99, 2), np.uint8)
    with pytest.raises(HeatmapError, match=r"shape \(99, 2\), expected \(100, 2\)"):
        read_additional(tmp_path / "a.h5", read_edition("traffic4cast2021"))


# Rows, in any order.


def test_rows_are_written_in_any_order_and_none_twice_or_missing(tmp_path):
    rows = np.random.default_rng(0).integers(0, 256, (4, 3, 5, 2), dtype=np.uint8)
    with row_writer(tmp_path / "a.h5", rows.shape, gzip=1) as write:
        for place in (2, 0, 3, 1):
            write(place, rows[place])
    np.testing.assert_array_equal(read_frames(tmp_path / "a.h5", rows.shape), rows)
    with (
        pytest.raises(ValueError, match=r"rows \[1, 2, 3\] are missing"),
        row_writer(tmp_path / "b.h5", rows.shape) as write,
    ):
        write(0, rows[0])
    for place, row in ((0, rows[0].astype(float)), (9, rows[0]), (0, rows[0, :2])):
        with (
            pytest.raises(ValueError, match="expected a row of"),
            row_writer(tmp_path / "b.h5", rows.shape) as write,
        ):
            write(place, row)
    assert [path.name for path in tmp_path.iterdir()] == ["a.h5"]


def test_blocks_are_no_days(worlds):
    world = worlds["traffic4cast2020"]
    store = Store.open(world.run.store, world.edition, world.edition.cities[0])
    with pytest.raises(StoreError, match="no whole days"):
        store.dataset("test")
    day = store.days("test")[0]
    assert len(store.read_day(day)) == HISTORY * len(world.edition.slots(store.city, day))
