"""Real pieces of the releases, found in public repositories, in our readers' hands."""

from __future__ import annotations

import json
from collections import Counter
from datetime import date

import numpy as np
import pytest

from pipeline.catalog import read_catalog, read_edition
from pipeline.file_names import parse_name
from pipeline.heatmaps import open_frames, write_frames
from pipeline.static_maps import layers_first, read_mask, read_static
from pipeline.test_slots import read_slot_table, with_slots
from tests.edition_world import facts, t4c

NONZERO_2020 = {
    "BERLIN": (0.21, 0.21, 0.057, 0.032, 0.002, 0.094, 0.036),
    "ISTANBUL": (0.22, 0.22, 0.094, 0.017, 0.004, 0.145, 0.037),
    "MOSCOW": (0.50, 0.50, 0.102, 0.028, 0.007, 0.190, 0.034),
}
BERLIN_DAY = "berlin_2019_one_day_speedNE_288x495x436x1.h5"


@pytest.fixture(scope="module")
def fragments(shared):
    folder = shared / "t4c_fragments"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    return folder


def test_all_500_slots_of_2020_are_read_in_their_order(fragments):
    edition = read_edition("traffic4cast2020")
    table = read_slot_table(fragments / "2020_test_slots.json", edition)
    assert len(table) == 163
    assert sum(map(len, table.values())) == 500
    assert {len(slots) for slots in table.values()} == {1, 2, 3, 4, 5}
    assert table["2019-07-02"] == (176, 39, 233)
    assert sum(list(slots) != sorted(slots) for slots in table.values()) == 126
    assert (min(map(min, table.values())), max(map(max, table.values()))) == (12, 252)


def test_the_real_table_gives_the_shapes_of_2020(fragments, tmp_path):
    (tmp_path / "test_slots.json").write_bytes((fragments / "2020_test_slots.json").read_bytes())
    edition = with_slots(read_edition("traffic4cast2020"), [tmp_path])
    for city in edition.cities:
        assert edition.test_shape(city, "2019-07-02") == (3, 12, 495, 436, 9)
        assert edition.forecast_shape(city, "2019-07-05") == (2, 6, 495, 436, 8)


def test_every_file_of_2021_is_known_by_its_name(fragments):
    editions = [read_edition(name) for name in ("traffic4cast2021", "traffic4cast2021_extended")]
    lines = (fragments / "2021_file_index.txt").read_text().split()
    assert len(lines) == 2196
    kinds, days = Counter(), {}
    for line in lines:
        (found,) = parse_name(line, editions)
        assert line.startswith(f"{found.city}/")
        kinds[found.kind] += 1
        if found.day is not None:
            assert found.day in line
            days.setdefault(found.city, []).append(date.fromisoformat(found.day))
    assert kinds["static"] == kinds["high_res"] == 10
    assert kinds["test"] == kinds["additional"] == 6
    assert kinds["training"] + kinds["validation"] == 2196 - 32
    assert set(days) == {city.name for city in editions[0].cities}
    for city in editions[0].cities:
        of_2019 = sum(day.year == 2019 for day in days[city.name])
        assert (of_2019, len(days[city.name]) - of_2019) == (180, 0 if city.tested else 181)
    assert kinds["validation"] == 14 * 8


def test_names_of_every_edition_are_told_apart():
    editions = read_catalog().values()
    told = {
        "x/Berlin/Berlin_training/20180101_100m_bins.h5": ("traffic4cast2019", "training"),
        "BERLIN/testing/2019-07-02_test.h5": ("traffic4cast2020", "test"),
        "BERLIN/2019-07-02_test.h5": ("traffic4cast2020", "submission"),
        "MOSCOW/MOSCOW_static_2019.h5": ("traffic4cast2020", "static"),
        "MOSCOW/MOSCOW_static.h5": ("traffic4cast2021", "static"),
        "WIEN/WIEN_static.h5": None,
        "VIENNA/VIENNA_test_temporal.h5": None,
        "movie/london/2019-07-01_london_8ch.h5": ("traffic4cast2022", "training"),
        "BERLIN/training/2019-02-30_BERLIN_8ch.h5": None,
        "BERLIN/training/2019-02-28_berlin_8ch.h5": None,
    }
    for path, wanted in told.items():
        found = parse_name(path, editions)
        assert [(name.edition, name.kind) for name in found] == ([wanted] if wanted else []), path


@pytest.mark.parametrize("city", NONZERO_2020)
def test_static_maps_of_2020_are_read_either_way_round(fragments, tmp_path, city):
    edition = read_edition("traffic4cast2020")
    with np.load(fragments / f"{city}_static_2019_7x495x436.npz") as file:
        found = file["array"]
    static = layers_first(found, edition)
    shares = (static > 0).mean(axis=(1, 2))
    np.testing.assert_allclose(shares, NONZERO_2020[city], atol=0.006)
    last = np.ascontiguousarray(np.moveaxis(found, 0, -1))
    path = write_frames(tmp_path / f"{city}_static_2019.h5", last, gzip=1)
    np.testing.assert_array_equal(read_static(path, edition), static)
    roads = read_mask(fragments / f"{city}_static_2019_7x495x436.npz", edition)
    np.testing.assert_array_equal(roads[..., 0], static[0] > 0)


def test_masks_of_both_years_are_read(fragments):
    shares = {"BERLIN": 0.80, "ISTANBUL": 0.84, "MOSCOW": 0.94}
    for city, share in shares.items():
        mask = read_mask(
            fragments / f"{city}_2020_heading_masks_4x495x436.npz", read_edition("traffic4cast2020")
        )
        assert mask.shape == (495, 436, 8)
        assert mask.any(axis=-1).mean() == pytest.approx(share, abs=0.006)
    core = read_edition("traffic4cast2021")
    for city in ("BERLIN", "CHICAGO", "ISTANBUL", "MELBOURNE"):
        mask = read_mask(fragments / f"{city}_2021_activity_mask_495x436x8.npz", core)
        assert mask.shape == (495, 436, 8)
        assert 0 < mask.mean() < 1


def test_the_berlin_day_is_read_and_lies_on_its_roads(fragments):
    path = fragments / BERLIN_DAY
    edition = read_edition("traffic4cast2020")
    mask = read_mask(fragments / "BERLIN_2020_heading_masks_4x495x436.npz", edition)
    north_east = mask[..., edition.channels.index("speed_NE")]
    other = read_mask(fragments / "ISTANBUL_2020_heading_masks_4x495x436.npz", edition)
    active = np.zeros(edition.frame_shape[:2], np.int64)
    with open_frames(path, (288, 495, 436, 1)) as frames:
        for _, slab in frames.slabs():
            active += (slab[..., 0] > 0).sum(axis=0)
    assert active.sum() / (288 * 495 * 436) == pytest.approx(0.0255, abs=5e-5)
    assert active[~north_east].sum() == 0
    assert active[~other[..., 1]].sum() > 0
    said = facts(t4c("inspect", path, "--json"))
    assert said["shape"] == "(288, 495, 436, 1)"
    assert said["nonzero"] == pytest.approx(0.0255, abs=5e-5)


def test_the_validation_days_of_2020_are_days(fragments):
    edition = read_edition("traffic4cast2020")
    days = json.loads((fragments / "2020_val_dates.json").read_text())
    assert [edition.written(edition.day_of(day)) for day in days] == days
