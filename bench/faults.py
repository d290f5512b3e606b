"""Bring about every fault of the table in docs/faults.md on a tiny city, and print the table.

    python bench/faults.py [--row NAME ...] [--no-server]

Each row starts from the same release of two cities. `shown` is what a person sees; `lost` compares
what is there in the end, byte by byte, with a calm run (of a training: the model's file,
and the steps that were done twice); `seconds` is how long the run took that made it good again.
Rows of flows and workers start a Prefect server of their own on loopback (`faults_served.py`).
Exits 1 if anything was lost.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from faults_served import SERVED, served
from faults_stage import Row, Stage
from faults_training import promotion_killed, training_stopped

WHILE_READ = """
from pathlib import Path
from nights_faults import while_read
path = Path({path!r})
def act():
    {act}
while_read(path, act)
"""
CLOCK = """
import pipeline.atomic, time
from nights_faults import Clock
pipeline.atomic.time = Clock(time.time() + {days} * 86400)
"""


def ingest_killed(stage: Stage, number: signal.Signals) -> Row:
    act = f"import os; os.kill(os.getpid(), {int(number)})"
    said = stage.t4c("ingest", spoil=WHILE_READ.format(path=str(stage.source()), act=act))
    return stage.good_again(f"{number.name} of `t4c ingest` in mid-day", said.shown(Path()))


def source_replaced(stage: Stage) -> Row:
    path = stage.source()
    act = "new = path.with_suffix('.new'); new.write_bytes(path.read_bytes()); new.replace(path)"
    said = stage.t4c("ingest", spoil=WHILE_READ.format(path=str(path), act=act))
    shown = said.shown(stage.world.root)
    return stage.good_again("source file replaced while it is read", shown, "run again: read anew")


def source_gone(stage: Stage) -> Row:
    path = stage.source()
    data = path.read_bytes()
    said = stage.t4c("ingest", spoil=WHILE_READ.format(path=str(path), act="path.unlink()"))
    path.write_bytes(data)
    shown = said.shown(stage.world.root)
    return stage.good_again("source file taken away while it is read", shown, "put back, run again")


def disk(stage: Stage, fault: str, size: str, options: str, mended: str, how: str) -> Row:
    """A store on a small disk of its own."""
    store = stage.world.root / "store"
    store.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size},{options}", "tmpfs", str(store)]
    if subprocess.run(mount, capture_output=True).returncode:
        return Row(fault, "not tried: this process may not mount a disk", "", "", 0.0)
    try:
        shown = stage.t4c("ingest").shown(stage.world.root)
        subprocess.run(["mount", "-o", f"remount,{mended}", store], check=True)
        return stage.good_again(fault, shown, how)
    finally:
        subprocess.run(["umount", store], check=True)


def disk_full(stage: Stage) -> Row:
    return disk(stage, "disk full", "60k", "rw", "size=8m", "room made, run again")


def disk_read_only(stage: Stage) -> Row:
    return disk(stage, "output read-only", "8m", "ro", "rw", "made writable, run again")


def two_at_once(stage: Stage) -> Row:
    flag = stage.world.root / "reading"
    act = f"import time; Path({str(flag)!r}).touch(); time.sleep(60)"
    first = stage.start("ingest", spoil=WHILE_READ.format(path=str(stage.source()), act=act))
    while not flag.exists() and first.poll() is None:
        time.sleep(0.05)
    shown = stage.t4c("ingest", "--set", "cities=[Aal]").shown(stage.world.root)
    first.kill()
    first.communicate()
    flag.unlink()
    return stage.good_again("two runs at once", shown, "the first was killed then; run again")


def clock_jump(stage: Stage) -> Row:
    """Half the days by a clock 400 days ahead, the rest by one 400 days behind."""
    ahead = stage.t4c("ingest", "--set", "cities=[Aal]", spoil=CLOCK.format(days=400))
    for path in (stage.world.root / "release").rglob("*.h5"):
        os.utime(path, (4e9, 4e9))
    behind = stage.t4c("ingest", spoil=CLOCK.format(days=-400))
    shown = " / ".join(f"exit {said.code}" for said in (ahead, behind))
    fault = "clock jumps by ±400 days, and the sources' times (played: the pipeline's own clock)"
    return stage.good_again(fault, shown, "nothing to mend: contents decide, not times")


ROWS: dict[str, Callable[[Stage], Row]] = {
    "ingest-kill": lambda stage: ingest_killed(stage, signal.SIGKILL),
    "ingest-term": lambda stage: ingest_killed(stage, signal.SIGTERM),
    "source-replaced": source_replaced,
    "source-gone": source_gone,
    "disk-full": disk_full,
    "disk-read-only": disk_read_only,
    "two-at-once": two_at_once,
    "clock-jump": clock_jump,
    "train-kill": lambda stage: training_stopped(stage, signal.SIGKILL),
    "train-term": lambda stage: training_stopped(stage, signal.SIGTERM),
    "promote-kill": promotion_killed,
}


def table(rows: list[Row]) -> str:
    lines = ["| fault | shown | lost | made good | seconds |", "|---|---|---|---|---|"]
    for row in rows:
        cells = (row.fault, row.shown, row.lost, row.recovered, f"{row.seconds:.1f}")
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--row", action="append", choices=[*ROWS, *SERVED])
    parser.add_argument("--no-server", action="store_true")
    options = parser.parse_args()
    chosen = options.row or [*ROWS, *([] if options.no_server else SERVED)]
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="faults-") as name:
        stage = Stage.build(Path(name))
        for key in chosen:
            if key in ROWS:
                rows.append(ROWS[key](stage))
                clean(stage)
                print(rows[-1], file=sys.stderr, flush=True)
        if wanted := [key for key in chosen if key in SERVED]:
            rows += served(stage, wanted)
    print(table(rows))
    sys.exit(0 if all(row.lost.startswith("nothing") or not row.lost for row in rows) else 1)


def clean(stage: Stage) -> None:
    for name in ("store", "out"):
        shutil.rmtree(stage.world.root / name, ignore_errors=True)


if __name__ == "__main__":
    main()
