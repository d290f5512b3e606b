"""Bring the stores of a benchmark's videos up to date with their folders."""

from __future__ import annotations

from dataclasses import asdict

from flows.benchmarking.config import BenchmarkConfig
from flows.benchmarking.sections import Footage
from flows.recipe import Outcome, progress, step
from pipeline.errors import ConfigError
from pipeline.video.entry import find_drives, read_entry
from pipeline.video.store import VideoReport, ingest_drives, stored_drives


def ingest_video(config: BenchmarkConfig, *, verify: bool = False) -> Outcome:
    """Cut every new or changed drive that a benchmark learns from, chooses by or is scored on.

    Args:
        config: The benchmark.
        verify: Compare checksums even where sizes and times of pictures have not changed.

    Raises:
        CatalogError: The catalogue has no such set.
        ConfigError: It is a benchmark of digits, which draws its sets itself.
        VideoError: A drive of the catalogue is not there.
    """
    outcome = Outcome(facts={"drives": {}})
    done: set[tuple[object, ...]] = set()
    for footage in (config.training, config.validation, config.test):
        if not isinstance(footage, Footage):
            raise ConfigError("training: no videos; `t4c benchmark` draws sets of digits itself")
        place = (footage.data, footage.root, footage.store, footage.split)
        if place in done:
            continue
        done.add(place)
        report = ingest_footage(config, footage, verify)
        entry = read_entry(footage.data, config.catalog)
        drives = stored_drives(footage.store, entry, footage.split) if not report.refused else []
        frames = sum(drive.frames for drive in drives)
        outcome.lines.append(
            f"{footage.set}: {len(report.ingested)} drives ingested, {len(report.kept)} unchanged, "
            f"{len(report.refused)} refused, {frames} frames -> {footage.store}"
        )
        outcome.facts["drives"][footage.set] = asdict(report)
        outcome.faults += report.refused.values()
    return outcome


@step
def ingest_footage(config: BenchmarkConfig, footage: Footage, verify: bool) -> VideoReport:
    """Ingest one split."""
    entry = read_entry(footage.data, config.catalog)
    total = len(find_drives(entry, footage.root, footage.split))
    with progress(f"ingest {footage.set}", total) as tick:
        return ingest_drives(
            entry, footage.root, footage.store, footage.split, verify=verify, progress=tick
        )
