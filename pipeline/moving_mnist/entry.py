"""What the catalogue says of Moving MNIST: files of digits, and fixed sets of sequences."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from pipeline.catalog import read_other

DigitSplit = Literal["training", "validation", "test"]
MotionName = Literal["authors", "common"]
KIND: Literal["moving_mnist"] = "moving_mnist"

Positive = Annotated[int, Field(gt=0)]
Natural = Annotated[int, Field(ge=0)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


@dataclass(frozen=True, slots=True)
class DigitFile:
    """A file of digits.

    Attributes:
        name: In its folder, plain or with `.gz` after it.
        sha256: Of the unpacked file; not compared, if none is known.
        archive_sha256: Of the gzipped file at the addresses.
        addresses: Where the gzipped file can be fetched, tried in this order.
    """

    name: Annotated[str, Field(pattern=r"^[^/]+$")]
    sha256: Sha256 | None = None
    archive_sha256: Sha256 | None = None
    addresses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FixedSet:
    """A set of sequences that is drawn once and stays.

    Attributes:
        motion: How digits move: *authors* or *common*, see `pipeline.moving_mnist.motion`.
        digits: In a frame.
        split: Which digits they are.
        sequences: How many.
        seed: Another seed is another set.
        sha256: Of all frames, sequence by sequence; not compared, if none is known.
        frames: Of a sequence.
        canvas: Rows and columns of a frame.
    """

    motion: MotionName
    digits: Positive
    split: DigitSplit
    sequences: Positive
    seed: Natural
    sha256: Sha256 | None = None
    frames: Positive = 20
    canvas: tuple[Positive, Positive] = (64, 64)


@dataclass(frozen=True, slots=True)
class MovingMnist:
    """An entry of the catalogue.

    Attributes:
        name: Its key.
        title: What a person calls it.
        training: The file of digits to train and validate with.
        test: The file of digits to test with.
        validation_digits: Last training digits, kept apart for validation.
        sets: Fixed sets by name.
        terms: Who owns the digits and what may be done with them.
    """

    name: str
    title: str
    training: DigitFile
    test: DigitFile
    validation_digits: Positive
    kind: Literal["moving_mnist"] = KIND
    sets: dict[str, FixedSet] = field(default_factory=dict)
    terms: str = ""


def read_entry(name: str, path: Path | None = None) -> MovingMnist:
    """Return an entry of a catalogue.

    Raises:
        CatalogError: The catalogue is faulty, or has no such entry of this kind.
    """
    return read_other(MovingMnist, KIND, name, path)
