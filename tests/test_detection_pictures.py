"""KITTI's object pictures: boxes through resizing, mirrors and cuts; frames before; refusals."""

from __future__ import annotations

import csv
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from flows.detection.data import as_clip, learned, target_of
from pipeline.errors import LabelError, VideoError
from pipeline.kitti.boxes import KEPT, clipped, cut_labels, mirrored, scaled
from pipeline.kitti.labels import KittiObject, read_labels, write_labels
from pipeline.kitti.objects import ObjectFolder, read_split
from pipeline.kitti.rules import areas, overlaps
from tests.detection_world import SIZE, STREET, WHOLE, add_preceding, build_street

sides = st.integers(8, 2000)
corners = st.lists(
    st.tuples(*[st.floats(-300, 1500, allow_nan=False)] * 2, *[st.floats(1, 900)] * 2), max_size=5
)


def boxes_of(found):
    return np.array([(x, y, x + w, y + h) for x, y, w, h in found], np.float64).reshape(-1, 4)


@given(corners, sides, sides, sides, sides)
def test_resized_boxes_come_back_and_overlap_as_before(found, h, w, rows, columns):
    boxes = boxes_of(found)
    there = scaled(boxes, (h, w), (rows, columns))
    np.testing.assert_allclose(scaled(there, (rows, columns), (h, w)), boxes, atol=1e-9)
    np.testing.assert_allclose(overlaps(there, there), overlaps(boxes, boxes), atol=1e-9)


def test_the_whole_picture_becomes_the_whole_frame():
    whole = np.array([[0.0, 0.0, 1242.0, 375.0]])
    np.testing.assert_array_equal(scaled(whole, (375, 1242), (128, 416)), [[0, 0, 416, 128]])


@given(corners, sides)
def test_mirrors_undo_themselves_and_keep_areas(found, width):
    boxes = boxes_of(found)
    turned = mirrored(boxes, width)
    np.testing.assert_allclose(mirrored(turned, width), boxes, atol=1e-9)
    np.testing.assert_allclose(areas(turned), areas(boxes), rtol=1e-9)
    np.testing.assert_allclose(turned[:, [1, 3]], boxes[:, [1, 3]])


@given(corners, sides, sides)
def test_clipped_boxes_are_what_is_inside(found, h, w):
    boxes = boxes_of(found)
    inside = clipped(boxes, (h, w))
    picture = np.array([[0.0, 0.0, w, h]])
    from pipeline.kitti.rules import intersections

    np.testing.assert_allclose(areas(inside), intersections(boxes, picture)[:, 0], atol=1e-6)
    np.testing.assert_array_equal(clipped(inside, (h, w)), inside)


def car(box, kind="Car", truncated=0.0):
    return KittiObject(kind, tuple(map(float, box)), truncated, 1, alpha=0.5, turn=1.0)


def test_labels_of_a_cut_picture():
    size = (100, 200)
    cut = cut_labels(
        [
            car((10, 10, 60, 60)),  # untouched
            car((150, 0, 210, 100)),  # five sixths are left
            car((160, 0, 240, 100), truncated=0.2),  # half
            car((160, 0, 241, 100)),  # just less than half
            car((200, 0, 240, 100)),  # nothing: it begins where the picture ends
            car((190, 50, 260, 90), "DontCare", -1.0),
        ],
        size,
    )
    assert cut[0] == car((10, 10, 60, 60))
    assert [one.kind for one in cut] == ["Car", "Car", "Car", "DontCare", "DontCare"]
    assert [one.box for one in cut[1:]] == [
        (150, 0, 200, 100), (160, 0, 200, 100), (160, 0, 200, 100), (190, 50, 200, 90),
    ]  # fmt: skip
    assert cut[1].truncated == pytest.approx(1 / 6, abs=1e-4)
    assert cut[2].truncated == pytest.approx(1 - 0.8 * 0.5)
    assert (cut[1].alpha, cut[1].turn, cut[1].occluded) == (0.5, 1.0, 1)
    assert KEPT == 0.5


@pytest.mark.parametrize(
    ("one", "as_what"),
    [
        (KittiObject("Car", (0, 0, 50, 25), 0.5, 2), 1),
        (KittiObject("Pedestrian", (0, 0, 50, 25), 0.0, 0), 2),
        (KittiObject("cyclist", (0, 0, 50, 25), 0.0, 0), 3),
        (KittiObject("Car", (0, 0, 50, 24.9), 0.0, 0), None),
        (KittiObject("Car", (0, 0, 50, 25), 0.51, 0), None),
        (KittiObject("Car", (0, 0, 50, 25), 0.0, 3), None),
        (KittiObject("Van", (0, 0, 50, 25), 0.0, 0), None),
        (KittiObject("Person_sitting", (0, 0, 50, 25), 0.0, 0), None),
        (KittiObject("DontCare", (0, 0, 50, 25)), None),
        (KittiObject("Truck", (0, 0, 50, 25), 0.0, 0), 0),
    ],
)
def test_what_an_object_is_learned_as(one, as_what):
    assert learned(one) == as_what


