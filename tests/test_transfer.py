"""Several cities and editions in one training, a trained network elsewhere, few days of a city."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml

from crevnet.checkpoint import load_model, save_model
from crevnet.correction import Correction
from crevnet.task import Task
from flows.batches import Batches
from flows.config import read_config
from flows.model_config import Reading
from flows.networks import load_network
from flows.train import train
from flows.training_data import training_data
from flows.training_days import split_days
from flows.window_inputs import WindowInputs
from pipeline.catalog import day_path, read_edition
from pipeline.context import Context, count, label
from pipeline.errors import ConfigError, ModelError, StoreError
from pipeline.forecasters import MovingAverage
from pipeline.heatmaps import write_frames
from pipeline.ingest import ingest_city
from pipeline.layout import to_model
from pipeline.store import Store
from pipeline.windows import Window
from tests.test_cli import facts, t4c
from tests.test_train import STEPS, TINY_NET, U_NET, add
from tests.world import HISTORY, TINY, TRAINING, VALIDATION

FAR = """
far:
  title: Another edition, of another grid
  height: 13
  width: 9
  channels: [volume, speed, heading]
  bin_minutes: 30
  leads: [0, 1, 2, 4]
  test_history: 9
  headings: {0: none, 1: NW, 85: NE, 170: SW, 255: SE}
  cities:
    Cef: {lat_min: 47.0, lat_max: 47.013, lon_min: 9.0, lon_max: 9.009, test_slots: [14, 30]}
    Aal: {lat_min: 48.0, lat_max: 48.013, lon_min: 9.0, lon_max: 9.009, test_slots: [14, 30]}
