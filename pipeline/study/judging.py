"""What judges answered: how often they found the truth, and whether they favoured a side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pandas as pd
from pydantic import Field

from pipeline.errors import StudyError
from pipeline.study.binomial import interval, two_sided
from pipeline.study.pairs import Key, Side, read_json
from pipeline.yaml_files import validate

Count = Annotated[int, Field(ge=0)]
BIASED = 0.05
"""Below this p, judges are said to favour a side."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A judge's word on a pair.

    Attributes:
        pair: Its place in the key, from 0.
        side: Where the judge saw the truth.
        ms: Milliseconds it took.
    """

    pair: Count
    side: Side
    ms: Count


@dataclass(frozen=True, slots=True)
class Answers:
    """What one judge answered.

    Attributes:
        study: Which study.
        judge: Who, as they called themselves.
        answers: In order.
    """

    study: str
    judge: str
    answers: tuple[Answer, ...]


@dataclass(frozen=True, slots=True)
class Judged:
    """What came of a study.

    Attributes:
        models: A row a model: `right` of `answers`, `accuracy`, and its exact 95 % interval `low`,
            `high`; 0.5 is what guessing gives, and what a forecast as good as the truth earns.
        judges: A row a judge: the same, and `left`, how often they chose that side, `truth_left`,
            how often it was there, and `side_p`, of a share of left as far from half.
        warnings: Who favoured a side, and who left questions out.
    """

    models: pd.DataFrame
    judges: pd.DataFrame
    warnings: list[str]


def read_answers(path: Path, key: Key) -> Answers:
    """Return one judge's answers.

    Raises:
        StudyError: The file is no such thing, is of another study, names a pair that is not there
            or one twice.
    """
    found: Answers = validate(Answers, read_json(path), str(path), StudyError)
    if found.study != key.study:
        raise StudyError(f"{path}: of study {found.study!r}, but the key is of {key.study!r}")
    places = [answer.pair for answer in found.answers]
    if beyond := sorted({place for place in places if place >= len(key.pairs)}):
        raise StudyError(f"{path}: pairs {beyond}, but the study has {len(key.pairs)}, from 0")
    if len({*places}) < len(places):
        twice = sorted({place for place in places if places.count(place) > 1})
        raise StudyError(f"{path}: pairs {twice} are answered twice")
    if not places:
        raise StudyError(f"{path}: no answers")
    return found


def judge(key: Key, files: Sequence[Path]) -> Judged:
    """Return what judges' files say against the key.

    Raises:
        StudyError: There is none, one is faulty, or two are the same; lists every faulty one.
    """
    faults, rows, warnings = [], [], []
    seen: dict[Answers, Path] = {}
    for path in files:
        try:
            found = read_answers(path, key)
        except StudyError as fault:
            faults.append(str(fault))
            continue
        if found in seen:
            faults.append(f"{path}: the same answers as {seen[found]}")
            continue
        name = f"{found.judge or 'nameless'} ({path.name})"
        seen[found] = path
        if left_out := len(key.pairs) - len(found.answers):
            warnings.append(f"{name}: {left_out} of {len(key.pairs)} pairs were not answered")
        for answer in found.answers:
            asked = key.pairs[answer.pair]
            rows.append(
                (asked.model, name, answer.side == asked.truth, answer.side, asked.truth, answer.ms)
            )
    if faults or not rows:
        raise StudyError("\n".join(faults) or "no answers to score")
    columns = ["model", "judge", "right", "side", "truth", "ms"]
    table = pd.DataFrame(rows, columns=columns)
    judges = _accuracy(table, "judge")
    for who, group in table.groupby("judge", sort=False):
        left = int((group["side"] == "left").sum())
        p = two_sided(left, len(group))
        judges.loc[str(who), ["left", "truth_left", "side_p"]] = [
            left,
            int((group["truth"] == "left").sum()),
            p,
        ]
        if p < BIASED:
            warnings.append(
                f"{who}: chose left {left} times of {len(group)} (p = {p:.3g}): favours a side"
            )
    everyone = int((table["side"] == "left").sum())
    p = two_sided(everyone, len(table))
    if len(judges) > 1 and p < BIASED:
        warnings.append(f"all judges: chose left {everyone} times of {len(table)} (p = {p:.3g})")
    return Judged(_accuracy(table, "model"), judges, warnings)


def _accuracy(table: pd.DataFrame, by: str) -> pd.DataFrame:
    rows = {}
    for name, group in table.groupby(by, sort=False):
        right, count = int(group["right"].sum()), len(group)
        low, high = interval(right, count)
        rows[str(name)] = {
            "right": right,
            "answers": count,
            "accuracy": right / count,
            "low": low,
            "high": high,
            "seconds": float(group["ms"].median()) / 1000,
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(by)
