"""The record of promotions: written before a pointer moves, so that no kill loses one."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flows.recipe import announce
from pipeline.atomic import write_json
from pipeline.errors import ModelError


@dataclass(frozen=True, slots=True)
class Record:
    """What was promoted, when and why, in the order it was: `<pointer>_promotions.json`.

    An entry is there before the pointer moves, with `in_use` false; that becomes true afterwards,
    and so does `announced` in a flow. Networks are named relative to the pointer's folder.

    Attributes:
        path: The file.
    """

    path: Path

    @classmethod
    def beside(cls, link: Path) -> Record:
        """Return the record of a pointer."""
        return cls(link.with_name(f"{link.stem}_promotions.json"))

    def entries(self) -> list[dict[str, Any]]:
        """Return what there is, the oldest first.

        Raises:
            ModelError: The file is no such record.
        """
        if not self.path.is_file():
            return []
        try:
            found = json.loads(self.path.read_text(encoding="utf-8"))
            if not all(isinstance(one["candidate"], str) for one in found):
                raise TypeError("an entry names no candidate")
        except (ValueError, TypeError, KeyError) as fault:
            raise ModelError(f"{self.path}: expected a list of promotions: {fault}") from None
        return list(found)

    def begin(self, model: Path, facts: dict[str, Any]) -> None:
        """Note that a network is about to be put in use; an entry of its own that never was goes.

        Args:
            model: Its file.
            facts: Plain values: why.
        """
        name = self._name(model)
        rest = [one for one in self.entries() if one["candidate"] != name or one.get("in_use")]
        now = datetime.now(UTC).isoformat(timespec="seconds")
        entry = facts | {"candidate": name, "at": now, "in_use": False, "announced": False}
        write_json(self.path, [*rest, entry])

    def finish(self, model: Path, run: str) -> None:
        """Note that a network is in use, and in a flow say so to those who wait; once.

        Args:
            model: Its file; put in use by hand, it may have no entry, and nothing is announced.
            run: Name of the data.
        """
        entries = self.entries()
        mine = [one for one in entries if self._is(one, model)]
        if not mine or (mine[-1].get("in_use") and mine[-1].get("announced")):
            return
        facts = {"model": str(model), "share": mine[-1].get("share")}
        said = announce("model.promoted", run, facts)
        mine[-1] |= {"in_use": True, "announced": bool(mine[-1].get("announced")) or said}
        write_json(self.path, entries)

    def was_in_use(self, model: Path) -> bool:
        """Return whether a network was in use at any time."""
        return any(self._is(one, model) and one.get("in_use") for one in self.entries())

    def last(self, number: int) -> list[Path]:
        """Return the files of those that were promoted last."""
        return [self.path.parent / one["candidate"] for one in self.entries()[-number:]]

    def _name(self, model: Path) -> str:
        return os.path.relpath(model.absolute(), self.path.parent.absolute())

    def _is(self, entry: dict[str, Any], model: Path) -> bool:
        return (self.path.parent / str(entry["candidate"])).resolve() == model.resolve()
