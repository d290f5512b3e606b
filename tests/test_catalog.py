from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest

from pipeline.catalog import day_path, read_catalog, read_edition
from pipeline.errors import CatalogError
from pipeline.windows import slot_windows
from tests.world import CATALOG, TINY


def test_2019_is_what_the_organisers_fixed():
    edition = read_edition("traffic4cast2019")
    assert edition.day_shape == (288, 495, 436, 3)
    assert edition.channels == ("volume", "speed", "heading")
    assert {city.name: city.test_slots for city in edition.cities} == {
        "Berlin": (30, 69, 126, 186, 234),
        "Istanbul": (57, 114, 174, 222, 258),
        "Moscow": (57, 114, 174, 222, 258),
    }
    assert [city.rotated for city in edition.cities] == [False, False, True]
    assert edition.headings == {0: "none", 1: "NW", 85: "NE", 170: "SW", 255: "SE"}
    assert (edition.leads, edition.test_history, edition.time_zone) == ((0, 1, 2), 12, "UTC")
    assert edition.forecast_shape(edition.cities[0]) == (5, 3, 495, 436, 3)
    assert edition.score_scale == 255
    for city in edition.cities:
        tall, wide = city.lat_max - city.lat_min, city.lon_max - city.lon_min
        tall, wide = (wide, tall) if city.rotated else (tall, wide)
        assert (tall, wide) == pytest.approx((0.495, 0.436))


def test_an_entry_can_say_what_2020_fixed(tmp_path):
    """Nine channels of which eight count, leads up to an hour, slots by day."""
    path = tmp_path / "c.yaml"
    path.write_text(
        "t4c2020:\n  title: x\n  height: 495\n  width: 436\n"
        "  channels: [a, b, c, d, e, f, g, h, incidents]\n  scored_channels: 8\n"
        "  leads: [0, 1, 2, 5, 8, 11]\n  score_scale: 255\n"
        "  layout:\n    day_format: '%Y-%m-%d'\n"
        "    training: '{city}/training/{day}_{city_lower}_9ch.h5'\n"
        "    submission: '{city}/{day}_test.h5'\n"
        "  cities: {BERLIN: {lat_min: 0, lat_max: 1, lon_min: 0, lon_max: 1,\n"
        "    slots_by_day: {'2019-07-02': [12, 100, 240], '2019-07-03': [57]}}}\n"
    )
    edition = read_edition("t4c2020", path)
    city = edition.cities[0]
    assert day_path(tmp_path, edition, city, "training", "2019-01-01") == (
        tmp_path / "BERLIN/training/2019-01-01_berlin_9ch.h5"
    )
    assert edition.layout.path("submission", "BERLIN", "2019-07-02") == "BERLIN/2019-07-02_test.h5"
    assert edition.forecast_shape(city, "2019-07-02") == (3, 6, 495, 436, 8)
    assert edition.forecast_shape(city, "2019-07-03") == (1, 6, 495, 436, 8)
    assert [w.split for w in slot_windows(edition, city, "2019-07-02")] == [12, 100, 240]


