from __future__ import annotations

import pickle
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from flows.batches import Batches
from flows.config import read_config
from flows.day_shuffle import DayShuffle, InOrder
from flows.examples import Augment, CityInputs, Examples, Pick
from flows.training_data import Reading, training_data
from flows.training_days import days_in_memory, split_days
from pipeline.catalog import read_edition
from pipeline.climatology import fit_climatology
from pipeline.context import Context
from pipeline.errors import ConfigError, StoreError
from pipeline.manifest import Manifest, write_manifest
from pipeline.mix import fit_mix
from pipeline.sources import TrafficSource
from pipeline.store import Store
from pipeline.windows import Cut, WindowPlan
from tests.world import HISTORY, NORTH_UP, TINY, TRAINING

CUT = Cut(TINY.frames_per_day, HISTORY, TINY.leads, 1)
SPAN = CUT.length
INPUTS = ("activity", "usual", "hour")
AUGMENT = {"crop": (8, 4), "flips": ("rows", "columns")}


@pytest.fixture
def config(ingested):
    return read_config(ingested.config)


def build(config, *, base="mix", inputs=INPUTS, batch=4, held_out=1, more=None, **reading):
    return training_data(
        config,
        Reading(held_out=held_out, **reading),
        base=base,
        inputs=inputs,
        batch=batch,
        **(more or {}),
    )


def values(batch):
    return [None if part is None else part.numpy() for part in batch[:4]]


def same(ones, others):
    ones, others = list(ones), list(others)
    assert len(ones) == len(others)
    for one, other in zip(ones, others, strict=True):
        assert one.where == other.where
        for mine, theirs in zip(values(one), values(other), strict=True):
            np.testing.assert_array_equal(mine, theirs)


def test_a_batch_is_what_the_store_and_the_climatology_say(config, ingested):
    data = build(config)
    batch = next(data.train.batches(3))
    assert batch.history.shape == (4, HISTORY, 3, 11, 7)
    assert batch.future.shape == (4, len(TINY.leads), 3, 11, 7)
    assert batch.usual.shape == (4, SPAN, 3, 11, 7)
    assert batch.static.shape == (4, data.planes, 11, 7)
    assert data.planes == 1 + 3 + 2
    kinds = [part.dtype for part in batch[:4]]
    assert kinds == [torch.uint8, torch.uint8, torch.float16, torch.float16]
    for place, where in enumerate(batch.where):
        city, day, _, _, start = where.split()
        store = Store.open(ingested.store, TINY, TINY.city(city))
        start = int(start)
        frames = np.moveaxis(store.read(day, start, start + SPAN), -1, 1)
        np.testing.assert_array_equal(batch.history[place], frames[:HISTORY])
        leads = [HISTORY + lead for lead in TINY.leads]
        np.testing.assert_array_equal(batch.future[place], frames[leads])
        assert day in TRAINING[:2]
        [other] = set(TRAINING[:2]) - {day}
        usual = fit_climatology(store, [other], grouping="hour")
        window = WindowPlan(city, (day,), CUT)[start]
        window = replace(window, history=0, leads=tuple(range(SPAN)))
        wanted = usual.forecast(np.zeros((1, 0, 3, 11, 7), np.float32), [window])[0]
        np.testing.assert_array_equal(batch.usual[place], wanted.astype(np.float16))
        np.testing.assert_array_equal(batch.static[place, 1:4], batch.usual[place, HISTORY])


