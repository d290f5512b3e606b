"""KITTI's text format and AP: by hand, by its own laws, and beside a second statement of it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from flows.cli import app
from pipeline.errors import LabelError
from pipeline.kitti.average_precision import (
    as_detections,
    average_precision,
    evaluate,
    read_images,
    recall_thresholds,
)
from pipeline.kitti.labels import KittiObject, parse, read_labels, write_detections
from pipeline.kitti.rules import DIFFICULTIES, RULES, areas, overlaps
from tests.kitti_boxes import random_detections, read_archive
from tests.literal_kitti import literal_ap

CAR = (100.0, 100.0, 200.0, 200.0)


def label(kind="Car", box=CAR, occluded=0, truncated=0.0):
    return KittiObject(kind, box, truncated, occluded)


def said(score=0.9, kind="Car", box=CAR):
    return KittiObject(kind, box, score=score)


def moved(dx, box=CAR):
    return (box[0] + dx, box[1], box[2] + dx, box[3])


def ap(images, kind="Car", level="moderate"):
    found = average_precision(images, kind, level)
    return found.ap11, found.ap40


def counts(labels, found, kind="Car", level="moderate"):
    """True and false at any score, beside 50 cars that are found."""
    from pipeline.kitti.matching import scene

    one = scene(labels, found, kind, RULES[kind], DIFFICULTIES[level])
    return one.count(-1.0), one.wanted


# --- by hand: 100 images of a car each, found with scores 1.00, 0.99, ..., 0.01


def hundred(found):
    """`found(i)` is what is said in image i of a car at `CAR`."""
    return [([label()], found(i)) for i in range(100)]


def score(i):
    return 1 - i / 100


BY_HAND = {
    # IoU 90/110 = 0.82, above 0.7: all found
    "moved by a tenth of the width": (lambda i: [said(score(i), box=moved(10))], 100, 100),
    # IoU 80/120 = 0.67: none found
    "moved by a fifth": (lambda i: [said(score(i), box=moved(20))], 0, 0),
    "every second missed": (
        lambda i: [said(score(i))] if i % 2 == 0 else [],
        # recall ends at 0.5: readings 0 to 20 are 1, of which 6 of 11 and 20 of 40
        100 * 6 / 11,
        50,
    ),
    "one sure hit, all else missed": (lambda i: [said()] if i == 0 else [], 100 / 11, 0),
    "a false box in each image, less sure than any hit": (
        lambda i: [said(2 + score(i)), said(0.5, box=(500, 100, 600, 200))], 100, 100,
    ),
    "a false box in each image, surer than any hit": (
        # 100 false before the first hit: at recall r precision is 100 r / (100 + 100 r), which
        # rises to 1/2 at recall 1, and precision at lower recalls is no less than that
        lambda i: [said(score(i)), said(2, box=(500, 100, 600, 200))], 50, 50,
    ),
    "nothing said": (lambda i: [], 0, 0),
}  # fmt: skip


@pytest.mark.parametrize("case", BY_HAND)
def test_ap_as_a_person_counts_it(case):
    found, eleven, forty = BY_HAND[case]
    assert ap(hundred(found)) == (pytest.approx(eleven, abs=1e-9), pytest.approx(forty, abs=1e-9))


def test_an_overlap_at_the_threshold_is_not_above_it():
    box = (0.0, 0.0, 100.0, 100.0)
    half = (0.0, 0.0, 100.0, 50.0)  # of a pedestrian exactly 0.5
    for height, wanted in ((50.0, (0, 1)), (50.001, (1, 0))):
        found = [said(kind="Pedestrian", box=(0.0, 0.0, 100.0, height))]
        assert counts([label("Pedestrian", box)], found, "Pedestrian")[0] == wanted
    assert overlaps(np.array([box]), np.array([half]))[0, 0] == 0.5


@pytest.mark.parametrize(
    ("labels", "found", "level", "true", "false", "wanted"),
    [
        # a Van hit by a Car detection is neither
        ([label("Van")], [said()], "moderate", 0, 0, 0),
        ([label("Truck")], [said()], "moderate", 0, 1, 0),
        # a detection in DontCare is not false, but one that only half lies in it is
        ([label("DontCare", (0.0, 0.0, 400.0, 300.0))], [said()], "moderate", 0, 0, 0),
        ([label("DontCare", (0.0, 0.0, 150.0, 300.0))], [said()], "moderate", 0, 1, 0),
        # 39.9 pixels under easy are ignored, label and detection
        ([label(box=(0.0, 0.0, 90.0, 39.9))], [said(box=(0.0, 0.0, 90.0, 39.9))], "easy", 0, 0, 0),
        ([label(box=(0.0, 0.0, 90.0, 40.0))], [said(box=(0.0, 0.0, 90.0, 40.0))], "easy", 1, 0, 1),
        ([], [said(box=(0.0, 0.0, 90.0, 39.9))], "easy", 0, 0, 0),
        # too small, too occluded, too truncated: may be found
        ([label(occluded=1)], [said()], "easy", 0, 0, 0),
        ([label(occluded=1)], [said()], "moderate", 1, 0, 1),
        ([label(occluded=3)], [said()], "hard", 0, 0, 0),
        ([label(truncated=0.3)], [said()], "moderate", 1, 0, 1),
        ([label(truncated=0.31)], [said()], "moderate", 0, 0, 0),
        # a label that need not be found takes its detection from nobody else
        ([label(occluded=3), label()], [said(), said(0.5, box=moved(5))], "hard", 1, 0, 1),
        # one label, two detections: one is false
        ([label()], [said(), said(0.5, box=moved(5))], "hard", 1, 1, 1),
        # a small detection of another class excuses a label that nothing else finds
        ([label(box=(0.0, 0.0, 90.0, 41.0))],
         [said(kind="Tram", box=(0.0, 0.0, 90.0, 39.0))], "easy", 0, 0, 1),
        # the nearest takes it, not the surest
        ([label(), label(box=moved(14))],
         [said(0.9, box=moved(7)), said(0.3), said(0.2, box=moved(14))], "hard", 2, 1, 2),
        # types are compared without case
        ([label("car")], [said(kind="CAR")], "hard", 1, 0, 1),
    ],
)  # fmt: skip
def test_rules_one_by_one(labels, found, level, true, false, wanted):
    assert counts(labels, found, level=level) == ((true, false), wanted)


def test_neighbours_of_pedestrians_and_none_of_cyclists():
    sitting = [label("Person_sitting")]
    assert counts(sitting, [said(kind="Pedestrian")], "Pedestrian") == ((0, 0), 0)
    assert counts(sitting, [said(kind="Cyclist")], "Cyclist") == ((0, 1), 0)


def test_a_class_without_labels_has_no_ap():
    assert ap([([], [said()])]) == (None, None)
    table = evaluate([([label()], [said()])])
    assert table.loc[("Cyclist", "easy"), ["AP11", "AP40"]].isna().all()
    assert table.loc[("Car", "easy"), "labels"] == 1


@pytest.mark.parametrize(("count", "readings"), [(1, 1), (40, 40), (41, 41), (95, 41), (5000, 41)])
def test_readings_are_spread_over_recall(count, readings):
    scores = np.linspace(1, 0.001, count)
    chosen = recall_thresholds(scores, count)
    assert len(chosen) == readings
    if count >= 41:
        recall = [(scores >= threshold).sum() / count for threshold in chosen]
        np.testing.assert_allclose(recall, np.arange(41) / 40, atol=1.5 / 41)


def test_41_labels_are_enough_for_100():
    assert ap([([label()], [said()])] * 41) == (100, 100)
    assert ap([([label()], [said()])] * 40) == (pytest.approx(1000 / 11), pytest.approx(97.5))


# --- beside a second statement of the rules


@given(st.integers(0, 2**32 - 1))
def test_random_scenes_agree_with_the_literal_statement(seed):
    rng = np.random.default_rng(seed)
    images = []
    for _ in range(6):
        labels = []
        for _ in range(rng.integers(0, 7)):
            x, y, w, h = rng.random(4) * (300, 100, 80, 60) + (0, 0, 15, 15)
            kind = str(rng.choice(["Car", "Van", "Pedestrian", "Person_sitting", "DontCare"]))
            box = (x, y, x + w, y + h)
            labels.append(label(kind, box, int(rng.integers(0, 4)), rng.random() * 0.6))
        images.append((labels, random_detections(labels, rng)))
    for kind in ("Car", "Pedestrian"):
        for level in DIFFICULTIES:
            wanted = literal_ap(images, kind, level)
            assert ap(images, kind, level) == (
                wanted if wanted[0] is None else pytest.approx(wanted, abs=1e-9)
            )


@pytest.fixture(scope="module")
def real(shared):
    path = shared / "kitti_object" / "label_2_all7481.tar.xz"
    if not path.is_file():
        pytest.skip(f"no {path}")
    return read_archive(path, every=9)


def test_real_labels_agree_with_the_literal_statement(real):
    """`python bench/kitti_ap.py` does the same with all files."""
    rng = np.random.default_rng(7)
    images = [(labels, random_detections(labels, rng)) for labels in [*real.values()][::4]]
    for kind, level in (("Car", "easy"), ("Car", "hard"), ("Pedestrian", "moderate"),
                        ("Cyclist", "hard")):  # fmt: skip
        assert ap(images, kind, level) == pytest.approx(literal_ap(images, kind, level), abs=1e-9)


def test_real_labels_as_detections_give_100(real):
    found = as_detections(real)
    images = [(labels, found[name]) for name, labels in real.items()]
    for kind in RULES:
        for level in DIFFICULTIES:
            result = average_precision(images, kind, level)
            assert result.wanted >= 41
            assert (result.ap11, result.ap40, result.found) == (100, 100, result.wanted)


# --- the text format

NUMBERS = st.floats(-1e4, 1e4).map(lambda value: value + 0.0)


@given(st.tuples(NUMBERS, NUMBERS), st.tuples(st.floats(0.01, 1e3), st.floats(0.01, 1e3)), NUMBERS,
       st.integers(-1, 3))  # fmt: skip
def test_objects_round_trip_through_text(corner, size, number, occluded):
    box = (*corner, corner[0] + size[0], corner[1] + size[1])
    one = KittiObject("Car", box, number, occluded, number, number, (number,) * 3, (1.5,) * 3, 0.25)
    assert parse(one.line(), "here", scored=True) == [one]


def test_a_detection_is_written_as_the_kit_asks(tmp_path):
    path = write_detections(tmp_path / "000000.txt", [said(0.25, box=(1, 2.5, 30, 40))])
    line = "Car -1 -1 -10 1 2.5 30 40 -1 -1 -1 -1000 -1000 -1000 -10 0.25\n"
    assert path.read_text() == line
    with pytest.raises(ValueError, match="without a score"):
        write_detections(path, [label()])


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("Car 0 0 0 1 2 3 4 1 1 1 1 1 1", "14 fields, expected 15"),
        ("Car 0 0 0 1 2 3 4 1 1 1 1 1 1 0 0.5", "16 fields, expected 15"),
        ("Car 0 0 0 1 2 x 4 1 1 1 1 1 1 0", "could not convert"),
        ("Car 0 0 0 5 2 3 4 1 1 1 1 1 1 0", "expected a positive area"),
        ("Car 0 7 0 1 2 3 4 1 1 1 1 1 1 0", "occluded 7"),
        ("Car 0 0 0 1 2 3 inf 1 1 1 1 1 1 0", "not finite"),
    ],
)
def test_a_faulty_line_is_named(tmp_path, line, what):
    path = tmp_path / "000003.txt"
    path.write_text(f"Car 0 0 0 1 2 3 4 1 1 1 1 1 1 0\n{line}\n")
    with pytest.raises(LabelError, match=f"000003.txt: line 2: .*{what}"):
        read_labels(path)


def test_folders_must_hold_the_same_images(tmp_path):
    truth, found = tmp_path / "truth", tmp_path / "found"
    for folder in (truth, found):
        folder.mkdir()
    for name in ("000000.txt", "000001.txt"):
        (truth / name).write_text(label().line() + "\n")
    write_detections(found / "000000.txt", [said()])
    write_detections(found / "000007.txt", [])
    with pytest.raises(
        LabelError, match=r"missing \['000001.txt'\], 1 unexpected \['000007.txt'\]"
    ):
        read_images(truth, found)
    (found / "000007.txt").rename(found / "000001.txt")
    images = read_images(truth, found)
    assert images["000000.txt"] == ([label()], [said()])
    assert images["000001.txt"][1] == []
    with pytest.raises(LabelError, match="no such folder"):
        read_images(tmp_path / "none", found)


def test_real_labels_read_and_boxes_have_areas(shared):
    folder = shared / "kitti_object" / "label_2"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    labels = [one for path in sorted(folder.glob("*.txt")) for one in read_labels(path)]
    assert sum(one.kind == "Car" for one in labels) == 78  # as the data's own notes count
    assert (areas(np.array([one.box for one in labels])) > 0).all()


def test_the_command_prints_a_table_or_what_is_wrong(tmp_path):
    truth, found = tmp_path / "truth", tmp_path / "found"
    truth.mkdir()
    for i in range(45):
        (truth / f"{i:06d}.txt").write_text(label().line() + "\n")
        write_detections(found / f"{i:06d}.txt", [said()] if i else [])
    result = CliRunner().invoke(app, ["kitti-ap", str(truth), str(found), "--json"])
    assert result.exit_code == 0, result.stderr
    facts = json.loads(result.stdout.splitlines()[-1])
    easy = facts["rows"]["Car easy"]
    assert (easy["labels"], easy["found"]) == (45, 44)
    images = [([label()], [said()] if i else []) for i in range(45)]
    assert (easy["AP11"], easy["AP40"]) == pytest.approx(literal_ap(images, "Car", "easy"))
    assert facts["AP40"] is None  # no pedestrians, no mean
    assert "100 is out of reach: Pedestrian easy" in result.stdout
    (found / "000003.txt").unlink()
    result = CliRunner().invoke(app, ["kitti-ap", str(truth), str(found)])
    assert result.exit_code == 1
    assert "1 files are missing ['000003.txt']" in result.stderr
