"""How a release names its files, and what kind of test it sets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from string import Formatter
from typing import Literal

Split = Literal["training", "validation", "test"]
SPLITS: tuple[Split, ...] = ("training", "validation", "test")
Dated = Split | Literal["submission"]
Undated = Literal["additional", "static", "high_res"]
UNDATED_TEST = "test"
"""What stands for the day of a test file that is not of one day."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a release keeps its files: patterns relative to its root.

    `{city}` is a city's name, `{city_lower}` and `{city_upper}` the same in one case, `{day}` the
    day.

    Attributes:
        day_format: How `{day}` is written, in `strftime` letters.
        training: Day files to learn from.
        validation: Day files to choose by. The same pattern as of training says that the release
            does not tell the two apart: then `Edition.splits` does.
        test: Test files; `None` if there are none.
        submission: Members of a submission; `None` if there are none.
        test_kind: *blanked* test days are whole days, zero but for the input blocks (2019);
            *blocks* hold the input hours alone `(S, T, H, W, C)`, a file a day, whose slots a
            table tells (2020); *windows* are one such file a city, of slots whose weekday and
            first frame another file tells (2021).
        slots: The table of the slots of *blocks*, JSON.
        additional: Of *windows*, weekday and first frame of each input hour, `(S, 2)`.
        static: Static map of a city.
        high_res: Its street map, ten times as fine.
        chunks: How this project packs its own files of the release: as h5py proposes, or a row of
            the first axis a chunk.
        submission_mib: Most MiB that a submission may weigh.
    """

    day_format: str = "%Y%m%d"
    training: str = "{city}/{city}_training/{day}_100m_bins.h5"
    validation: str = "{city}/{city}_validation/{day}_100m_bins.h5"
    test: str | None = "{city}/{city}_test/{day}_100m_bins.h5"
    submission: str | None = "{city}/{city}_test/{day}_100m_bins.h5"
    test_kind: Literal["blanked", "blocks", "windows"] = "blanked"
    slots: str | None = None
    additional: str | None = None
    static: str | None = None
    high_res: str | None = None
    chunks: Literal["auto", "row"] = "auto"
    submission_mib: int | None = None

    def __post_init__(self) -> None:
        tests = 0 if self.test_kind == "windows" else 1
        for pattern, days in (
            *((pattern, 1) for pattern in (self.training, self.validation)),
            *((pattern, tests) for pattern in (self.test, self.submission)),
            *((pattern, 0) for pattern in (self.additional, self.static, self.high_res)),
            (self.slots, 0),
        ):
            if pattern is not None:
                _check(pattern, days)
        if (self.slots is not None) != (self.test_kind == "blocks"):
            raise ValueError(f"slots {self.slots!r}: a table belongs to test_kind 'blocks'")
        if (self.additional is not None) != (self.test_kind == "windows"):
            raise ValueError(f"additional {self.additional!r}: belongs to test_kind 'windows'")
        if (self.test is None) != (self.submission is None):
            raise ValueError("test and submission: both or neither")

    def path(self, kind: Dated | Undated, city: str, day: str = "") -> str:
        """Return where a file of some kind is, relative to its root.

        Raises:
            ValueError: The layout has no files of that kind.
        """
        pattern: str | None = getattr(self, kind)
        if pattern is None:
            raise ValueError(f"the layout has no {kind} files")
        return pattern.format(city=city, city_lower=city.lower(), city_upper=city.upper(), day=day)


def _check(pattern: str, days: int) -> None:
    """Refuse a pattern that is none, or names a day more or less often than it must."""
    try:
        named = [name for _, name, _, _ in Formatter().parse(pattern) if name is not None]
    except ValueError:
        named = []
        days = -1
    if set(named) - {"city", "city_lower", "city_upper", "day"} or named.count("day") != days:
        wanted = "{city} and one {day}" if days else "{city} and no {day}"
        raise ValueError(f"pattern {pattern!r}, expected {wanted}")
    folder = PurePosixPath(pattern).parent
    if PurePosixPath(pattern).is_absolute() or ".." in folder.parts or "{day}" in str(folder):
        raise ValueError(f"pattern {pattern!r}, expected {{day}} in a file's name below")
