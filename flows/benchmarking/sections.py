"""Where a benchmark's sequences come from, as a person types it: digits or a camera's drives."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from flows.section import Section


class Drawn(Section):
    """Training sequences, drawn on the fly from training digits, on the canvas of the test set."""

    motion: Literal["authors", "common"] = Field(description="How digits move.")
    digits: int = Field(2, ge=1, le=9, description="In a frame.")
    seed: int = Field(0, ge=0, description="Another seed is other sequences.")
    epoch: int = Field(5000, ge=1, description="Batches of what is called an epoch.")


class Kept(Section):
    """Sequences that stay: a set of the catalogue, or a file."""

    set: str = Field(description="Name of a set, or path of an .npy file (time, sequence, y, x).")
    first: int | None = Field(None, ge=1, description="Take the first so many; all, if none.")


class Footage(Section):
    """Windows of the drives of a camera, from a store that `t4c ingest-video` fills."""

    data: str = Field(description="Entry of the data catalogue, a set of videos.")
    root: Path = Field(description="The set's folder.")
    store: Path = Field(description="Where its cut frames are kept.")
    split: Literal["training", "validation", "test"] = Field(description="Which drives.")
    horizon: int = Field(1, ge=1, description="Frames to say.")
    stride: int = Field(1, ge=1, description="Frames from one window's start to the next.")
    first: int | None = Field(None, ge=1, description="Take the first so many; all, if none.")
    mirror: bool = Field(False, description="Training: mirror half of them, left to right.")
    seed: int = Field(0, ge=0, description="Training: another seed is another order.")
    epoch: int = Field(1000, ge=1, description="Training: batches of what is called an epoch.")

    @property
    def set(self) -> str:
        """What they are called in a table."""
        return f"{self.data} {self.split}"


def _kind(value: Any) -> str:
    video = "data" in value if isinstance(value, dict) else isinstance(value, Footage)
    return "video" if video else "digits"


Learned = Annotated[
    Annotated[Drawn, Tag("digits")] | Annotated[Footage, Tag("video")], Discriminator(_kind)
]
Scored = Annotated[
    Annotated[Kept, Tag("digits")] | Annotated[Footage, Tag("video")], Discriminator(_kind)
]