def test_a_mirrored_target_lies_on_the_mirrored_picture(tmp_path):
    build_street(tmp_path)
    folder = ObjectFolder(tmp_path / "street", "repeat")
    frames, whole = folder.read_frames(7, SIZE)
    assert (frames.shape, whole) == ((4, *SIZE, 3), WHOLE)
    for mirror in (False, True):
        clip = as_clip(frames, mirror)
        target = target_of(folder.read_labels(7), whole, SIZE, mirror)
        assert target.classes.tolist() == [1, 2]
        for box, channel in zip(target.boxes.tolist(), (0, 1), strict=True):
            left, top, right, bottom = (round(value) for value in box)
            inside = clip[-1, :, top + 2 : bottom - 2, left + 2 : right - 2].float()
            assert inside.mean((1, 2)).argmax() == channel
            assert inside[channel].min() > 190


def test_frames_before_a_picture_come_first_oldest_first(tmp_path):
    build_street(tmp_path)
    folder = ObjectFolder(tmp_path / "street", "repeat")
    assert folder.is_still(4)
    frames, _ = folder.read_frames(4, SIZE)
    assert (frames == frames[-1]).all()
    add_preceding(tmp_path, 4)
    assert not ObjectFolder(tmp_path / "street", "required").is_still(4)
    frames, _ = folder.read_frames(4, SIZE)
    red = (frames[..., 0] > 180) & (frames[..., 1] < 70)
    left = [np.flatnonzero(one.any(0))[0] for one in red]
    assert left == sorted(left, reverse=True)
    assert len({*left}) == 4  # it comes from the right, 5 pixels of 3 a frame


def test_what_is_missing_or_wrong_is_refused_by_name(tmp_path):
    build_street(tmp_path)
    root = tmp_path / "street"
    folder = ObjectFolder(root, "required")
    with pytest.raises(VideoError, match=r"prev_2: missing 000003_03.png, 000003_02.png, 0000"):
        folder.check([3], labelled=True)
    add_preceding(tmp_path, 3)
    folder.check([3], labelled=True)
    (root / "prev_2" / "000003_02.png").unlink()
    with pytest.raises(VideoError, match=r"prev_2: missing 000003_02.png"):
        ObjectFolder(root, "repeat").check([3], labelled=True)  # half a past is no still
    Image.new("RGB", (300, 96)).save(root / "prev_2" / "000003_02.png")
    with pytest.raises(VideoError, match=r"000003_02.png: 96 x 300, but 000003.png is 96 x 312"):
        folder.read_frames(3, SIZE)
    still = ObjectFolder(root, "repeat")
    with pytest.raises(VideoError, match=r"image_2: 1 pictures are missing, \[5\]"):
        still.check([4, 5], labelled=True)
    with pytest.raises(VideoError, match=r"picture \[4\] named more than once"):
        still.check([4, 7, 4], labelled=True)
    (root / "label_2" / "000004.txt").unlink()
    with pytest.raises(LabelError, match=r"label_2: 1 files are missing, \[4\]"):
        still.check([4, 7], labelled=True)
    still.check([4, 7], labelled=False)
    picture = root / "image_2" / "000007.png"
    picture.write_bytes(picture.read_bytes()[:500])
    with pytest.raises(VideoError, match=r"000007.png: cannot be decoded"):
        still.read_frames(7, SIZE)
    Image.new("I;16", (312, 96)).save(picture)
    with pytest.raises(VideoError, match=r"000007.png: a picture of mode I;16"):
        still.read_frames(7, SIZE)
    shutil.copy(picture, root / "image_2" / "seven.png")
    with pytest.raises(VideoError, match=r"\['seven.png'\], expected NNNNNN.png"):
        still.numbers()


def test_a_split_is_a_number_a_line(tmp_path):
    path = tmp_path / "train.txt"
    path.write_text("000003\n000007\n\n")
    assert read_split(path) == [3, 7]
    for text, said in (("000003\n7\n", "line 2: '7'"), ("\n", "no numbers")):
        path.write_text(text)
        with pytest.raises(VideoError, match=said):
            read_split(path)
    with pytest.raises(VideoError, match="cannot be read"):
        read_split(tmp_path / "none.txt")


def test_labels_round_trip(tmp_path):
    build_street(tmp_path)
    path = tmp_path / "street" / "label_2" / "000003.txt"
    labels = read_labels(path)
    assert [one.kind for one in labels] == [kind for kind, _ in STREET[3]]
    assert read_labels(write_labels(tmp_path / "again.txt", labels)) == labels
    with pytest.raises(ValueError, match="a label with a score"):
        write_labels(tmp_path / "again.txt", [KittiObject("Car", (0, 0, 1, 1), score=0.5)])


def test_the_real_pictures(shared):
    root = shared / "kitti_object"
    if not root.is_dir():
        pytest.skip(f"no {root}")
    folder = ObjectFolder(root, "repeat")
    numbers = folder.numbers()
    assert len(numbers) == 33
    folder.check(numbers, labelled=True)
    with (root / "images.csv").open() as file:
        facts = {int(row["id"]): row for row in csv.DictReader(file)}
    cut = 0
    for number in numbers:
        whole = int(facts[number]["height"]), int(facts[number]["width"])
        before, after = read_labels(folder.label(number)), folder.read_labels(number)
        for one in after:
            left, top, right, bottom = one.box
            assert 0 <= left < right <= whole[1]
            assert 0 <= top < bottom <= whole[0]
        if facts[number]["cropped_top_left"] == "no":
            assert after == before
        cut += after != before
    assert 0 < cut <= 19
    frames, whole = folder.read_frames(11, (128, 416))
    assert (frames.shape, whole) == ((4, 128, 416, 3), (370, 1224))
    with pytest.raises(VideoError, match="000011_03.png"):
        ObjectFolder(root).check([11], labelled=True)
