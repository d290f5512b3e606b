from __future__ import annotations

import json
from itertools import product

import numpy as np
import pytest

from flows.config import read_config
from flows.ensembles import load_weights, weights_path
from flows.models import build_models, identity
from pipeline.ensemble import (
    Combination,
    equal_weights,
    error_products,
    fit_weights,
    simplex_weights,
)
from pipeline.errors import ConfigError, StoreError
from pipeline.forecasters import MovingAverage, Persistence, Zeros
from pipeline.layout import to_model
from pipeline.left_out import LeftOutMix
from pipeline.mix import Mix, fit_mix
from pipeline.sources import TrafficSource
from pipeline.store import Store
from pipeline.usual import UsualFrames
from pipeline.windows import Cut, WindowPlan
from tests.test_cli import facts, t4c
from tests.test_train import TINY_NET, add
from tests.world import NORTH_UP, TINY, TRAINING, VALIDATION

CUT = Cut(48, 5, TINY.leads, 3)
BOTH = {"both": {"members": ["mix", "window_mean"], "held_out": 2}}


def errors_of(seed, members, samples=40):
    """Errors `(M, N)`: with a part in common, of different sizes, some nearly the same."""
    rng = np.random.default_rng(seed)
    own = rng.normal(size=(members, samples)) * rng.uniform(0.1, 3, (members, 1))
    return own + rng.normal(size=samples) * rng.uniform(0, 2)


def cost(weights, errors):
    return np.square(weights @ errors).sum(-1)


@pytest.mark.parametrize("members", [1, 2, 3, 5, 9])
@pytest.mark.parametrize("seed", range(25))
def test_weights_are_on_the_simplex_and_nothing_would_help(members, seed):
    errors = errors_of(seed, members)
    products = errors @ errors.T
    weights = simplex_weights(products)
    assert weights.shape == (members,)
    assert (weights >= 0).all()
    assert weights.sum() == pytest.approx(1)
    slope = products @ weights  # of any small move towards a member
    assert slope.min() >= (weights @ slope) * (1 - 1e-6)
    np.testing.assert_allclose(simplex_weights(products * 1e9), weights, atol=1e-6)
    turned = simplex_weights(products[::-1, ::-1])
    np.testing.assert_allclose(turned[::-1], weights, atol=1e-6)


@pytest.mark.parametrize("members", [2, 3])
@pytest.mark.parametrize("seed", range(25))
def test_no_weights_of_a_fine_grid_are_better(members, seed):
    errors = errors_of(seed, members)
    shares = [w for w in product(range(101), repeat=members - 1) if sum(w) <= 100]
    grid = np.array([[*w, 100 - sum(w)] for w in shares]) / 100
    weights = simplex_weights(errors @ errors.T)
    best = cost(grid, errors).min()
    assert cost(weights, errors) <= best * (1 + 1e-9)
    assert cost(weights, errors) >= best * 0.95


def test_who_is_right_has_all_the_weight():
    for place, members in ((0, 2), (1, 3), (4, 6)):
        errors = errors_of(7, members)
        errors[place] = 0
        weights = simplex_weights(errors @ errors.T)
        np.testing.assert_allclose(weights, np.eye(members)[place], atol=1e-6)


def test_members_may_say_the_same_and_all_may_be_right():
    errors = errors_of(3, 2)
    twice = errors[[0, 0, 1, 1]]
    weights = simplex_weights(twice @ twice.T)
    alone = simplex_weights(errors @ errors.T)
    np.testing.assert_allclose(weights[[0, 2]] + weights[[1, 3]], alone, atol=1e-6)
    np.testing.assert_array_equal(simplex_weights(np.zeros((4, 4))), np.full(4, 0.25))


def source_of(store, days=VALIDATION):
    return TrafficSource(store, WindowPlan(store.city.name, days, CUT))


def histories(source):
    clips = [source[n] for n in range(len(source))]
    history = np.stack([to_model(np.moveaxis(clip.history, -3, -1)) for clip in clips])
    truth = np.stack([clip.future for clip in clips]) / 255
    return history, truth, [clip.where for clip in clips]


def test_equal_weights_are_the_mean(stores):
    members = (Zeros(), Persistence(), MovingAverage())
    model = Combination(members, equal_weights(4, 3, 3))
    history, _, windows = histories(source_of(stores[0]))
    mean = np.mean([member.forecast(history, windows) for member in members], axis=0)
    said = model.forecast(history, windows)
    assert said.dtype == np.float32
    np.testing.assert_allclose(said, mean, atol=1e-6)
    assert said.min() >= 0
    assert said.max() <= 1
    with pytest.raises(ValueError, match=r"\(4, 3\) leads and channels, but weights for \(3, 4\)"):
        Combination(members, equal_weights(3, 4, 3)).forecast(history, windows)


