"""KITTI's rules for AP in 2D once more, number by number: slow, plain, and nothing shared."""

from __future__ import annotations

LIMITS = {"easy": (40, 0, 0.15), "moderate": (25, 1, 0.3), "hard": (25, 2, 0.5)}
ABOVE = {"Car": 0.7, "Pedestrian": 0.5, "Cyclist": 0.5}
NEIGHBOUR = {"Car": "Van", "Pedestrian": "Person_sitting", "Cyclist": "no such"}


def shared(a, b):
    w = min(a[2], b[2]) - max(a[0], b[0])
    h = min(a[3], b[3]) - max(a[1], b[1])
    return w * h if w > 0 and h > 0 else 0.0


def area(a):
    return (a[2] - a[0]) * (a[3] - a[1])


def iou(a, b):
    return shared(a, b) / (area(a) + area(b) - shared(a, b))


def state_of_label(one, kind, level):
    """0 must be found, 1 may be, -1 is nothing of this class."""
    height, occluded, truncated = LIMITS[level]
    if one.kind == NEIGHBOUR[kind]:
        return 1
    if one.kind != kind:
        return -1
    hard = one.box[3] - one.box[1] < height
    hard = hard or one.occluded > occluded or one.truncated > truncated
    return 1 if hard else 0


def state_of_detection(one, kind, level):
    """0 counts, 1 is too small to, -1 is of another class."""
    if int(one.box[3] - one.box[1]) < LIMITS[level][0]:
        return 1
    return 0 if one.kind == kind else -1


def pass_over(labels, found, kind, level, threshold):
    """One image. Without a threshold: scores of true ones. With one: true, false, missed."""
    states = [state_of_detection(one, kind, level) for one in found]
    used = [False] * len(found)
    scores, true, false, missed = [], 0, 0, 0

    def open_to(j):
        below = threshold is not None and found[j].score < threshold
        return states[j] != -1 and not used[j] and not below

    for label in labels:
        state = state_of_label(label, kind, level)
        if state == -1:
            continue
        near = [j for j in range(len(found)) if open_to(j)]
        near = [j for j in near if iou(label.box, found[j].box) > ABOVE[kind]]
        if threshold is None:
            near.sort(key=lambda j: -found[j].score)
        else:
            real = [j for j in near if states[j] == 0]
            real.sort(key=lambda j: -iou(label.box, found[j].box))
            near = real or near
        if not near:
            missed += state == 0
            continue
        used[near[0]] = True
        if state == 0 and states[near[0]] == 0:
            true += 1
            scores.append(found[near[0]].score)
    for j, one in enumerate(found):
        if states[j] == 0 and open_to(j):
            boxes = [x.box for x in labels if x.kind == "DontCare"]
            false += not any(shared(one.box, b) / area(one.box) > ABOVE[kind] for b in boxes)
    return scores if threshold is None else (true, false, missed)


def thresholds(scores, wanted):
    scores, chosen, recall = sorted(scores, reverse=True), [], 0.0
    for i in range(len(scores)):
        left = (i + 1) / wanted
        right = (i + 2) / wanted if i < len(scores) - 1 else left
        if right - recall < recall - left and i < len(scores) - 1:
            continue
        chosen.append(scores[i])
        recall += 1 / 40
    return chosen


def literal_ap(images, kind, level):
    """AP11 and AP40 in percent; none where nothing must be found."""
    wanted = sum(state_of_label(x, kind, level) == 0 for labels, _ in images for x in labels)
    if not wanted:
        return None, None
    scores = [s for a, b in images for s in pass_over(a, b, kind, level, None)]
    readings = []
    for threshold in thresholds(scores, wanted):
        true = false = 0
        for labels, found in images:
            t, f, _ = pass_over(labels, found, kind, level, threshold)
            true, false = true + t, false + f
        readings.append(true / (true + false) if true + false else 0.0)
    readings += [0.0] * (41 - len(readings))
    best = [max(readings[i:]) for i in range(41)]
    return 100 * sum(best[::4]) / 11, 100 * sum(best[1:]) / 40
