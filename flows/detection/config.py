"""Detection on a trained CrevNet's features, as a person types it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from crevnet.detection.anchors import RATIOS, SIZES
from flows.model_config import TRAINED, Training
from flows.section import Section
from pipeline.kitti.objects import ObjectFolder, read_split
from pipeline.kitti.rules import RULES

Pixels = Annotated[float, Field(gt=0)]
Number = Annotated[int, Field(ge=0, le=999_999)]
Triple = tuple[float, float, float]


class Pictures(Section):
    """Which pictures, and where they are."""

    root: Path = Field(description="Folder of image_2, and of label_2 and prev_2 where these are.")
    images: tuple[Number, ...] | Path | Literal["all"] = Field(
        "all", description="Numbers; or a text file of them, NNNNNN a line; or all there are."
    )
    preceding: Literal["required", "repeat"] = Field(
        "required",
        description="A picture without the three frames before it is refused; or stands for them "
        "itself: a still, in which nothing moves.",
    )

    @property
    def folder(self) -> ObjectFolder:
        """Where they are read."""
        return ObjectFolder(self.root, self.preceding)

    def numbers(self) -> list[int]:
        """Return the numbers of the pictures, in order.

        Raises:
            VideoError: The file of them is faulty, or there are no pictures.
        """
        if self.images == "all":
            return self.folder.numbers()
        if isinstance(self.images, Path):
            return read_split(self.images)
        return [*self.images]


class Head(Section):
    """A head to train."""

    inputs: Literal["masks", "masks_and_features"] = Field(
        "masks_and_features",
        description="What it is given: the attention masks of the predictor alone, or beside them "
        "the features of the autoencoder.",
    )
    width: int = Field(64, ge=1, description="Channels of its maps.")
    depth: int = Field(2, ge=0, description="Convolutions on the first map.")
    finer: int = Field(
        1, ge=1, description="How many times finer its first map is than the features."
    )
    sizes: tuple[tuple[Pixels, ...], ...] = Field(
        SIZES, min_length=1, description="Of the anchors of each map, pixels of the resized frame."
    )
    ratios: tuple[Pixels, ...] = Field(
        RATIOS, min_length=1, description="Height by width, of the anchors of every map."
    )
    overlap: float = Field(0.5, gt=0, lt=1, description="From here on an anchor is an object's.")
    negatives: int = Field(3, ge=1, description="Anchors of nothing for each of an object.")
    training: Training = Field(default_factory=lambda: Training(epochs=30))

    @model_validator(mode="after")
    def _nothing_idle(self) -> Head:
        for name in ("evaluate_every", "patience", "memory"):
            value, usual = getattr(self.training, name), Training.model_fields[name].default
            if value != usual:
                raise ValueError(
                    f"training.{name}: {value}, expected {usual}: it does nothing for a head"
                )
        return self


class Told(Section):
    """Which boxes are told."""

    least: float = Field(0.02, ge=0, lt=1, description="Of scores above this.")
    overlap: float = Field(0.45, gt=0, le=1, description="Of boxes that overlap more, the surer.")
    candidates: int = Field(400, ge=1, description="Of a class, before that.")
    most: int = Field(100, ge=1, description="Of a picture.")
    device: str = Field("auto", description="cpu, cuda, cuda:1, or auto.")
    threads: int = Field(0, ge=0, description="Of the process; 0 leaves it to torch.")


class Drawn(Section):
    """Pictures to look at."""

    images: tuple[Number, ...] = Field((), description="Of those to test, by number.")
    least: float = Field(0.5, ge=0, lt=1, description="Boxes of scores above this are drawn.")
    width: int = Field(828, ge=100, description="Pixels a picture is wide.")


class PublishedAP(Section):
    """The paper's figures, printed beside."""

    car: Triple = Field(description="AP of easy, moderate, hard; percent.")
    pedestrian: Triple = Field(description="The same.")
    cyclist: Triple = Field(description="The same.")


class DetectionConfig(Section):
    """Everything that shapes it. Paths are taken from the folder `t4c` is started in."""

    title: str = Field("KITTI detection", description="Of the tables.")
    network: Path = Field(description="A trained CrevNet's file, as `t4c benchmark` makes it.")
    out: Path = Field(description="Where heads, detections, tables and pictures go.")
    trained: Path | None = Field(
        None, description="Where trained heads are; `out`/heads, if not given."
    )
    height: int = Field(128, ge=16, description="Rows that a whole picture is resized to.")
    width: int = Field(416, ge=16, description="Columns.")
    training: Pictures = Field(description="Pictures to learn from.")
    test: Pictures = Field(description="Pictures to find objects in; labelled or not.")
    mirror: bool = Field(True, description="Learn from mirror images too.")
    keep: Literal["nothing", "frames", "features"] = Field(
        "frames",
        description="Of pictures to learn from, in memory, so as to read each once: the resized "
        "frames, 0.64 MB a picture; or what a head is given of them, and of their mirror images, "
        "so that the CrevNet looks once: for few pictures.",
    )
    heads: dict[Annotated[str, Field(pattern=rf"^{TRAINED}$")], Head] = Field(
        min_length=1, description="Heads to train, by name."
    )
    tell: Told = Field(default_factory=lambda: Told())
    draw: Drawn = Field(default_factory=lambda: Drawn())
    published: dict[str, PublishedAP] = Field(
        default_factory=dict, description="Figures of others, by name."
    )

    @property
    def heads_folder(self) -> Path:
        """Where trained heads are."""
        return self.trained or self.out / "heads"

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of what the network sees."""
        return self.height, self.width

    @property
    def classes(self) -> tuple[str, ...]:
        """Kinds that are found."""
        return tuple(RULES)