def test_who_has_no_weight_is_not_asked(stores):
    class Silent:
        def forecast(self, history, windows):
            raise AssertionError("asked")

    history, _, windows = histories(source_of(stores[0]))
    weights = np.zeros((4, 3, 2))
    weights[..., 1] = 1
    said = Combination((Silent(), Persistence()), weights).forecast(history, windows)
    np.testing.assert_array_equal(said, Persistence().forecast(history, windows))


def test_products_are_errors_and_the_fit_is_never_worse_than_the_best_member(stores):
    members = (Zeros(), Persistence(), MovingAverage(3), MovingAverage())
    source = source_of(stores[1], TRAINING)
    days = []
    products = error_products(source, members, progress=days.append)
    assert products.shape == (4, 3, 4, 4)
    assert len(days) == len(source)
    history, truth, windows = histories(source)
    single = np.stack(
        [
            np.square(member.forecast(history, windows) - truth).sum(axis=(0, 3, 4))
            for member in members
        ],
        axis=-1,
    )  # (L, C, M)
    np.testing.assert_allclose(np.diagonal(products, axis1=-2, axis2=-1), single, rtol=1e-5)

    weights = fit_weights(products)
    said = Combination(members, weights).forecast(history, windows)
    together = np.square(said - truth).sum(axis=(0, 3, 4))
    np.testing.assert_allclose(
        together, np.einsum("lcm,lcmn,lcn->lc", weights, products, weights), rtol=1e-5
    )
    assert (together <= single.min(axis=-1) * (1 + 1e-6)).all()
    assert together.sum() < single.sum(axis=(0, 1)).min() * 0.999
    assert len({tuple(row) for row in weights.reshape(-1, 4)}) > 1


def test_a_mix_on_its_own_training_days_leaves_them_out(stores, tmp_path):
    store = stores[0]
    mix = fit_mix(store, TRAINING, CUT)
    fair = LeftOutMix(UsualFrames.fit(store, TRAINING, tmp_path), mix.weights)
    history, _, windows = histories(source_of(store, VALIDATION))
    np.testing.assert_allclose(
        fair.forecast(history, windows), mix.forecast(history, windows), atol=1e-6
    )
    for day in TRAINING:
        others = fit_mix(store, [one for one in TRAINING if one != day], CUT).climatology
        without = Mix(others, mix.weights, 5, TINY.leads)
        history, truth, windows = histories(source_of(store, (day,)))
        said = fair.forecast(history, windows)
        np.testing.assert_allclose(said, without.forecast(history, windows), atol=1e-6)
        unfair = mix.forecast(history, windows)
        assert np.square(unfair - truth).mean() < np.square(said - truth).mean()


def test_an_ensemble_is_scored_submitted_and_mapped_by_its_name(ingested, monkeypatch):
    add(ingested, ensembles=BOTH, ladder=["mix", "window_mean", "both"], submit={"model": "both"})
    result = t4c("score", ingested.config, "--json")
    assert result.exit_code == 0, result.stderr
    scores = facts(result)["scores"]
    assert set(scores) == {"mix", "window_mean", "both"}
    assert scores["both"]["mse"] < scores["window_mean"]["mse"]

    config = read_config(ingested.config)
    store = Store.open(config.store, config.read_edition(), NORTH_UP)
    path = weights_path(config, store, "both")
    kept = json.loads(path.read_text())
    assert path.parent == ingested.out / "fitted"
    assert kept["days"] == list(TRAINING[1:])
    assert kept["members"] == ["mix", "window_mean"]
    built = build_models(config, store, ["both", "mix"])
    assert list(built) == ["both", "mix"]
    assert built["both"].members[0] is built["mix"]
    usual = UsualFrames.fit(store, TRAINING, ingested.root / "elsewhere")
    fair = (LeftOutMix(usual, built["mix"].weights), MovingAverage())
    wanted = fit_weights(error_products(source_of(store, TRAINING[1:]), fair))
    np.testing.assert_array_equal(built["both"].weights, wanted)

    first = facts(t4c("submit", ingested.config, "--json"))
    assert first["ok"]
    result = t4c("maps", ingested.config, "--set", "maps.models=[both]", "--json")
    assert result.exit_code == 0, result.stderr

    heavy = (9 * np.array(kept["weights"])).tolist()
    for spoiled in ("{", '{"weights": [[0.5, 0.5]]}', json.dumps(kept | {"weights": heavy})):
        path.write_text(spoiled)
        with pytest.raises(StoreError, match="ensemble_both_Aal"):
            load_weights(path, (4, 3, 2))
        assert t4c("score", ingested.config).exit_code == 0
        assert json.loads(path.read_text()) == kept

    def never(*args, **options):
        raise AssertionError("fitted again")

    monkeypatch.setattr("flows.ensembles.error_products", never)
    (ingested.out / "submission.zip").unlink()
    assert facts(t4c("submit", ingested.config, "--json"))["sha256"] == first["sha256"]
    result = t4c("score", ingested.config, "--set", "ensembles.both.held_out=1")
    assert "fitted again" in str(result.exception)