"""
CITY_NET = U_NET | {"inputs": ["activity", "city"]}


@pytest.fixture
def both(ingested):
    """The tiny world, and beside it `far`, an edition with a store and a run of its own."""
    catalogue = ingested.root / "catalog.yaml"
    catalogue.write_text(catalogue.read_text() + FAR)
    edition = read_edition("far", catalogue)
    release, store = ingested.root / "far_release", ingested.root / "far_store"
    rng = np.random.default_rng(5)
    for city in edition.cities:
        for split, days in (("training", TRAINING), ("validation", VALIDATION)):
            for day in days:
                frames = rng.integers(1, 256, edition.day_shape, dtype=np.uint8)
                frames *= rng.random((*edition.day_shape[:3], 1)) < 0.3
                write_frames(day_path(release, edition, city, split, day), frames)
        ingest_city(release, edition, city, store, workers=0)
    run = yaml.safe_load(ingested.config.read_text())
    run |= {"edition": "far", "release": str(release), "store": str(store), "truth": None}
    run |= {"out": str(ingested.root / "far_out")}
    (ingested.root / "far.yaml").write_text(yaml.safe_dump(run))
    return ingested


def far(both, **more):
    return {"edition": "far", "store": str(both.root / "far_store")} | more


def build(config, *, inputs=("activity", "city"), base="climatology", batch=5, **reading):
    how = {"held_out": 1, "crop": (8, 4)} | reading
    return training_data(config, Reading(**how), base=base, inputs=inputs, batch=batch)


# --- several stores -------------------------------------------------------------------------------


def test_a_training_reads_the_windows_of_every_store_and_knows_whose_they_are(both):
    config = read_config(both.config)
    also = (far(both, cities=["Cef"]),)
    data = build(config, also=also, forget_city=0.0, crop=(11, 7))
    assert list(data.days) == ["Aal", "Bex", "far/Cef"]
    assert data.known == ("tiny/Aal", "tiny/Bex", "far/Cef")
    assert data.planes == 1 + 3
    seen = set()
    for batch in data.train.batches():
        for place, where in enumerate(batch.where):
            city, day, _, _, start = where.split()
            assert day in TRAINING[:2]
            seen.add((city, day, int(start)))
            named = batch.static[place, 1:].numpy()
            assert (named == named[:, :1, :1]).all()
            assert named[:, 0, 0].tolist() == [city == one for one in ("Aal", "Bex", "Cef")]
            if city == "Cef":
                continue  # cut at random; the others whole
            store = data.stores[city]
            frames = store.read(day, int(start), int(start) + HISTORY)
            np.testing.assert_array_equal(batch.history[place], np.moveaxis(frames, -1, 1))
    assert len(seen) == 3 * 2 * 39 // 5 * 5
    assert {city for city, _, _ in seen} == {"Aal", "Bex", "Cef"}


def test_held_out_batches_are_of_one_size_each_and_leave_no_window_out(both):
    data = build(read_config(both.config), also=(far(both),), held_out_stride=7)
    assert isinstance(data.held_out, Batches)
    batches = list(data.held_out)
    sizes = [tuple(batch.history.shape[-2:]) for batch in batches]
    assert set(sizes) == {(11, 7), (13, 9)}
    where = [one for batch in batches for one in batch.where]
    assert len(where) == 4 * 6
    assert [one.split()[0] for one in where[::6]] == ["Aal", "Bex", "Cef", "Aal"]


def test_a_city_is_forgotten_in_a_share_of_examples(both):
    config = read_config(both.config)

    def named(**how):
        data = build(config, also=(far(both),), **how)
        batches = list(data.train.batches())
        assert next(iter(data.held_out)).static[:, 1:].sum((1, 2, 3)).min() > 0
        return np.concatenate([b.static[:, 1:].numpy().max((2, 3)).sum(1) for b in batches])

    assert set(named(forget_city=0.0)) == {1}
    assert set(named(forget_city=1.0)) == {0}
    some = named(forget_city=0.3)
    assert set(some) == {0, 1}
    assert 0.2 < (some == 0).mean() < 0.4
    np.testing.assert_array_equal(some, named(forget_city=0.3))


def test_other_stores_that_cannot_be_read_together_are_refused(both):
    config = read_config(both.config)
    catalogue = both.root / "catalog.yaml"
    odd = FAR.replace("far:", "odd:").replace("bin_minutes: 30", "bin_minutes: 15")
    odd = odd.replace("85: NE", "84: NE").replace("[volume,", "[flow,")
    catalogue.write_text(catalogue.read_text() + odd)
    with pytest.raises(ConfigError) as refused:
        build(config, also=(far(both, edition="odd"),))
    for said in ("reading.also.0", "channels ['flow'", "15, expected 30", "84: 'NE'"):
        assert said in str(refused.value)
    for also, said in (
        ((far(both, cities=["Dag"]),), r"far has no \['Dag'\]"),
        ((far(both), far(both, cities=["Cef"])), r"\['far/Cef'\] are read already"),
        (({"edition": "tiny", "store": config.store},), r"\['tiny/Aal', 'tiny/Bex'\] are read"),
    ):
        with pytest.raises(ConfigError, match=said):
            build(config, also=also)
    with pytest.raises(ConfigError, match=r"grids of \[\(11, 7\), \(13, 9\)\]"):
        build(config, also=(far(both),), crop=None)
    with pytest.raises(ConfigError, match="crop: 12 rows of the 11 of tiny"):
        build(config, also=(far(both),), crop=(12, 4))
    with pytest.raises(StoreError, match="no such store"):
        build(config, also=(far(both, store=str(both.root / "nowhere")),))


def test_identity_tells_what_is_read_and_not_where_it_lies(both):
    config = read_config(both.config)
    plain = build(config, inputs=("activity",)).identity
    assert build(config, inputs=("activity",), forget_city=0.1).identity == plain
    more = build(config, also=(far(both),)).identity
    shutil.move(both.root / "far_store", both.root / "moved")
    assert build(config, also=(far(both, store=both.root / "moved"),)).identity == more
    others = [build(config), build(config, days=3), build(config, forget_city=0.5)]
    assert len({plain, more, *(data.identity for data in others)}) == 5


# --- few days -------------------------------------------------------------------------------------


def test_a_budget_of_days_is_the_last_ones_and_the_others_have_no_part(both):
    config = read_config(both.config)
    store = Store.open(config.store, TINY, TINY.cities[0])
    assert split_days(store, 1, 2) == (TRAINING[1:2], TRAINING[2:])
    assert split_days(store, 0, 2) == (TRAINING[1:], ())
    with pytest.raises(ConfigError, match="days: the last 4, but Aal has 3 training days"):
        split_days(store, 0, 4)
    with pytest.raises(ConfigError, match="held_out: 2 days, but Aal has 2 training days to take"):
        split_days(store, 2, 2)
    options = {"days": 2, "held_out": 0, "base": "mix", "inputs": ("usual", "activity", "mean")}
    before = build(config, **options)
    seen = list(before.train.batches())
    assert {one.split()[1] for batch in seen for one in batch.where} == {*TRAINING[1:]}
    for city in TINY.cities:  # the day that is not to be used becomes another one
        path = day_path(both.release, TINY, city, "training", TRAINING[0])
        path.unlink()
        write_frames(path, np.full(TINY.day_shape, 255, np.uint8))
        ingest_city(both.release, TINY, city, both.store, workers=0)
    after = build(config, **options)
    assert after.weights == before.weights
    for one, other in zip(seen, after.train.batches(), strict=True):
        for mine, theirs in zip(one[:4], other[:4], strict=True):
            torch.testing.assert_close(mine, theirs, rtol=0, atol=0)


# --- elsewhere ------------------------------------------------------------------------------------


@pytest.fixture
def learned(both):
    """A network that learned from Aal and Bex, and from `far`'s Cef too."""
    net = CITY_NET | {
        "reading": {"held_out": 1, "crop": [8, 4], "also": [far(both, cities=["Cef"])]}
    }
    add(both, models={"three": net})
    result = t4c("train", both.config)
    assert result.exit_code == 0, result.stderr
    return both.out / "models" / "three.safetensors"