def test_the_tiny_entry_is_the_tiny_edition(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(CATALOG)
    assert read_edition("tiny", path) == TINY


def test_every_shipped_entry_says_its_terms():
    for name, edition in read_catalog().items():
        assert edition.terms, name


SPOILED = {
    "tiny:\n  title: x\n  title: y\n": "line 3: found duplicate key",
    "- a\n- b\n": "holds list, expected a mapping",
    "tiny: [1, 2\n": "not YAML",
    "tiny: 3\n": "tiny: expected a mapping",
    CATALOG.replace("height: 11", "height: 0"): "tiny: height: .*greater than 0.*found 0",
    CATALOG.replace("height: 11", "hieght: 11"): "tiny: hieght: ",
    CATALOG.replace("height: 11", "height: tall"): "height: .*valid integer.*found 'tall'",
    CATALOG.replace("leads: [0, 1, 2, 4]", "leads: [0, 2, 1]"): "not in rising order",
    CATALOG.replace("leads: [0, 1, 2, 4]", "leads: []"): "leads: ",
    CATALOG.replace("bin_minutes: 30", "bin_minutes: 7"): "7-minute bins do not fill a day",
    CATALOG.replace("lat_min: 47.0,", "lat_min: 48.0,"): "Aal: an empty box",
    CATALOG.replace("lat_min: 47.0,", ""): "cities.0.lat_min: Field required",
    CATALOG.replace("[14, 30]", "[4, 30]"): "Aal: slot 4 leaves no room",
    CATALOG.replace("[14, 30]", "[14, 45]"): "Aal: slot 45 leaves no room",
    CATALOG.replace("rotated: true", "rotated: round"): "rotated: .*found 'round'",
    CATALOG.replace("lat_min: 47.0,", "lat_min: 97.0,"): "less than or equal to 90",
    CATALOG.replace("channels: [volume, speed, heading]", "channels: []"): "channels: ",
    CATALOG.replace("tiny:\n", "tiny:\n  scored_channels: 4\n"): "4 scored channels of 3",
    CATALOG.replace("tiny:\n", "tiny:\n  name: other\n"): "`name` is the entry's key",
    CATALOG.replace("tiny:\n", "tiny:\n  kind: weather\n"): "kind: .*found 'weather'",
    CATALOG.replace("Bex:", '"../Bex":'): "a city's name is a folder's name",
    CATALOG.replace("{lat_min: 46.0", "[46.0").replace("test_slots: [10, 40]}", "]"): "facts",
    CATALOG.replace("Europe/Zurich", "Mars/Base"): "no time zone 'Mars/Base'",
    CATALOG.replace("tiny:\n", "tiny:\n  time_zone: Mars/Base\n"): "no time zone 'Mars/Base'",
    CATALOG.replace("[14, 30]", "[30, 14]"): "Aal: slots .30, 14. are not in rising order",
    CATALOG.replace("tiny:\n", "tiny:\n  layout: {test: '{town}/{day}.h5'}\n"): "expected {city}",
    CATALOG.replace("tiny:\n", "tiny:\n  layout: {test: '{city}/test.h5'}\n"): "one {day}",
    CATALOG.replace("tiny:\n", "tiny:\n  layout: {test: '../{day}.h5'}\n"): "in a file's name",
    CATALOG.replace(
        "tiny:\n",
        "tiny:\n  splits:\n    training: {first: 2018-01-01, last: 2018-01-05}\n"
        "    validation: {first: 2018-01-05, last: 2018-01-06}\n",
    ): "splits training and validation share days",
    "[" * 3000: "nested too deep|not YAML",
    "!!python/object/apply:os.system [echo]\n": "not YAML",
}


@pytest.mark.parametrize("text", SPOILED, ids=range(len(SPOILED)))
def test_a_spoiled_catalogue_is_refused_by_name(tmp_path, text):
    path = tmp_path / "catalog.yaml"
    path.write_text(text)
    with pytest.raises(CatalogError, match=f"(?s)catalog.yaml.*{SPOILED[text]}"):
        read_catalog(path)


def test_every_fault_is_listed(tmp_path):
    path = tmp_path / "catalog.yaml"
    path.write_text(CATALOG.replace("height: 11", "height: 0").replace("width: 7", "width: wide"))
    with pytest.raises(CatalogError) as refusal:
        read_catalog(path)
    assert len(str(refusal.value).splitlines()) == 2


def test_an_unknown_edition_or_file_is_refused(tmp_path):
    with pytest.raises(CatalogError, match=r"no edition 'x'; there are \["):
        read_edition("x")
    with pytest.raises(CatalogError, match="no such file"):
        read_catalog(tmp_path / "none.yaml")


def test_a_city_named_twice_is_refused():
    with pytest.raises(ValueError, match="given twice"):
        replace(TINY, cities=(TINY.cities[0], TINY.cities[0]))


def test_a_split_may_leave_days_out(tmp_path):
    training = read_edition("austin_bus").splits["training"]
    assert date(2015, 6, 7) in training
    assert date(2016, 2, 7) not in training  # between its ends, and left out
    assert date(2016, 11, 26) not in training
    path = tmp_path / "c.yaml"
    splits = "  splits: {training: {first: 2018-01-01, last: 2018-01-09, without: [2018-01-10]}}\n"
    path.write_text(CATALOG.replace("  cities:", f"{splits}  cities:"))
    with pytest.raises(CatalogError, match=r"without \['2018-01-10'\]: not in them"):
        read_catalog(path)
