"""Which files a submission must hold, and of which shape."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.editions import UNDATED_TEST, City, Edition
from pipeline.errors import SubmissionError


def member_name(edition: Edition, city: City, day: str) -> str:
    """Return the name of a test day's forecast in a submission."""
    return edition.layout.path("submission", city.name, day)


def listed_days(edition: Edition, city: City) -> list[str] | None:
    """Return the test days of a city where the rules list them; `None` if the release does.

    One undated file each in 2021; the days of the slots' table in 2020.
    """
    kind = edition.layout.test_kind
    if kind == "blanked":
        return None
    if not city.tested:
        return []
    return [UNDATED_TEST] if kind == "windows" else list(city.slots_by_day)


def expected_members(
    edition: Edition, test_days: Mapping[str, list[str]]
) -> dict[str, tuple[int, ...]]:
    """Return the members of a submission and their shapes, from the test days of each city.

    Raises:
        SubmissionError: There is not one test day, or one of a city has no slots.
    """
    members: dict[str, tuple[int, ...]] = {}
    for name, days in test_days.items():
        city = edition.city(name)
        for day in days:
            if not edition.slot_count(city, day):
                raise SubmissionError(f"{edition.name}: {name} has test day {day}, but no slots")
            members[member_name(edition, city, day)] = edition.forecast_shape(city, day)
    if not members:
        table = edition.layout.slots
        hint = f"; {table} of the release tells them, and is not there" if table else ""
        raise SubmissionError(f"{edition.name}: no test days of {sorted(test_days)}{hint}")
    return members
