"""What the rows of the fault table are played on: a tiny world, and what a calm run makes of it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from nights_world import World

from pipeline.rechunk import sha256

ROOT = Path(__file__).resolve().parent.parent
CLI = "from flows.cli import main; main()"
STEPS = 60
NETWORK = {"blocks": [1, 1], "modules": 2, "clip": 1, "cell": "conv_lstm", "anchored": False}
TRAINING = {"steps": STEPS, "batch": 3, "evaluate_every": 20, "log_every": 1, "threads": 1}
TINY = {
    "network": "small_traffic_2d",
    "change": NETWORK,
    "inputs": ["usual"],
    "reading": {"held_out": 1},
    "training": TRAINING | {"save_every_seconds": 3600},
}


@dataclass(frozen=True)
class Row:
    """A row of the table."""

    fault: str
    shown: str
    lost: str
    recovered: str
    seconds: float


@dataclass(frozen=True)
class Said:
    """How a command ended."""

    code: int
    errors: list[str]
    seconds: float

    def shown(self, root: Path) -> str:
        if self.code < 0:
            return f"ended by {signal.Signals(-self.code).name}"
        text = " / ".join(line.removeprefix("error: ") for line in self.errors[-2:])
        return f"exit {self.code}: " + text.replace(f"{root}/", "")


@dataclass
class Stage:
    """A world, the store and model that a calm run makes of it, and who plays faults on it."""

    world: World
    calm: dict[str, str]
    calm_model: str = ""

    @classmethod
    def build(cls, folder: Path) -> Stage:
        world = World(folder)
        world.build()
        config = (folder / "run.yaml").read_text()
        (folder / "run.yaml").write_text(f"{config}models: {{tiny: {TINY}}}\n".replace("'", ""))
        stage = cls(world, {})
        stage.must(stage.t4c("ingest"))
        stage.calm = stage.stored()
        shutil.rmtree(world.root / "store")
        return stage

    def t4c(self, *verb: str, spoil: str = "") -> Said:
        return self.finish(self.start(*verb, spoil=spoil))

    def start(self, *verb: str, spoil: str = "") -> subprocess.Popen[str]:
        command = [sys.executable, "-c", spoil + CLI, *verb, str(self.world.root / "run.yaml")]
        process = subprocess.Popen(
            command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        process.began = time.monotonic()  # type: ignore[attr-defined]
        return process

    def finish(self, process: subprocess.Popen[str]) -> Said:
        said, _ = process.communicate()
        errors = [line for line in said.splitlines() if line.startswith("error: ")]
        if process.returncode not in (0, 130) and not errors and process.returncode > 0:
            raise SystemExit(f"no named error, exit {process.returncode}:\n{said}")
        return Said(process.returncode, errors, time.monotonic() - process.began)

    def must(self, said: Said) -> Said:
        if said.code:
            raise SystemExit(f"exit {said.code}: {said.errors}")
        return said

    def stored(self) -> dict[str, str]:
        store = self.world.root / "store"
        return {str(p.relative_to(store)): sha256(p) for p in sorted(store.rglob("*.nc"))}

    def lost(self) -> str:
        """What a calm run would have and this store has not, or what lies about beside it."""
        found = self.stored()
        missing = [name for name in self.calm if found.get(name) != self.calm[name]]
        store = self.world.root / "store"
        odd = [p.name for p in store.rglob("*") if p.suffix in {".partial", ".lock"}]
        odd += sorted(set(found) - set(self.calm))
        return "nothing" if not missing and not odd else f"missing {missing}, odd {odd}"

    def source(self) -> Path:
        return min((self.world.root / "release").rglob("*.h5"))

    def good_again(self, fault: str, shown: str, recovered: str = "run again") -> Row:
        said = self.must(self.t4c("ingest"))
        return Row(fault, shown, self.lost(), recovered, said.seconds)


def environment() -> dict[str, str]:
    paths = f"{ROOT}{os.pathsep}{ROOT / 'bench'}"
    return os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
