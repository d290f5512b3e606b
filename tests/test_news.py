"""Days that came in are told of at least once, and once where nothing goes wrong."""

from __future__ import annotations

import json

import pytest

from flows import ingest as recipe
from flows import news
from flows.config import read_config
from pipeline import ingest as pipeline_ingest
from pipeline.errors import StoreError
from pipeline.rechunk import rechunk_day
from tests.world import TRAINING


@pytest.fixture
def told(monkeypatch):
    """What a flow would emit, without one; steps are plain calls."""
    found = []
    monkeypatch.setattr(news, "inside_a_flow", lambda: True)
    monkeypatch.setattr(recipe, "inside_a_flow", lambda: True)
    monkeypatch.setattr(news, "announce", lambda event, run, days: found.append((event, days)))
    return found


def never(monkeypatch, *days):
    """Have these days of Aal be unreadable, as on a bad disk."""

    def read(job):
        if job.city.name == "Aal" and job.source.day in days:
            return OSError(5, "Input/output error")
        return rechunk_day(job)

    def fan_out(work, jobs, done, **more):
        for job in jobs:
            done(job, read(job))

    monkeypatch.setattr(pipeline_ingest, "fan_out", fan_out)


def days_of(world, city):
    text = (world.store / city / "manifest.json").read_text()
    return [day["day"] for day in json.loads(text)["days"]]


def test_a_day_that_is_unreadable_for_ever_keeps_no_other_from_being_told_of(
    world, told, monkeypatch
):
    config, bad, late = read_config(world.config), TRAINING[0], TRAINING[1]
    never(monkeypatch, bad, late)
    outcome = recipe.ingest(config)
    assert len(outcome.faults) == 2
    assert all("Input/output error" in fault for fault in outcome.faults)
    ((event, days),) = told
    assert event == "days.ingested"
    assert days == {city: days_of(world, city) for city in ("Aal", "Bex")}
    assert not {bad, late} & {*days["Aal"]}
    assert [*outcome.facts["cities"]] == ["Aal", "Bex"]
    never(monkeypatch, bad)
    assert recipe.ingest(config).faults
    assert told[1:] == [("days.ingested", {"Aal": [late]})]
    assert recipe.ingest(config).faults
    assert len(told) == 2


def test_what_came_in_without_a_flow_or_before_a_kill_is_told_of_later(ingested, told, monkeypatch):
    config = read_config(ingested.config)

    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(news, "inside_a_flow", lambda: False)
        assert recipe.ingest(config).faults == []  # alone: tells nobody, notes nothing
        assert not told
        assert not (ingested.store / ".announced.json").exists()
    with monkeypatch.context() as patch:
        patch.setattr(news, "write_json", killed)  # after the event, before it is noted
        with pytest.raises(KeyboardInterrupt):
            recipe.ingest(config)
    for _ in range(2):
        assert recipe.ingest(config).faults == []
        assert [*told[0][1]] == ["Aal", "Bex"]
        assert told[1:] == told[:1]


def test_a_run_that_fails_altogether_tells_of_what_is_there(ingested, told, monkeypatch):
    config = read_config(ingested.config)

    def refused(*_, **__):
        raise StoreError("another edition")

    monkeypatch.setattr(recipe, "ingest_one", refused)
    with pytest.raises(StoreError, match="another edition"):
        recipe.ingest(config)
    assert [*told[0][1]] == ["Aal", "Bex"]
    (ingested.store / ".announced.json").write_text("[]")  # spoiled: said again
    with pytest.raises(StoreError):
        recipe.ingest(config)
    assert told[1] == told[0]
    with pytest.raises(StoreError):
        recipe.ingest(config)
    assert len(told) == 2
