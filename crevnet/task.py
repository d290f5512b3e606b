"""What a network was trained to do: saved with its weights, checked before it is used."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

import numpy as np

OTHER_FEATURES = 3
"""Features of `crevnet.levels` besides the levels themselves."""
Base = Literal["none", "window_mean", "climatology", "mix"]


@dataclass(frozen=True, slots=True)
class Task:
    """What goes in, what comes out, and what the network's word is added to.

    Attributes:
        leads: Forecast frames, counted from 0 for the next one, in rising order.
        history: Frames that it is given.
        sees: Last frames of them that the network itself sees, all if none is said; the base is
            always made of all. Fewer make every step of a recurrent network cheaper.
        recent: Whether the mean of what it would see of the whole history goes in as well, a plane
            a channel after the other inputs: for a network that sees less.
        scored: First so many channels are what a forecast is judged on; all, if none is said.
        base: What it corrects: nothing, the history's mean, what is usual, or the naive mix.
        scale: What the network sees and says is this many times a frame's difference to the base.
        weights: Of the history's mean in the mix, one row a lead, one column a channel.
        interpolated: Whether what is usual lies on lines between the hours.
        levels: Cells to each side of the boxes whose level is added to the base; see
            `crevnet.levels`.
        level_weights: Of each feature of the level, by lead and channel, `(L, C, F)`.
        inputs: Names of the extra input channels, in order.
        channels: Names of a frame's channels.
        edition: Edition of the data.
        cities: Cities it was trained on.
        grid: Rows and columns, where the network is bound to them.
    """

    leads: tuple[int, ...]
    history: int
    base: Base = "none"
    scale: float = 1.0
    weights: tuple[tuple[float, ...], ...] | None = None
    inputs: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    edition: str = ""
    cities: tuple[str, ...] = ()
    grid: tuple[int, int] | None = None
    sees: int | None = None
    recent: bool = False
    scored: int | None = None
    interpolated: bool = False
    levels: tuple[int, ...] = ()
    level_weights: tuple[tuple[tuple[float, ...], ...], ...] | None = None

    def __post_init__(self) -> None:
        if not self.leads or list(self.leads) != sorted({*self.leads}) or self.leads[0] < 0:
            raise ValueError(f"leads {self.leads}, expected rising from 0")
        if self.history < 1 or not self.scale > 0:
            raise ValueError(f"history {self.history}, scale {self.scale}: expected above 0")
        if self.sees is not None and not 1 <= self.sees <= self.history:
            raise ValueError(f"sees {self.sees} frames of a history of {self.history}")
        if self.base not in get_args(Base):
            raise ValueError(f"base {self.base!r}, expected one of {get_args(Base)}")
        if (self.weights is None) == (self.base == "mix"):
            raise ValueError(f"base {self.base!r} with weights {self.weights}: a mix has them")
        if self.weights is not None:
            shape = {len(row) for row in self.weights}
            wanted = len(self.channels) or min(shape, default=0)
            if len(self.weights) != len(self.leads) or shape != {wanted} or not wanted:
                raise ValueError(
                    f"{len(self.weights)} rows of {sorted(shape)} weights, expected "
                    f"{len(self.leads)} leads of {wanted} channels"
                )

        self._check_levels()

    def _check_levels(self) -> None:
        if (self.level_weights is None) == bool(self.levels):
            raise ValueError(f"levels {self.levels} with weights {self.level_weights}")
        if self.levels and (not self.needs_usual or min(self.levels) < 1):
            raise ValueError(f"levels {self.levels} with base {self.base!r}")
        if self.level_weights is not None:
            shape = np.shape(self.level_weights)
            wanted = (len(self.leads), len(self.channels), OTHER_FEATURES + len(self.levels))
            if shape != wanted:
                raise ValueError(f"level weights of shape {shape}, expected {wanted}")

    @property
    def horizon(self) -> int:
        """Frames up to the last lead."""
        return self.leads[-1] + 1

    @property
    def needs_usual(self) -> bool:
        """Whether it must be told what is usual."""
        return self.base in ("climatology", "mix")

    def to_dict(self) -> dict[str, Any]:
        """Return the same as plain values."""
        return {name: _plain(value) for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> Task:
        """Return a task from plain values.

        Raises:
            TypeError: A key is unknown or missing.
            ValueError: A value is not allowed.
        """
        if unknown := set(value) - {field.name for field in fields(cls)}:
            raise TypeError(f"a task with {sorted(unknown)}, which is unknown")
        return cls(**{name: _frozen(item) for name, item in value.items()})


def _plain(value: Any) -> Any:
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value
