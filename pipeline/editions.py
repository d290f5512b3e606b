"""What a data set fixes once for all its days: grid, channels, cities, slots, scale. No I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from itertools import combinations
from typing import Annotated, Literal

from pydantic import Field

from pipeline.cities import City, Days, Natural, Slot, Streets, check_zone
from pipeline.release_layout import SPLITS, UNDATED_TEST, Layout, Split

__all__ = ["SPLITS", "UNDATED_TEST", "City", "Days", "Edition", "Layout", "Slot", "Split"]
MINUTES_PER_DAY = 24 * 60
LOCAL = "local"
"""Time zone of an edition whose files keep each city's own clock."""

Positive = Annotated[int, Field(gt=0)]


@dataclass(frozen=True, slots=True)
class Edition:
    """A competition year, or a city of one's own.

    Attributes:
        name: Key in the catalogue.
        title: What a person calls it.
        height: Rows of the grid.
        width: Columns of the grid.
        channels: Channel names, in the order of the files.
        cities: Its cities, in the order of the leaderboard.
        bin_minutes: Length of a frame.
        time_zone: Zone of the files' clock: frame 0 starts at its midnight; `local` is each city's.
        leads: Frames to forecast, counted from the first one after the history.
        test_history: Frames that a test day gives before each slot.
        slots_per_test: Slots of each test file of the kind *windows*.
        undated_week: Monday of the week that stands for their days, of which only the weekday is
            told.
        scored_channels: Channels that a forecast holds: the first so many.
        score_scale: Bytes are divided by it before errors are squared.
        score_by: Whether a city's score is the mean over its files, or over its slots.
        static_layers: Layers of a static map, in their order.
        headings: Meaning of the codes in a channel named `heading`.
        layout: Where the files are.
        splits: Days of each split, for a city of one's own; a release's folders say it themselves.
        streets: Where street lines are, if there are any.
        terms: Who owns the data and what may be done with it.
    """

    name: str
    title: str
    height: Positive
    width: Positive
    channels: Annotated[tuple[str, ...], Field(min_length=1)]
    cities: Annotated[tuple[City, ...], Field(min_length=1)]
    kind: Literal["traffic"] = "traffic"
    bin_minutes: Positive = 5
    time_zone: str = "UTC"
    leads: Annotated[tuple[Natural, ...], Field(min_length=1)] = (0, 1, 2)
    test_history: Positive = 12
    slots_per_test: Positive | None = None
    undated_week: date | None = None
    scored_channels: Positive | None = None
    score_scale: Annotated[float, Field(gt=0)] = 255.0
    score_by: Literal["file", "slot"] = "file"
    static_layers: tuple[str, ...] = ()
    headings: dict[int, str] = field(default_factory=dict)
    layout: Layout = field(default_factory=Layout)
    splits: dict[Split, Days] = field(default_factory=dict)
    streets: Streets | None = None
    terms: str = ""

    def __post_init__(self) -> None:
        if MINUTES_PER_DAY % self.bin_minutes:
            raise ValueError(f"{self.bin_minutes}-minute bins do not fill a day")
        if list(self.leads) != sorted(set(self.leads)):
            raise ValueError(f"leads {self.leads} are not in rising order")
        if (self.scored_channels or 1) > len(self.channels):
            raise ValueError(f"{self.scored_channels} scored channels of {len(self.channels)}")
        if self.time_zone != LOCAL:
            check_zone(self.time_zone)
        self._check_tests()
        for one, other in combinations(self.splits, 2):
            if self.splits[one].meets(self.splits[other]):
                raise ValueError(f"splits {one} and {other} share days")
        names = [city.name for city in self.cities]
        if len(set(names)) < len(names):
            raise ValueError(f"a city is given twice: {names}")
        for city in self.cities:
            for slot in {slot for slots in all_slots(city) for slot in slots}:
                if not self.test_history <= slot < self.frames_per_day - self.leads[-1]:
                    raise ValueError(
                        f"{city.name}: slot {slot} leaves no room in a day of "
                        f"{self.frames_per_day} frames for {self.test_history} before it "
                        f"and {self.leads[-1] + 1} after"
                    )

    def _check_tests(self) -> None:
        undated = self.layout.test_kind == "windows"
        if undated != (self.slots_per_test is not None) or undated != (
            self.undated_week is not None
        ):
            raise ValueError("slots_per_test and undated_week belong to test_kind 'windows'")
        if self.undated_week is not None and self.undated_week.weekday():
            raise ValueError(f"undated_week: {self.undated_week} is no Monday")
        if self.layout.training == self.layout.validation and "validation" not in self.splits:
            raise ValueError(
                "training and validation days are in one folder: splits.validation must tell them "
                "apart"
            )

    @property
    def frames_per_day(self) -> int:
        """Frames of a day: 288 bins of five minutes."""
        return MINUTES_PER_DAY // self.bin_minutes

    @property
    def frame_shape(self) -> tuple[int, int, int]:
        """`(H, W, C)` of one frame."""
        return self.height, self.width, len(self.channels)

    @property
    def day_shape(self) -> tuple[int, int, int, int]:
        """`(T, H, W, C)` of a day file."""
        return self.frames_per_day, *self.frame_shape

    @property
    def forecast_channels(self) -> int:
        """Channels of a forecast."""
        return self.scored_channels or len(self.channels)

    @property
    def reach(self) -> int:
        """Frames from the first that a test gives to the last that is asked for."""
        return self.test_history + self.leads[-1] + 1

    def clock(self, city: City) -> str:
        """Return the zone of a city's files."""
        return (city.time_zone or "UTC") if self.time_zone == LOCAL else self.time_zone

    def slots(self, city: City, day: str) -> tuple[int, ...]:
        """Return the first frame to forecast of each block of a test day."""
        return city.slots_by_day.get(day, city.test_slots)

    def slot_count(self, city: City, day: str = "") -> int:
        """Return how many slots a test file has."""
        return self.slots_per_test or len(self.slots(city, day))

    def test_shape(self, city: City, day: str) -> tuple[int, ...]:
        """Shape of a test file: a day, or `(S, T, H, W, C)` of the input hours alone."""
        if self.layout.test_kind == "blanked":
            return self.day_shape
        return self.slot_count(city, day), self.test_history, *self.frame_shape

    def forecast_shape(self, city: City, day: str = "") -> tuple[int, int, int, int, int]:
        """`(S, L, H, W, C)` of a submission file: slots, leads, grid, scored channels."""
        size = (self.height, self.width, self.forecast_channels)
        return self.slot_count(city, day), len(self.leads), *size

    def split_of(self, day: str) -> Split:
        """Return the split of a day that training and validation share a folder for."""
        return "validation" if self.day_of(day) in self.splits["validation"] else "training"

    def weekday(self, number: int) -> str:
        """Return the day, as a release would write it, that stands for a weekday; Monday is 0."""
        if self.undated_week is None:
            raise ValueError(f"{self.name} dates its test slots")
        return self.written(self.undated_week + timedelta(days=number))

    def order(self, day: str) -> tuple[date, str]:
        """Return what puts days in the order of the calendar, test files of no day last."""
        return (date.max, day) if day == UNDATED_TEST else (self.day_of(day), day)

    def city(self, name: str) -> City:
        """Return the city of that name.

        Raises:
            KeyError: There is none; the message lists those there are.
        """
        for city in self.cities:
            if city.name == name:
                return city
        raise KeyError(f"{self.name} has no city {name!r}: {[city.name for city in self.cities]}")

    def written(self, day: date) -> str:
        """Return a calendar day as the release writes it."""
        return day.strftime(self.layout.day_format)

    def day_of(self, day: str) -> date:
        """Return the calendar day that a file name's `{day}` stands for.

        Raises:
            ValueError: It is not written exactly as `layout.day_format` says.
        """
        found = datetime.strptime(day, self.layout.day_format).date()
        if found.strftime(self.layout.day_format) != day:
            raise ValueError(f"{day!r} is not how {self.layout.day_format} writes {found}")
        return found


def all_slots(city: City) -> list[tuple[int, ...]]:
    """Return the slots of every kind of test day of a city."""
    return [city.test_slots, *city.slots_by_day.values()]
