"""What every part of a configuration is."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A part of a configuration; keys it does not know are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)
