"""What a run makes of releases: drawn ones, and tests cut out of real ones."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from flows.section import Section

Cells = Annotated[int, Field(ge=8, le=4096)]


class Synth(Section):
    """What `t4c synth` draws."""

    seed: int = Field(0, ge=0, description="Another seed is another city.")
    training: int = Field(8, ge=0, description="Training days.")
    validation: int = Field(2, ge=0, description="Validation days.")
    test: int = Field(2, ge=0, description="Test days, or days that test slots are cut from.")
    first_day: date = Field(date(2018, 1, 1), description="First day of the calendar.")
    gzip: int = Field(4, ge=0, le=9, description="Compression level; releases use 9, slowly.")


class Prepare(Section):
    """What `t4c prepare-test` cuts."""

    into: Path = Field(description="A new folder: release, truth and a configuration of both.")
    seed: int = Field(0, ge=0, description="Another seed chooses other days and slots.")
    split: Literal["training", "validation"] = Field(
        "validation", description="Whose days are cut; the new release has the others."
    )
    days: int = Field(2, ge=1, description="How many days of each city are cut.")
    gzip: int = Field(4, ge=0, le=9, description="Compression level.")
