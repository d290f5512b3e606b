from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import StudyError
from pipeline.study.binomial import at_most, interval, two_sided
from pipeline.study.judging import judge
from pipeline.study.pairs import Pair, make_study, read_key

counts = st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(counts, st.sampled_from([0.8, 0.95, 0.99]))
def test_intervals_are_exact(count, level):
    stats = pytest.importorskip("scipy.stats")
    right, trials = count
    low, high = interval(right, trials, level)
    expected = stats.binomtest(right, trials).proportion_ci(level, method="exact")
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert two_sided(right, trials) == pytest.approx(stats.binomtest(right, trials).pvalue)
    assert at_most(right, trials, 0.3) == pytest.approx(stats.binom.cdf(right, trials, 0.3))


def test_an_interval_covers_at_least_as_often_as_it_says():
    for chance in (0.05, 0.5, 0.83):
        covered = 0.0
        for right in range(21):
            low, high = interval(right, 20)
            mass = at_most(right, 20, chance) - (at_most(right - 1, 20, chance) if right else 0)
            covered += mass * (low <= chance <= high)
        assert covered >= 0.95
    with pytest.raises(ValueError, match="5 successes of 4"):
        interval(5, 4)


def pairs(count=40):
    rng = np.random.default_rng(1)
    for number in range(count):
        history, truth, forecast = (
            rng.integers(0, 256, (frames, 5, 7), dtype=np.uint8) for frames in (2, 3, 3)
        )
        yield Pair("net" if number % 4 else "naive", f"window {number}", history, truth, forecast)


@pytest.fixture
def study(tmp_path):
    page, key = make_study(tmp_path / "study", "Which?", list(pairs()), 3)
    return page, key, read_key(key)


def answered(folder, key, choose, judge_name="me"):
    answers = [
        {"pair": place, "side": choose(asked), "ms": 900 + place}
        for place, asked in enumerate(key.pairs)
    ]
    path = folder / f"{judge_name}.json"
    path.write_text(json.dumps({"study": key.study, "judge": judge_name, "answers": answers}))
    return path


def test_a_study_is_drawn_from_its_seed_and_asks_every_pair_once(study, tmp_path):
    page, key_path, key = study
    assert sorted(asked.name for asked in key.pairs) == sorted(pair.name for pair in pairs())
    assert [asked.name for asked in key.pairs] != [pair.name for pair in pairs()]
    assert 8 < sum(asked.truth == "left" for asked in key.pairs) < 32
    again = make_study(tmp_path / "again", "Which?", list(pairs()), 3)
    assert [path.read_bytes() for path in again] == [page.read_bytes(), key_path.read_bytes()]
    other = make_study(tmp_path / "other", "Which?", list(pairs()), 4)
    assert read_key(other[1]).study != key.study


def test_the_page_does_not_tell_which_is_which(study):
    page, _, key = study
    text = page.read_text()
    for asked in key.pairs:
        assert asked.name not in text
    assert "naive" not in text
    assert "truth" not in text


def test_the_truth_is_on_the_side_that_the_key_says(study, tmp_path):
    import re
    from base64 import b64decode
    from io import BytesIO

    from PIL import Image

    from pipeline.palette import value_indices

    page, _, key = study
    films = re.findall(r'data-side="(left|right)"><img [^>]*base64,([^"]+)"', page.read_text())
    by_name = {pair.name: pair for pair in pairs()}
    assert len(films) == 80
    for place, (side, data) in enumerate(films):
        asked = key.pairs[place // 2]
        pair = by_name[asked.name]
        shown = pair.truth if side == asked.truth else pair.forecast
        film = Image.open(BytesIO(b64decode(data)))
        assert film.n_frames == 5
        film.seek(4)
        zoom = film.width // 7
        frame = np.asarray(film.convert("RGB"))[2 * zoom :: zoom, ::zoom].astype(int)
        table = np.frombuffer(palette(), np.uint8).reshape(256, 3).astype(int)
        np.testing.assert_array_equal(frame, table[value_indices(shown[2])])


def palette():
    from pipeline.palette import colours

    return colours()


def test_judges_are_scored_by_model_and_warned_of_a_favourite_side(study, tmp_path):
    _, _, key = study
    knows = answered(tmp_path, key, lambda asked: asked.truth, "knows")
    lefty = answered(tmp_path, key, lambda asked: "left", "lefty")
    found = judge(key, [knows, lefty])
    lefts = sum(asked.truth == "left" for asked in key.pairs)
    assert found.models["answers"].to_dict() == {"net": 60, "naive": 20}
    assert found.models["right"].sum() == 40 + lefts
    one, two = found.judges.index
    assert found.judges.loc[one, ["right", "accuracy", "high"]].tolist() == [40, 1, 1]
    assert found.judges.loc[two, ["right", "left", "truth_left"]].tolist() == [lefts, 40, lefts]
    assert [w.split(":")[0] for w in found.warnings][:1] == ["lefty (lefty.json)"]
    assert "favours a side" in found.warnings[0]
    assert not judge(key, [knows]).warnings


SPOILED = {
    "no JSON": lambda said: "{",
    "study: Field required": lambda said: {k: v for k, v in said.items() if k != "study"},
    "of study 'x', but the key": lambda said: said | {"study": "x"},
    "pairs .40., but the study has 40": lambda said: (
        said | {"answers": [*said["answers"], {"pair": 40, "side": "left", "ms": 1}]}
    ),
    "pairs .3. are answered twice": lambda said: (
        said | {"answers": [*said["answers"], said["answers"][3]]}
    ),
    "side: .*'up'": lambda said: said | {"answers": [{"pair": 1, "side": "up", "ms": 1}]},
    "no answers": lambda said: said | {"answers": []},
    "more: Unexpected": lambda said: said | {"more": 1},
}


@pytest.mark.parametrize("fault", SPOILED)
def test_answers_that_are_not_of_the_study_are_refused_by_name(study, tmp_path, fault):
    _, _, key = study
    path = answered(tmp_path, key, lambda asked: asked.truth)
    spoiled = SPOILED[fault](json.loads(path.read_text()))
    path.write_text(spoiled if isinstance(spoiled, str) else json.dumps(spoiled))
    with pytest.raises(StudyError, match=rf"(?s)me.json: .*{fault}"):
        judge(key, [path])


def test_the_same_answers_do_not_count_twice(study, tmp_path):
    _, key_path, key = study
    path = answered(tmp_path, key, lambda asked: asked.truth)
    copy = tmp_path / "copy.json"
    copy.write_bytes(path.read_bytes())
    with pytest.raises(StudyError, match=r"copy.json: the same answers as .*me.json"):
        judge(key, [path, copy])
    left_out = json.loads(path.read_text())
    left_out["answers"] = left_out["answers"][:30]
    path.write_text(json.dumps(left_out))
    assert "10 of 40 pairs were not answered" in judge(key, [path]).warnings[0]
    key_path.write_text(json.dumps(asdict(key) | {"pairs": 7}))
    with pytest.raises(StudyError, match="key.json: pairs"):
        read_key(key_path)


def test_a_study_needs_pairs_of_one_shape(tmp_path):
    with pytest.raises(StudyError, match="no pairs"):
        make_study(tmp_path, "t", [], 0)
    [pair, *_] = pairs()
    odd = Pair("m", "w", pair.history, pair.truth, pair.forecast[:-1])
    with pytest.raises(StudyError, match=r"m, w: a forecast \(2, 5, 7\) beside a truth \(3, 5, 7"):
        make_study(tmp_path, "t", [odd], 0)
