"""Pairs of what came and what was forecast, in random order and on random sides."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.atomic import write_json, write_text
from pipeline.errors import StudyError
from pipeline.study.page import Trial, study_page
from pipeline.yaml_files import validate

Side = Literal["left", "right"]
Movie = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """One question before it is asked.

    Attributes:
        model: Whose forecast.
        name: Of what: a window, a sequence.
        history: `(T, H, W)` uint8, shown first on both sides.
        truth: `(L, H, W)` uint8, what came.
        forecast: The same shape, what was said.
    """

    model: str
    name: str
    history: Movie
    truth: Movie
    forecast: Movie


@dataclass(frozen=True, slots=True)
class Asked:
    """One question as it was asked; kept from the judges.

    Attributes:
        model: Whose forecast.
        name: Of what.
        truth: On which side the truth was.
    """

    model: str
    name: str
    truth: Side


@dataclass(frozen=True, slots=True)
class Key:
    """What a study asked, in order; an answer names a question by its place.

    Attributes:
        study: What tells this study from any other.
        pairs: Its questions.
    """

    study: str
    pairs: tuple[Asked, ...]


def make_study(folder: Path, title: str, pairs: Sequence[Pair], seed: int) -> tuple[Path, Path]:
    """Write `study.html`, which judges get, and `key.json`, which they do not; return both.

    The same pairs and seed make the same bytes.

    Raises:
        StudyError: There are no pairs, or a truth and its forecast differ in shape.
    """
    if not pairs:
        raise StudyError("a study of no pairs")
    for pair in pairs:
        if pair.truth.shape != pair.forecast.shape:
            raise StudyError(
                f"{pair.model}, {pair.name}: a forecast {pair.forecast.shape} beside a truth "
                f"{pair.truth.shape}"
            )
    rng = np.random.default_rng(seed)
    order = [pairs[place] for place in rng.permutation(len(pairs))]
    sides: list[Side] = ["left", "right"]
    asked = [Asked(p.model, p.name, sides[int(rng.integers(2))]) for p in order]
    seen = hashlib.sha256(json.dumps([asdict(one) for one in asked]).encode())
    trials = []
    for pair, one in zip(order, asked, strict=True):
        seen.update(pair.truth.tobytes() + pair.forecast.tobytes())
        both = pair.truth, pair.forecast
        left, right = both if one.truth == "left" else both[::-1]
        trials.append(Trial(pair.history, left, right))
    key = Key(seen.hexdigest()[:16], tuple(asked))
    page = write_text(folder / "study.html", study_page(title, key.study, trials))
    return page, write_json(folder / "key.json", asdict(key))


def read_key(path: Path) -> Key:
    """Return the key of a study.

    Raises:
        StudyError: The file is not one.
    """
    key: Key = validate(Key, read_json(path), str(path), StudyError)
    return key


def read_json(path: Path, most: int = 16 * 2**20) -> object:
    """Return what a JSON file holds.

    Raises:
        StudyError: It cannot be read, is too large or is no JSON.
    """
    try:
        if (size := path.stat().st_size) > most:
            raise StudyError(f"{path}: {size} bytes, expected {most} at most")
        found: object = json.loads(path.read_text(encoding="utf-8"))
    except OSError as fault:
        raise StudyError(f"{path}: {fault.strerror}") from None
    except (ValueError, RecursionError) as fault:
        raise StudyError(f"{path}: no JSON: {fault}") from None
    return found
