"""Simulate nights of a deployment that goes wrong at random, and see that nothing is lost.

    python bench/nights.py [--nights 200] [--seed 0] [--folder DIR]

Every night a day of a tiny city arrives, and one of another; then `ingest` and `submit` run as a
schedule would run them, in a process of their own. At random (by the seed) that process is killed
(before its n-th file operation, or after a random time), the new day is truncated, or replaced or
taken away while it is read, the disk is full or read-only, two runs start at once, or the clock is
off by more than a year. A run that fails is run again, up to three times, but for nights on which
nobody does. What must hold, is looked at after every attempt and after every night; see `Ledger` in
`nights_ledger.py`.

The disk is a tmpfs of its own where the process may mount one (then it is really full, really
read-only); else a full disk is a limit on the size of files, and a read-only one is played. The
clock is what `pipeline.atomic` asks and what the files of the release bear. Prints one JSON object;
exits 1 with what was found wrong, if anything was.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from nights_faults import FAULTS, nothing
from nights_ledger import Ledger, files_of, sha256
from nights_runs import Ending, Tally, attempt, ended, one_attempt
from nights_world import FIRST_DAY, KNOWN_DAYS, World


def one_night(
    world: World, number: int, rng: random.Random, ledger: Ledger, tally: Tally, usual: Ending
) -> tuple[Ending, bool]:
    """A night and its faults; returns its last ending, and whether anybody ran it to the end."""
    world.clock = datetime.combine(FIRST_DAY, datetime.min.time()).timestamp()
    world.clock += (number + 1) * 86400.0 + 9000.0
    for path, data in list(world.truncated.items()):  # what came truncated comes whole
        path.write_bytes(data)
        os.utime(path, (world.clock, world.clock))
        del world.truncated[path]
    split = "test" if number % 25 == 24 else "validation" if number % 10 == 9 else "training"
    fault = rng.choice(FAULTS) if rng.random() < 0.7 else "none"
    if fault == "clock jump":
        world.clock += rng.choice([-400, 400]) * 86400.0
    if split == "test" and fault == "source gone while read":
        fault = "source replaced while read"  # without the test day it is another release
    world.nights = number
    arrived = world.arrive(number, split)
    persists = rng.random() < 0.15  # nobody runs it again tonight
    ending = Ending(False, [])
    for tries in range(4):
        fault = fault if tries < 3 else "none"
        ending = one_attempt(world, fault, arrived, rng, usual, tally, tries)
        ledger.after_attempt()
        waits = fault == "source truncated" and not ending.killed
        if not (ending.killed or ending.faults) or waits:
            break
        if persists:
            return ending, False
        others = [f for f in FAULTS if f not in {"source truncated", "source gone while read"}]
        fault = rng.choice(others) if rng.random() < 0.4 else "none"
    ledger.after_night()
    return ending, True


def undisturbed(world: World) -> None:
    """The same release, ingested in one calm run into a new store, gives the same files."""
    before = {p.relative_to(world.root): sha256(p) for p in files_of(world.root / "store")}
    zip_before = sha256(world.config.out / world.config.submit.file)
    for name in ("store", "out"):
        (world.root / name).rename(world.root / f"{name}.nights")
    ending = ended(world, attempt(world, nothing))
    assert not ending.faults, ending.faults
    after = {p.relative_to(world.root): sha256(p) for p in files_of(world.root / "store")}
    assert before == after, sorted(n for n in before | after if before.get(n) != after.get(n))
    assert zip_before == sha256(world.config.out / world.config.submit.file), "another submission"


def simulate(root: Path, nights: int, seed: int, *, mounted: bool = False) -> dict[str, object]:
    """Run so many nights in an empty folder; raises AssertionError at the first thing amiss."""
    world, rng = World(root, mounted), random.Random(seed)
    world.build()
    ledger, tally = Ledger(world), Tally()
    usual = ended(world, attempt(world, nothing))
    assert not usual.faults, usual.faults
    ledger.after_attempt()
    ledger.after_night()
    first_out, left_alone, began = ledger.most_out, 0, time.monotonic()
    for number in range(KNOWN_DAYS, KNOWN_DAYS + nights):
        try:
            ending, whole = one_night(world, number, rng, ledger, tally, usual)
        except BaseException as fault:
            fault.add_note(f"in night {number}, after {tally.last}")
            raise
        if number % 20 == 0:
            print(f"night {number}", file=sys.stderr, flush=True)
        left_alone += not whole
        if whole and ending.operations:
            usual = ending
    for path, data in list(world.truncated.items()):
        path.write_bytes(data)
        del world.truncated[path]
    ending = ended(world, attempt(world, nothing))
    assert not ending.faults, ending.faults
    ledger.after_attempt()
    ledger.after_night()
    undisturbed(world)
    return {
        "nights": nights,
        "seed": seed,
        "disk": "a tmpfs of its own" if mounted else "limits played",
        "days": len(ledger.files),
        "attempts": sum(tally.attempts.values()),
        "nights_left_alone": left_alone,
        "faults": {
            fault: {
                "attempts": tally.attempts[fault],
                "killed": tally.killed[fault],
                "named_error": tally.named[fault],
                "well": tally.well[fault],
            }
            for fault in ("none", *FAULTS)
        },
        "said": {fault: said.replace(str(root), "") for fault, said in tally.said.items()},
        "out_bytes_first": first_out,
        "out_bytes_most": ledger.most_out,
        "seconds": round(time.monotonic() - began, 1),
        "lost": 0,
    }


@contextmanager
def own_disk(folder: Path) -> Iterator[bool]:
    """Mount a tmpfs on a folder, if that may be done."""
    command = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", folder]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        yield False
        return
    try:
        yield True
    finally:
        subprocess.run(["umount", folder], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nights", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="Where to keep what is made; else thrown away.")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the disk is given back
    if options.folder:
        options.folder.mkdir(parents=True)
        print(json.dumps(simulate(options.folder, options.nights, options.seed), indent=1))
        return
    with tempfile.TemporaryDirectory() as name, own_disk(Path(name)) as mounted:
        found = simulate(Path(name), options.nights, options.seed, mounted=mounted)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
