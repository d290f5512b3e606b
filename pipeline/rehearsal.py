"""A private test cut from days whose future is known, in the format of the edition.

The rehearsal is a release of its own: its test files, the table of their slots, links to the
other days and to the static maps. The days that were cut are not among them, so nothing of the
test can be learned. Apart from it lies the truth.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.atomic import write_json
from pipeline.catalog import day_path
from pipeline.editions import City, Edition, Slot, Split
from pipeline.errors import CatalogError, StoreError
from pipeline.store import Store
from pipeline.synthetic.seeds import generator
from pipeline.test_sets import TestFile, draw_slots, missing_files, plan_tests, write_test_file
from pipeline.test_slots import table_slots, write_slot_table

RECORD = "rehearsal.json"
"""What a rehearsal was cut from; stands at its root."""


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What was cut.

    Attributes:
        release: Root of the new release.
        truth: Root of the truth.
        days: The days that were cut, by city.
        written: Files of tests and truth that were written.
        linked: Files of the old release that the new one links to.
    """

    release: Path
    truth: Path
    days: dict[str, list[str]]
    written: tuple[Path, ...]
    linked: int


def cut_rehearsal(
    stores: Sequence[Store],
    source: Path,
    into: Path,
    *,
    split: Split,
    days: int,
    seed: int,
    gzip: int = 4,
    progress: Callable[[str], None] | None = None,
) -> Rehearsal:
    """Cut a private test set; files that are there and whole are left alone.

    Args:
        stores: The cities, ingested; those without tests are linked as they are.
        source: Root of their release, for its static maps.
        into: A new folder, or one of the same rehearsal.
        split: Whose days are cut.
        days: How many of each city.
        seed: Which of them, and where.
        gzip: Compression level.
        progress: Told each test file before it is cut.

    Raises:
        CatalogError: The edition has no tests, or `into` holds something else.
        StoreError: A city has too few such days.
    """
    edition = stores[0].edition
    if edition.layout.test is None:
        raise CatalogError(f"{edition.name}: has no tests to rehearse")
    release, truth = into / "release", into / "truth"
    tested = [store for store in stores if store.city.tested]
    if not tested:
        raise CatalogError(f"{edition.name}: no tests of {[store.city.name for store in stores]}")
    chosen = _choose(tested, split, days, seed)
    facts = {"edition": edition.name, "frame": list(edition.frame_shape), "seed": seed}
    _claim(into, {**facts, "split": split, "days": chosen, "gzip": gzip})
    table: Mapping[str, tuple[Slot, ...]] = {}
    if edition.layout.slots is not None:
        table = draw_slots(edition, next(iter(chosen.values())), generator(seed, "slots"))
        firsts = {day: [slot.first for slot in slots] for day, slots in table.items()}
        write_slot_table(release / edition.layout.slots, edition, firsts)
    written: list[Path] = []
    linked = 0
    for store in stores:
        linked += _link(store, source, release, chosen.get(store.city.name, ()))
        if not store.city.tested:
            continue
        slots = table or _slots(edition, store.city, chosen[store.city.name], seed)
        for test in plan_tests(edition, store.city, slots, release, truth):
            if missing := missing_files(edition, test):
                if progress is not None:
                    progress(_name(test))
                write_test_file(edition, test, store.read, gzip=gzip)
                written += missing
    return Rehearsal(release, truth, chosen, tuple(written), linked)


def _choose(stores: Sequence[Store], split: Split, days: int, seed: int) -> dict[str, list[str]]:
    """Return the days to cut of each city; the same ones where one table tells the slots of all."""
    pools = {store.city.name: store.days(split) for store in stores}
    if stores[0].edition.layout.slots is not None:
        shared = [day for day in stores[0].days(split) if all(day in p for p in pools.values())]
        pools = dict.fromkeys(pools, shared)
    chosen = {}
    for city, pool in pools.items():
        if len(pool) < days:
            raise StoreError(
                f"{stores[0].root}: {city} has {len(pool)} {split} days to cut, expected {days}"
            )
        name = "" if stores[0].edition.layout.slots is not None else city
        order = generator(seed, name, "rehearsal").permutation(len(pool))[:days]
        chosen[city] = [pool[place] for place in sorted(order)]
    return chosen


def _slots(
    edition: Edition, city: City, days: Sequence[str], seed: int
) -> Mapping[str, tuple[Slot, ...]]:
    if edition.layout.test_kind == "blanked":
        return {day: table_slots(edition, city, day) for day in days}
    return draw_slots(edition, days, generator(seed, city.name, "slots"))


def _link(store: Store, source: Path, release: Path, cut: Sequence[str]) -> int:
    """Link the days that were not cut, and the static maps, into the new release."""
    count = 0
    for target, link in _links(store, source, release, cut):
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.is_symlink() or link.resolve() != target.resolve():
            link.unlink(missing_ok=True)
            link.symlink_to(target.resolve())
        count += 1
    return count


def _links(
    store: Store, source: Path, release: Path, cut: Sequence[str]
) -> Iterator[tuple[Path, Path]]:
    edition, city, layout = store.edition, store.city, store.edition.layout
    for stored in store.manifest.days:
        if stored.split != "test" and stored.day not in cut:
            yield (
                Path(stored.source),
                day_path(release, edition, city, stored.split, stored.day),
            )
    if layout.static is not None:
        name = layout.path("static", city.name)
        yield from [(source / name, release / name)] if (source / name).is_file() else []
    if layout.high_res is not None:
        name = layout.path("high_res", city.name)
        yield from [(source / name, release / name)] if (source / name).is_file() else []


def _claim(into: Path, facts: dict[str, object]) -> None:
    record = into / RECORD
    if record.is_file():
        found = json.loads(record.read_text(encoding="utf-8"))
        if other := [key for key in {**found, **facts} if found.get(key) != facts.get(key)]:
            raise CatalogError(
                f"{record}: another {', '.join(other)} than now; expected the same or a new folder"
            )
        return
    if into.exists() and any(not _of_a_run(path) for path in into.iterdir()):
        raise CatalogError(f"{into}: holds other files; expected a new folder")
    write_json(record, facts)


def _of_a_run(path: Path) -> bool:
    """Return whether a file is a lock, or what a killed run left of the record half-written."""
    return path.name.startswith(".") or path.suffix == ".partial"


def _name(test: TestFile) -> str:
    return f"{test.city.name} {test.day}"
