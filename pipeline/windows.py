"""Where to cut: integers only, no arrays, no files.

    start                split
      | history           | leads 0, 1, 2, ...
      v                   v
  ----[ . . . . . . . . . | . . . ]----------  frames of one day

A window never leaves its day, and days are never shared between splits, so nothing of a
validation or test day can leak into training.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import overload

from pipeline.editions import City, Edition
from pipeline.errors import WindowError

HISTORY = 9


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """A stretch of one city's day: history, then future.

    Attributes:
        city: City name.
        day: Day as the release writes it, e.g. `"20180102"`.
        start: First history frame, a bin counted from midnight on the edition's clock.
        history: Frames a model sees.
        leads: Frames it forecasts, counted from the first one after the history.
    """

    city: str
    day: str
    start: int
    history: int = HISTORY
    leads: tuple[int, ...] = (0, 1, 2)

    @property
    def split(self) -> int:
        """First frame after the history."""
        return self.start + self.history

    @property
    def stop(self) -> int:
        """One past the last frame that is forecast."""
        return self.split + self.leads[-1] + 1

    @property
    def future(self) -> tuple[int, ...]:
        """The frames that are forecast, counted from midnight."""
        return tuple(self.split + lead for lead in self.leads)


@dataclass(frozen=True, slots=True)
class Cut:
    """How windows are cut from a day.

    Attributes:
        frames: Frames of a day.
        history: Frames a model sees.
        leads: Frames it forecasts, counted from the first one after the history.
        stride: Frames from one window's start to the next.
    """

    frames: int
    history: int = HISTORY
    leads: tuple[int, ...] = (0, 1, 2)
    stride: int = 1

    def __post_init__(self) -> None:
        if self.history < 1 or self.stride < 1 or not self.leads or self.leads[0] < 0:
            raise WindowError(f"{self}: history and stride are at least 1, leads at least 0")
        if list(self.leads) != sorted(set(self.leads)):
            raise WindowError(f"leads {self.leads} are not in rising order")
        if self.length > self.frames:
            raise WindowError(
                f"a window of {self.history} frames and leads {self.leads} is {self.length} "
                f"frames long, a day {self.frames}"
            )

    @property
    def length(self) -> int:
        """Frames from the first of the history to the last lead."""
        return self.history + self.leads[-1] + 1

    @property
    def per_day(self) -> int:
        """Windows that fit into a day."""
        return (self.frames - self.length) // self.stride + 1


@dataclass(frozen=True, slots=True)
class WindowPlan(Sequence[Window]):
    """All windows of some days, each at its index for ever; computed, not stored.

    Attributes:
        city: City name.
        days: Days, in the order they are cut.
        cut: How each is cut.
    """

    city: str
    days: tuple[str, ...]
    cut: Cut

    def __len__(self) -> int:
        return len(self.days) * self.cut.per_day

    @overload
    def __getitem__(self, index: int) -> Window: ...
    @overload
    def __getitem__(self, index: slice) -> list[Window]: ...
    def __getitem__(self, index: int | slice) -> Window | list[Window]:
        """Return a window, or a list of them."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        at = index + len(self) if index < 0 else index
        if not 0 <= at < len(self):
            raise IndexError(f"window {index} of {len(self)}")
        day, place = divmod(at, self.cut.per_day)
        start = place * self.cut.stride
        return Window(self.city, self.days[day], start, self.cut.history, self.cut.leads)

    def __iter__(self) -> Iterator[Window]:
        return (self[index] for index in range(len(self)))


def slot_windows(edition: Edition, city: City, day: str, *, history: int = HISTORY) -> list[Window]:
    """Return one window per test slot of a day, in the order of the leaderboard.

    Raises:
        WindowError: A test day does not give so much history.
    """
    check_history(edition, history)
    return [
        Window(city.name, day, slot - history, history, edition.leads)
        for slot in edition.slots(city, day)
    ]


def check_history(edition: Edition, history: int) -> None:
    """Refuse a history longer than a test day gives.

    Raises:
        WindowError: It is.
    """
    if not 1 <= history <= edition.test_history:
        raise WindowError(
            f"history of {history} frames, but a test day of {edition.name} gives "
            f"{edition.test_history} before each slot"
        )
