"""How a release names its files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from string import Formatter
from typing import Literal

Split = Literal["training", "validation", "test"]
SPLITS: tuple[Split, ...] = ("training", "validation", "test")


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a release keeps its files: patterns relative to its root.

    `{city}` is a city's name, `{city_lower}` and `{city_upper}` the same in one case, `{day}` the
    day.

    Attributes:
        day_format: How `{day}` is written, in `strftime` letters.
        training: Day files to learn from.
        validation: Day files to choose by.
        test: Test days.
        submission: Members of a submission.
        test_kind: *blanked* test days are whole days, zero but for the input blocks.
    """

    day_format: str = "%Y%m%d"
    training: str = "{city}/{city}_training/{day}_100m_bins.h5"
    validation: str = "{city}/{city}_validation/{day}_100m_bins.h5"
    test: str = "{city}/{city}_test/{day}_100m_bins.h5"
    submission: str = "{city}/{city}_test/{day}_100m_bins.h5"
    test_kind: Literal["blanked"] = "blanked"

    def __post_init__(self) -> None:
        for pattern in (self.training, self.validation, self.test, self.submission):
            try:
                named = [name for _, name, _, _ in Formatter().parse(pattern) if name is not None]
            except ValueError:
                named = []
            if set(named) - {"city", "city_lower", "city_upper", "day"} or named.count("day") != 1:
                raise ValueError(f"pattern {pattern!r}, expected {{city}} and one {{day}}")
            folder = PurePosixPath(pattern).parent
            if (
                PurePosixPath(pattern).is_absolute()
                or ".." in folder.parts
                or "{day}" in str(folder)
            ):
                raise ValueError(f"pattern {pattern!r}, expected {{day}} in a file's name below")

    def path(self, kind: Split | Literal["submission"], city: str, day: str) -> str:
        """Return where a day's file of some kind is, relative to its root."""
        pattern: str = getattr(self, kind)
        return pattern.format(city=city, city_lower=city.lower(), city_upper=city.upper(), day=day)