def test_a_network_is_used_in_every_city_that_it_learned_from_and_no_other(both, learned):
    _, task, extra = load_model(learned)
    assert task.cities == ("Aal", "Bex", "far/Cef")
    assert extra["known"] == ["tiny/Aal", "tiny/Bex", "far/Cef"]
    assert set(extra["days"]) == set(extra["learned"]) == set(task.cities)
    ladder = f"ladder=[zeros,{learned}]"
    result = t4c("score", both.config, "--set", ladder)
    assert result.exit_code == 0, result.stderr
    result = t4c("score", both.root / "far.yaml", "--set", ladder, "--set", "cities=[Cef]")
    assert result.exit_code == 0, result.stderr
    result = t4c("score", both.root / "far.yaml", "--set", ladder, "--set", "cities=[Aal]")
    assert result.exit_code == 1  # the name of a city of its own edition, but another city
    assert "cities ['Aal', 'Bex', 'far/Cef'], and not Aal" in result.stderr
    assert "forecasting.unseen_city can allow that" in result.stderr
    for how in ("training_days", "window"):
        said = t4c("score", both.root / "far.yaml", "--set", ladder, "--set", "cities=[Aal]",
                   "--set", f"forecasting.unseen_city={how}", "--json")  # fmt: skip
        assert said.exit_code == 0, said.stderr
        assert facts(said)["scores"][str(learned)]["mse"] > 0
    bad = t4c("score", both.config, "--set", "forecasting.unseen_city=perhaps")
    assert "forecasting.unseen_city" in bad.stderr


def elsewhere(both, path, how, name="Aal"):
    config = read_config(both.root / "far.yaml", [f"forecasting.unseen_city={how}"])
    edition = config.read_edition()
    store = Store.open(config.store, edition, edition.city(name))
    return config, store, load_network(config, store, str(path))


def test_an_unseen_city_is_met_by_its_own_days_and_goes_without_a_name(both, learned):
    config, store, model = elsewhere(both, learned, "training_days")
    window = Window("Aal", VALIDATION[0], 3, HISTORY, TINY.leads)
    usual, static = model.inputs.told(np.zeros((1, HISTORY, 3, 13, 9), np.float32), [window])
    assert (static[:, 1:] == 0).all()
    own = Context.fit(store, TRAINING, ("activity",), config.out / "fitted")
    np.testing.assert_array_equal(static[0, :1], own.planes(window))
    assert usual.shape == (1, HISTORY + 5, 3, 13, 9)
    _, _, at_home = elsewhere(both, learned, "training_days", "Cef")
    window = replace(window, city="Cef")
    _, static = at_home.inputs.told(np.zeros((1, HISTORY, 3, 13, 9), np.float32), [window])
    assert static[0, 1:, 0, 0].tolist() == [0, 0, 1]


