"""What must hold after every attempt and every night."""

from __future__ import annotations

from pathlib import Path
from zipfile import ZipFile

from nights_world import World

from flows.submit import find_faults
from pipeline.kept_fits import KEPT
from pipeline.manifest import manifest_path, read_manifest
from pipeline.rechunk import sha256
from pipeline.store import Store

MOST_OUT_FILES = 1 + 2 + 3 * 2 * KEPT  # the zip, a mix a city, so many of each other fit


class Ledger:
    """What must hold, and what was found so far.

    After every attempt, killed ones too: the manifest can be read, every day it lists is there with
    its checksum, no day that it listed before was written again unless its source is another one,
    and the submission is whole: the one of before, or a new one that breaks no rule. After every
    night that ended well, besides: every day that is whole is in the manifest once, with the
    checksum of its source; the store, the outputs and the folder for temporary files hold nothing
    else, no lock and nothing half-written; the outputs do not grow with the nights.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.files: dict[Path, tuple[int, int, str]] = {}
        self.submission = ""
        self.most_out = 0

    def after_attempt(self) -> None:
        config, edition, held = self.world.config, self.world.edition, {}
        for city in edition.cities:
            if not manifest_path(config.store, city.name).exists():
                continue
            listed = read_manifest(config.store, edition, city).days
            assert len({day.day for day in listed}) == len(listed), "a day is listed twice"
            for day in listed:
                path = config.store / day.file
                assert sha256(path) == day.stored_sha256, f"{path} is not as the manifest says"
                state = path.stat()
                held[path] = (state.st_ino, state.st_mtime_ns, day.source_sha256)
                before = self.files.get(path)
                written_again = before is not None and before[:2] != held[path][:2]
                assert not written_again or before[2] != day.source_sha256, f"{path} twice"
        self.files = held
        target = config.out / config.submit.file
        if target.exists() and sha256(target) != self.submission:
            assert find_faults(config, target) == [], "a submission breaks rules"
            with ZipFile(target) as archive:
                assert archive.testzip() is None, "a member is damaged"
            self.submission = sha256(target)

    def after_night(self) -> None:
        config, edition = self.world.config, self.world.edition
        unreadable = [path for path in self.world.truncated if "_test" in path.parent.name]
        faults = [] if unreadable else find_faults(config, config.out / config.submit.file)
        assert faults == [], faults
        expected = set()
        for city in edition.cities:
            store = Store.open(config.store, edition, city)
            expected.add(manifest_path(config.store, city.name))
            for day in store.manifest.days:
                expected.add(config.store / day.file)
                assert sha256(Path(day.source)) == day.source_sha256, f"{day.source} is another"
            sources = {Path(day.source) for day in store.manifest.days}
            there = set((config.release / city.name).rglob("*.h5"))
            missing = there - sources - set(self.world.truncated)
            assert not missing, f"not ingested: {missing}"
            assert sources <= there, f"gone: {sources - there}"
        assert files_of(config.store) == expected, files_of(config.store) ^ expected
        assert files_of(self.world.root / "tmp") == set(), "temporary files are left"
        out = files_of(config.out)
        odd = [p.name for p in out if p.suffix in {".partial", ".lock"} or ".parts" in str(p)]
        assert not odd, odd
        assert len(out) <= MOST_OUT_FILES, f"{len(out)} files in {config.out}"
        assert not list((config.release).rglob("*.partial"))
        self.most_out = max(self.most_out, sum(path.stat().st_size for path in out))


def files_of(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if not path.is_dir()}