def test_held_out_days_have_no_part_in_anything_that_is_fitted(config, ingested):
    data = build(config)
    assert data.days == {city.name: TRAINING[:2] for city in TINY.cities}
    assert data.held_out_days == {city.name: TRAINING[2:] for city in TINY.cities}
    scored = Cut(TINY.frames_per_day, HISTORY, TINY.leads, config.stride)
    stores = [Store.open(ingested.store, TINY, city) for city in TINY.cities]
    weights = [fit_mix(store, TRAINING[:2], scored).weights for store in stores]
    np.testing.assert_allclose(data.weights, np.mean(weights, axis=0))
    again = CityInputs.fit(stores[0], data.days["Aal"], "mix", INPUTS, ingested.root / "elsewhere")
    windows = WindowPlan("Aal", TRAINING, CUT)[::17]
    for mine, theirs in zip(
        data.inputs["Aal"].side_by_side(windows), again.side_by_side(windows), strict=True
    ):
        np.testing.assert_array_equal(mine, theirs)
    seen = {where.split()[1] for batch in data.train.batches() for where in batch.where}
    held = {where.split()[1] for batch in data.held_out for where in batch.where}
    assert (seen, held) == (set(TRAINING[:2]), set(TRAINING[2:]))


def test_held_out_batches_are_whole_frames_in_order_and_all_of_them(config):
    data = build(config, base="none", inputs=(), batch=5, held_out_stride=7, **AUGMENT)
    batches = list(data.held_out)
    sparse = Cut(TINY.frames_per_day, HISTORY, TINY.leads, 7)
    assert [where for batch in batches for where in batch.where] == [
        f"{city.name} {TRAINING[2]} from frame {window.start}"
        for city in TINY.cities
        for window in WindowPlan(city.name, TRAINING[2:], sparse)
    ]
    assert [batch.size for batch in batches] == [5, 5, 2]
    assert all(batch.history.shape[-2:] == (11, 7) for batch in batches)
    assert all(batch.usual is None and batch.static is None for batch in batches)
    assert build(config, held_out=0).held_out is None


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_examples_are_the_same_whatever_the_number_of_readers(config, start):
    options = {"base": "window_mean", "inputs": ("activity", "hour"), "stride": 5, **AUGMENT}
    alone = build(config, **options)
    two = build(config, workers=2, start=start, **options)
    next(alone.train.batches(0))  # open files before a fork
    for epoch in (0, 1):
        same(alone.train.batches(epoch), two.train.batches(epoch))
    next(two.train.batches(2))  # leave an epoch early
    same(list(alone.train.batches(1))[2:], two.train.batches(1, first=2))
    two.train.close()
    usual = build(config, stride=5, crop=(6, 4))
    three = build(config, stride=5, crop=(6, 4), workers=1, start=start)
    same(usual.train.batches(4), three.train.batches(4))
    three.train.close()


def test_reading_leaves_the_trainings_random_numbers_alone(config):
    data = build(config, stride=5, **{"base": "none", "inputs": (), **AUGMENT})
    torch.manual_seed(3)
    before = torch.get_rng_state()
    list(data.train.batches())
    assert torch.equal(before, torch.get_rng_state())


def test_epochs_differ_and_seeds_too(config):
    data = build(config, base="none", inputs=(), **AUGMENT)
    other = build(config, base="none", inputs=(), **AUGMENT, more={"seed": 1})
    again = build(config, base="none", inputs=(), **AUGMENT)
    first = [batch.where for batch in data.train.batches(0)]
    assert first == [batch.where for batch in again.train.batches(0)]
    assert first != [batch.where for batch in data.train.batches(1)]
    assert first != [batch.where for batch in other.train.batches(0)]