def test_a_window_alone_needs_no_day_of_the_city(both, learned):
    add(both, models={"mixer": TINY_NET | {"inputs": ["usual", "activity"]}})
    assert t4c("train", both.config).exit_code == 0
    path = both.out / "models" / "mixer.safetensors"
    _, store, model = elsewhere(both, path, "window")
    rng = np.random.default_rng(2)
    history = rng.random((2, HISTORY, 3, 13, 9), dtype=np.float32)
    windows = [Window("Aal", day, 4, HISTORY, TINY.leads) for day in VALIDATION]
    before = model.forecast(history, windows)
    for day in TRAINING:
        (store.root / f"{day}.nc").unlink(missing_ok=True)
    store.manifest = replace(
        store.manifest, days=tuple(d for d in store.manifest.days if d.split == "validation")
    )
    config = read_config(both.root / "far.yaml", ["forecasting.unseen_city=window"])
    again = load_network(config, store, str(path))
    np.testing.assert_array_equal(again.forecast(history, windows), before)
    config = read_config(both.root / "far.yaml", ["forecasting.unseen_city=training_days"])
    with pytest.raises(StoreError):
        load_network(config, store, str(path))


class Mute(torch.nn.Module):
    """A network that says nothing."""

    def unroll(self, seen, horizon, extra, *, memory="plain"):
        assert seen[:, -1].abs().max() > 0
        return seen.new_zeros(len(seen), horizon, *seen.shape[2:])


@pytest.mark.parametrize("base", ["mix", "climatology"])
def test_by_a_window_alone_a_network_corrects_the_mean_of_its_history(base):
    weights = ((0.25, 0.5, 0.75),) * 4 if base == "mix" else None
    task = Task(TINY.leads, HISTORY, base, 4.0, weights, channels=TINY.channels)
    inputs = WindowInputs.of(task, TINY, TINY.cities[0])
    history = np.random.default_rng(0).random((3, HISTORY, 3, 11, 7), dtype=np.float32)
    windows = [Window("Aal", VALIDATION[0], start, HISTORY, TINY.leads) for start in (0, 9, 20)]
    usual, static = inputs.told(history, windows)
    assert static is None
    said = Correction(Mute(), task).ahead(torch.from_numpy(history), torch.from_numpy(usual), None)
    wanted = MovingAverage().forecast(history, windows)
    np.testing.assert_allclose(said.numpy(), wanted, atol=5e-4)


def test_planes_by_a_window_are_shares_and_means_of_its_frames(stores):
    frames = stores[0].read(VALIDATION[0], 6, 6 + HISTORY)
    history = to_model(frames)
    names = ("usual", "city", "activity", "hour", "activity_channels", "mean")
    known = ("tiny/Bex", "tiny/Aal")
    context = Context(TINY, TINY.cities[0], names, {}, None, known)
    window = Window("Aal", VALIDATION[0], 6, HISTORY, TINY.leads)
    planes = context.by_window(window, history)
    assert planes.shape == (context.size, 11, 7)
    assert planes.dtype == np.float16
    found, place = {}, 0
    for name in names:
        size = count(name, TINY, known)
        found[name], place = planes[place : place + size], place + size
    np.testing.assert_allclose(found["mean"], history.mean(0), atol=5e-4)
    np.testing.assert_array_equal(found["usual"], found["mean"])
    np.testing.assert_allclose(found["activity"][0], (frames > 0).any(-1).mean(0), atol=5e-4)
    channels = np.moveaxis((frames > 0).mean(0), -1, 0)
    np.testing.assert_allclose(found["activity_channels"], channels, atol=5e-4)
    assert found["city"][:, 3, 3].tolist() == [0, 1]
    clock = Context(TINY, TINY.cities[0], ("hour",), {}).planes(window)
    np.testing.assert_array_equal(found["hour"], clock)
    assert label(TINY, TINY.cities[0]) == "tiny/Aal"


# --- from a trained network -----------------------------------------------------------------------


def test_a_training_starts_from_a_networks_weights_and_takes_its_shape(both, learned):
    config = both.root / "far.yaml"
    gentle = STEPS | {"steps": 1, "learning_rate": 1e-9, "ema": 0.0}
    start = {"start_from": str(learned), "reading": {"held_out": 0, "days": 2}}
    value = yaml.safe_load(config.read_text())
    value |= {"models": {"moved": start | {"training": gentle}}, "ladder": ["mix", "moved"]}
    config.write_text(yaml.safe_dump(value))
    before, first, _ = load_model(learned)
    result = t4c("train", config)
    assert result.exit_code == 0, result.stderr
    after, task, extra = load_model(both.root / "far_out" / "models" / "moved.safetensors")
    assert after.config == before.config
    for name, weight in before.state_dict().items():
        torch.testing.assert_close(after.state_dict()[name], weight, atol=1e-7, rtol=0)
    kept = ("base", "scale", "sees", "recent", "inputs")
    assert [getattr(task, name) for name in kept] == [getattr(first, name) for name in kept]
    assert (task.edition, task.cities) == ("far", ("Cef", "Aal"))
    assert extra["known"] == ["tiny/Aal", "tiny/Bex", "far/Cef"]  # far's Aal has no name here
    assert extra["started_from"]["cities"] == ["Aal", "Bex", "far/Cef"]
    assert extra["model"]["network"] == "unet_small"
    assert extra["days"]["Aal"] == [*TRAINING[1:]]
    assert t4c("score", config).exit_code == 0
    listed = t4c("models", config, "--json")
    assert facts(listed)["models"]["run: moved"]["kind"] == "unet"

    network, task, record = load_model(learned)  # another start is another training
    torch.nn.init.normal_(next(network.parameters()))
    save_model(learned, network, task, record)
    with pytest.raises(ModelError, match="another training"):
        train(read_config(config))