def test_an_ensemble_of_equal_weights_is_another_and_fits_nothing(ingested, monkeypatch):
    add(ingested, ensembles=BOTH, ladder=["both"])

    def known(*overrides):
        config = read_config(ingested.config, list(overrides))
        store = Store.open(config.store, config.read_edition(), NORTH_UP)
        return identity(config, store, "both")

    every = [
        known(),
        known("ensembles.both.weights=equal"),
        known("ensembles.both.held_out=1"),
        known("ensembles.both.members=[window_mean, mix]"),
        known("stride=4"),
    ]
    assert len({*every}) == 5
    assert known() == every[0]
    monkeypatch.setattr("flows.ensembles.error_products", None)
    result = t4c("score", ingested.config, "--set", "ensembles.both.weights=equal")
    assert result.exit_code == 0, result.stderr


def test_networks_are_members_unless_they_learned_the_days(ingested):
    members = ["tiny", "climatology"]
    away = {"members": [str(ingested.out / "models" / "tiny.safetensors"), "mix"], "held_out": 1}
    add(
        ingested,
        models={"tiny": TINY_NET},
        ensembles={"both": {"members": members, "held_out": 1}, "away": away},
        ladder=["tiny", "both", "away", "climatology"],
    )
    result = t4c("score", ingested.config)
    assert result.exit_code == 1
    assert "no such model; `t4c train` makes" in result.stderr
    assert t4c("train", ingested.config).exit_code == 0
    result = t4c("score", ingested.config, "--json")
    assert result.exit_code == 0, result.stderr
    assert set(facts(result)["scores"]) == {"tiny", "both", "away", "climatology"}
    result = t4c("score", ingested.config, "--set", "ensembles.both.held_out=2")
    assert result.exit_code == 1
    assert "ensembles.both: tiny learned from ['20180102'] of Aal" in result.stderr


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"ensembles": {"mix": BOTH["both"]}}, "ensembles: .'mix'. are names of naive"),
        ({"models": {"both": {}}}, "ensembles: .'both'. are names of models"),
        ({"ensembles": {"both": {"members": ["mix"]}}}, "ensembles.both.members"),
        ({"ensembles": {"both": {"members": ["mix", "mix"]}}}, "name one twice"),
        ({"ensembles": {"both": {"members": ["mix", "oracle"]}}}, "both.members: 'oracle' is no"),
        ({"ensembles": {"both": {"members": ["mix", "both"]}}}, "'both' is an ensemble itself"),
        (
            {"ensembles": {"both": {"members": ["mix", "moving_average_6"]}}},
            "moving_average_6 takes 6 frames",
        ),
        ({"compare": {"models": ["both"]}}, "compare.models: 'both' is an ensemble itself"),
        ({"ensembles": {"both": BOTH["both"] | {"weights": "best"}}}, "ensembles.both.weights"),
        ({"ensembles": {"both": BOTH["both"] | {"held_out": 0}}}, "ensembles.both.held_out"),
    ],
)
def test_ensembles_that_cannot_be_are_refused(ingested, more, said):
    add(ingested, **({"ensembles": BOTH} | more))
    with pytest.raises(ConfigError, match=said):
        read_config(ingested.config)


def test_more_days_held_out_than_there_are_are_refused(ingested):
    add(ingested, ensembles={"both": BOTH["both"] | {"held_out": 3}}, ladder=["both"])
    result = t4c("score", ingested.config)
    assert result.exit_code == 1
    assert "held_out: 3 days, but Aal has 3 training days" in result.stderr