@pytest.mark.parametrize("world", [1, 2, 4])
def test_an_epoch_has_every_window_once_and_processes_share_it(world):
    whole = DayShuffle(7, 13, 8, seed=5, days_at_once=3)
    parts = [replace(whole, world=world, rank=rank) for rank in range(world)]
    assert {len(part) for part in parts} == {len(whole)} == {7 * 13 // 8}
    for epoch in (0, 1):
        order = whole.order(epoch)
        assert sorted(order) == list(range(7 * 13))
        shares = [part.batches(epoch) for part in parts]
        for number, batch in enumerate(whole.batches(epoch)):
            assert batch == order[8 * number : 8 * number + 8].tolist()
            together = [share[number] for share in shares]
            assert [item for row in zip(*together, strict=True) for item in row] == batch
    assert not np.array_equal(whole.order(0), whole.order(1))


def test_few_days_are_open_at_once():
    shuffle = DayShuffle(9, 20, 4, days_at_once=2)
    days = shuffle.order(0) // 20
    for first in range(0, 9 * 20, 40):
        group = days[first : first + 40]
        assert len(set(group)) <= 2
    mixed = days[:40]
    assert (np.diff(mixed) != 0).sum() > 5


@pytest.mark.parametrize("world", [1, 2, 3])
def test_in_order_has_every_window_once(world):
    parts = [InOrder(23, 5, world, rank).batches(0) for rank in range(world)]
    assert sorted(i for part in parts for batch in part for i in batch) == list(range(23))
    if world == 1:
        assert [len(batch) for batch in parts[0]] == [5, 5, 5, 5, 3]


def test_crops_come_from_everywhere_and_nowhere_else(stores, tmp_path):
    store = stores[0]
    source = TrafficSource(store, WindowPlan("Aal", TRAINING, CUT))
    inputs = CityInputs.fit(store, TRAINING, "climatology", INPUTS, tmp_path)
    plain = Examples((source,), (inputs,))[7]
    found = set()
    for seed in range(300):
        examples = Examples((source,), (inputs,), Augment(crop=(6, 4), seed=seed))
        rows, columns, flips = examples.augment.draw(Pick(7, 0), 11, 7)
        assert flips == ()
        found.add((rows.start, columns.start))
        if seed < 20:
            cropped = examples[Pick(7, 0)]
            for name in ("history", "future", "usual", "static"):
                np.testing.assert_array_equal(
                    getattr(cropped, name), getattr(plain, name)[..., rows, columns]
                )
    assert found == {(row, column) for row in range(6) for column in range(4)}


def test_a_flipped_example_is_that_of_a_flipped_city(stores, tmp_path):
    store = stores[0]
    source = TrafficSource(store, WindowPlan("Aal", TRAINING, CUT))
    inputs = CityInputs.fit(store, TRAINING, "none", ("activity", "activity_channels"), tmp_path)
    plain = Examples((source,), (inputs,))[9]
    code = {1: 85, 85: 1, 170: 255, 255: 170}  # columns: west and east change places
    seen = set()
    for epoch in range(40):
        examples = Examples((source,), (inputs,), Augment(flips=("columns",)))
        example = examples[Pick(9, epoch)]
        flipped = not np.array_equal(example.history, plain.history)
        seen.add(flipped)
        wanted = plain.history.copy()
        if flipped:
            wanted = wanted[..., ::-1].copy()
            turned = wanted[:, 2].copy()
            for old, new in code.items():
                turned[wanted[:, 2] == old] = new
            wanted[:, 2] = turned
            np.testing.assert_array_equal(example.static, plain.static[..., ::-1])
        np.testing.assert_array_equal(example.history, wanted)
    assert seen == {True, False}


def test_examples_survive_a_pickle(config):
    examples = build(config).train.examples
    examples[3]
    copy = pickle.loads(pickle.dumps(examples))
    for name in ("history", "future", "usual", "static", "where"):
        np.testing.assert_array_equal(getattr(copy[3], name), getattr(examples[3], name))
    with pytest.raises(IndexError, match="of 156"):
        examples[156]


def test_what_cannot_be_met_is_refused_before_work_starts(config, ingested, monkeypatch):
    def never(*args, **options):
        raise AssertionError("work has started")

    monkeypatch.setattr(CityInputs, "fit", never)
    refusals = {
        "held_out: 3 days, but Aal has 3 training days": {"held_out": 3},
        "crop: 12 rows of the 11 of tiny": {"crop": (12, 4)},
        "crop: 8 columns of the 7 of tiny": {"crop": (8, 8)},
        "crop: 6 rows, the network needs a multiple of 4": {
            "crop": (6, 4),
            "more": {"multiple": 4},
        },
        "flips: tiny keeps headings as codes, and base mix": {"flips": ("rows",)},
        "flips: .* input usual are means": {"flips": ("rows",), "base": "none"},
        "inputs: no 'weather'": {"inputs": ("weather",)},
        "batch: 3 cannot be shared by 2": {"batch": 3, "more": {"world": 2}},
        "batch: 400, but 4 days of 39 windows are 156": {"batch": 400},
    }
    for message, options in refusals.items():
        with pytest.raises(ConfigError, match=message):
            build(config, **options)
    with pytest.raises(ConfigError, match="history: a window of 44 frames.* 49 frames long"):
        build(config.model_copy(update={"history": 44}))
    manifest = Store.open(ingested.store, TINY, NORTH_UP).manifest
    rest = tuple(stored for stored in manifest.days if stored.split != "training")
    write_manifest(ingested.store, Manifest("Aal", manifest.made_for, rest))
    with pytest.raises(StoreError, match="Aal has no training days"):
        build(config)
    shutil.rmtree(ingested.store)
    with pytest.raises(StoreError, match="no such store"):
        build(config)


def test_one_day_is_not_enough_for_what_is_usual(config):
    with pytest.raises(StoreError, match="1 training days to fit on"):
        build(config, held_out=2)
    assert len(build(config, held_out=2, base="window_mean", inputs=("activity",)).train) > 0


def test_days_at_once_are_what_memory_allows():
    full = read_edition("traffic4cast2019")
    one = replace(full, cities=full.cities[:1])
    small = read_edition("sf_taxi")
    assert days_in_memory([small], "mix", ()) == 14
    assert days_in_memory([full], "none", ("hour",)) == 14
    assert 2 <= days_in_memory([full], "mix", ()) < days_in_memory([one], "mix", ()) < 14


def test_split_days_takes_the_last(stores):
    assert split_days(stores[0], 1) == (TRAINING[:2], TRAINING[2:])
    assert split_days(stores[0], 0) == (TRAINING, ())


def test_a_context_alone_needs_no_usual_frames(stores, tmp_path):
    inputs = CityInputs.fit(stores[0], TRAINING, "none", ("hour",), tmp_path)
    assert inputs.usual is None
    assert isinstance(inputs.context, Context)
    usual, static = inputs.side_by_side(WindowPlan("Aal", TRAINING, CUT)[:2])
    assert usual is None
    assert static.shape == (2, 2, 11, 7)
    empty = CityInputs.fit(stores[0], TRAINING, "none", (), tmp_path)
    assert empty.side_by_side(WindowPlan("Aal", TRAINING, CUT)[:2]) == (None, None)
    assert not list(tmp_path.iterdir())


def test_batches_have_a_length(config):
    data = build(config, batch=7)
    assert len(data.train) == len(list(data.train.batches())) == 156 // 7
    assert len(list(data.train.batches(0, first=20))) == 2
    assert isinstance(data.train, Batches)


def test_identity_is_of_what_decides_the_batches(config):
    options = {"base": "none", "inputs": ("hour",)}
    mine = build(config, **options).identity
    assert build(config, workers=3, start="fork", **options).identity == mine
    for rank in (0, 1):
        assert build(config, **options, more={"world": 2, "rank": rank}).identity == mine
    others = [
        build(config, **options, more={"seed": 1}),
        build(config, **options, batch=6),
        build(config, **options, stride=2),
        build(config, **options, flips=("rows",)),
        build(config, base="window_mean", inputs=("hour",)),
        build(config, base="none", inputs=()),
    ]
    assert len({mine, *(data.identity for data in others)}) == 7


def test_processes_share_the_batches_of_one(config):
    options = {"stride": 6, "batch": 4, "crop": (8, 4)}
    whole = list(build(config, **options).train.batches(2))
    parts = [
        list(build(config, **options, more={"world": 2, "rank": rank}).train.batches(2))
        for rank in (0, 1)
    ]
    for batch, even, odd in zip(whole, *parts, strict=True):
        assert batch.where == tuple(np.stack([even.where, odd.where], 1).ravel())
        for all_, some, rest in zip(*map(values, (batch, even, odd)), strict=True):
            np.testing.assert_array_equal(all_[0::2], some)
            np.testing.assert_array_equal(all_[1::2], rest)