def test_a_start_that_does_not_fit_is_refused(both, learned):
    add(both, models={"moved": {"start_from": str(learned), "training": STEPS}})
    network, task, extra = load_model(learned)
    other = both.root / "other.safetensors"
    frames = extra["frames"]
    for changed, more, said in (
        (replace(task, leads=(0, 1, 2, 3)), extra, "leads (0, 1, 2, 3), but this run has (0, 1"),
        (replace(task, channels=("a", "b", "c")), extra, "channels ('a', 'b', 'c'), but"),
        (replace(task, history=4), extra, "history 4, but this run has 5"),
        (task, extra | {"frames": frames | {"bin_minutes": 5}}, "'bin_minutes': 5"),
        (replace(task, grid=(9, 9)), extra, "grid (9, 9), but this run has (11, 7)"),
    ):
        save_model(other, network, changed, more)
        result = t4c("train", both.config, "--set", f"models.moved.start_from={other}")
        assert result.exit_code == 1
        assert "other.safetensors: learned" in result.stderr
        assert said in result.stderr, result.stderr
    for change, said in (
        ({"base": "mix", "inputs": []}, "says ['base', 'inputs']; leave them out"),
        ({"start_from": "nowhere.safetensors"}, "no such model to start from"),
        ({"start_from": "moved"}, "models.moved.start_from: no 'moved'; there are []"),
        ({"start_from": "Nobody"}, "start_from"),
    ):
        model = {"start_from": str(learned), "training": STEPS} | change
        add(both, models={"moved": model})
        result = t4c("train", both.config)
        assert result.exit_code == 1
        assert said in result.stderr, result.stderr
    add(both, models={"moved": {"start_from": "nowhere.safetensors"}})
    listed = t4c("models", both.config, "--json")
    assert listed.exit_code == 0
    assert "no such model to start from" in facts(listed)["impossible"][0]


def test_what_a_start_has_learned_is_no_longer_held_out(both):
    """A start that learned all three days leaves none to choose the best weights by."""
    start = {"start_from": "first", "reading": {"held_out": 1}, "training": STEPS}
    more = U_NET | {"reading": {"held_out": 0}}
    add(both, models={"first": more, "second": start})
    result = t4c("train", both.config)
    assert result.exit_code == 1
    assert f"first: learned ['{TRAINING[-1]}'] of Aal, which this run holds out" in result.stderr
    start["reading"] = {"held_out": 0}
    add(both, models={"first": more, "second": start})
    assert t4c("train", both.config).exit_code == 0
    _, _, extra = load_model(both.out / "models" / "second.safetensors")
    assert extra["inherited"] == {"tiny/Aal": [*TRAINING], "tiny/Bex": [*TRAINING]}


def test_fine_tuning_learns_and_is_the_same_twice(both, learned):
    def models(**more):
        steps = STEPS | {"steps": 30, "learning_rate": 0.01, "evaluate_every": 10}
        start = {"start_from": "first", "reading": {"held_out": 1}, "training": steps}
        return {"first": U_NET, "second": start | more}

    add(both, models=models())
    said = facts(t4c("train", both.config, "--json"))["models"]
    assert said["second"]["held_out_mse"] < said["first"]["held_out_mse"]
    path = both.out / "models" / "second.safetensors"
    before = path.read_bytes()
    shutil.rmtree(both.out / "models" / "second")
    path.unlink()
    assert t4c("train", both.config, "--model", "second").exit_code == 0
    assert path.read_bytes() == before
