"""KITTI's text format: an object a line, a file an image.

`type truncated occluded alpha x1 y1 x2 y2 h w l x y z rotation_y`, and for detections a score at
the end. Boxes are in pixels of the whole image. What a detector in 2D does not say is written as
the development kit asks: -1 truncated, occluded and sizes, -10 angles, -1000 places.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

from pipeline.atomic import write_text
from pipeline.errors import LabelError

Box = tuple[float, float, float, float]
FIELDS = 15


@dataclass(frozen=True, slots=True)
class KittiObject:
    """A labelled or detected object.

    Attributes:
        kind: Car, Van, Truck, Pedestrian, Person_sitting, Cyclist, Tram, Misc or DontCare.
        box: Left, top, right and bottom, pixels.
        truncated: Share that leaves the image, 0 to 1; -1 is not said.
        occluded: 0 seen, 1 partly and 2 largely occluded, 3 unknown; -1 is not said.
        score: Of a detection; none for a label.
        alpha: Angle it is seen at, radians.
        size: Height, width and length, metres.
        place: In camera coordinates, metres.
        turn: Rotation around the vertical, radians.
    """

    kind: str
    box: Box
    truncated: float = -1.0
    occluded: int = -1
    score: float | None = None
    alpha: float = -10.0
    size: tuple[float, float, float] = (-1.0, -1.0, -1.0)
    place: tuple[float, float, float] = (-1000.0, -1000.0, -1000.0)
    turn: float = -10.0

    @property
    def height(self) -> float:
        """Rows of the box, pixels."""
        return self.box[3] - self.box[1]

    def line(self) -> str:
        """Return it as a line of a file; every number reads back as it was."""
        numbers = [*self.box, *self.size, *self.place, self.turn]
        numbers += [] if self.score is None else [self.score]
        said = [_text(value) for value in numbers]
        return " ".join(
            [self.kind, _text(self.truncated), str(self.occluded), _text(self.alpha), *said]
        )


def read_labels(path: Path) -> list[KittiObject]:
    """Return the labels of an image.

    Raises:
        LabelError: The file is missing or a line is not a label; lists every faulty line.
    """
    return _read(path, FIELDS)


def read_detections(path: Path) -> list[KittiObject]:
    """Return the detections in an image; of none the file is empty.

    Raises:
        LabelError: The file is missing or a line is not a detection; lists every faulty line.
    """
    return _read(path, FIELDS + 1)


def write_labels(path: Path, labels: Sequence[KittiObject]) -> Path:
    """Write the labels of an image, whole.

    Raises:
        ValueError: One has a score.
    """
    if any(one.score is not None for one in labels):
        raise ValueError(f"{path}: a label with a score")
    return write_text(path, "".join(f"{one.line()}\n" for one in labels))


def write_detections(path: Path, detections: Sequence[KittiObject]) -> Path:
    """Write the detections in an image, whole.

    Raises:
        ValueError: One has no score.
    """
    if any(one.score is None for one in detections):
        raise ValueError(f"{path}: a detection without a score")
    return write_text(path, "".join(f"{one.line()}\n" for one in detections))


def parse(text: str, where: str, *, scored: bool = False) -> list[KittiObject]:
    """Return the objects of a file's text.

    Raises:
        LabelError: A line is not an object; lists every one, `where` before each.
    """
    found, faults = [], []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                found.append(_parse(line.split(), FIELDS + scored))
            except ValueError as fault:
                faults.append(f"{where}: line {number}: {fault}")
    if faults:
        raise LabelError("\n".join(faults))
    return found


def _read(path: Path, fields: int) -> list[KittiObject]:
    try:
        text = path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as fault:
        raise LabelError(f"{path}: cannot be read: {fault}") from None
    return parse(text, str(path), scored=fields > FIELDS)


def _parse(words: list[str], fields: int) -> KittiObject:
    if len(words) != fields:
        raise ValueError(f"{len(words)} fields, expected {fields}")
    truncated, occluded, alpha, *rest = (float(word) for word in words[1:])
    x1, y1, x2, y2, h, w, length, x, y, z, turn, *score = rest
    if not all(map(isfinite, (truncated, occluded, alpha, *rest))):
        raise ValueError("a number that is not finite")
    if x2 <= x1 or y2 <= y1:
        raise ValueError(f"a box from ({x1}, {y1}) to ({x2}, {y2}), expected a positive area")
    if occluded not in (-1, 0, 1, 2, 3):
        raise ValueError(f"occluded {words[2]}, expected -1 to 3")
    return KittiObject(
        words[0],
        (x1, y1, x2, y2),
        truncated,
        int(occluded),
        score[0] if score else None,
        alpha,
        (h, w, length),
        (x, y, z),
        turn,
    )


def _text(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(float(value))
