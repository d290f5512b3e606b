"""The record of promotions is written first, so that no kill loses one or its event."""

from __future__ import annotations

import pytest

from flows import promotion_record
from flows.promotion_record import Record
from pipeline.errors import ModelError


def test_a_promotion_that_was_killed_is_finished_and_announced_once(tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(
        promotion_record, "announce", lambda *said: told.append(said) or inside.pop(0)
    )
    link, model = tmp_path / "models" / "best.safetensors", tmp_path / "a" / "tiny.safetensors"
    model.parent.mkdir()
    model.write_text("a")
    link.parent.mkdir()
    record, inside = Record.beside(link), [False, True]
    record.begin(model, {"share": -0.1})
    assert not record.was_in_use(model)  # killed before the pointer moved: judged again
    record.begin(model, {"share": -0.2})
    assert [one["share"] for one in record.entries()] == [-0.2]
    assert record.last(2)[0].resolve() == model
    for promised in ([False], [False, True], [False, True]):  # alone, in a flow, then no more
        record.finish(model, "tiny")
        assert record.was_in_use(model)
        assert [one[2]["share"] for one in told] == [-0.2] * len(promised)
    assert record.entries()[0]["announced"]
    record.finish(tmp_path / "by_hand.safetensors", "tiny")
    assert len(told) == 2
    moved = tmp_path.rename(tmp_path.with_name("elsewhere_too"))
    again = Record.beside(moved / "models" / "best.safetensors")
    assert again.was_in_use(moved / "a" / "tiny.safetensors")


def test_a_spoiled_record_is_refused_by_name(tmp_path):
    record = Record.beside(tmp_path / "best.safetensors")
    for text in ("{", "[1]", '[{"candidate": 1}]', '"text"'):
        record.path.write_text(text)
        with pytest.raises(ModelError, match=r"best_promotions\.json: expected a list"):
            record.entries()
