"""Forecast the test days and write the submission; check one, own or foreign."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from flows.config import RunConfig
from flows.models import build_models, identity
from flows.recipe import Outcome, progress, step
from pipeline.catalog import day_files
from pipeline.editions import City, Edition
from pipeline.errors import ChangedError, SubmissionError
from pipeline.forecasters import Forecaster
from pipeline.members import expected_members, listed_days
from pipeline.store import Store
from pipeline.submission import Submission, check_submission, write_submission


def submit(config: RunConfig) -> Outcome:
    """Write the submission of all cities, then hold it against the rules."""
    made = write(config)
    faults = find_faults(config, made.path)
    lines = [
        f"{made.path}: {made.members} files, {made.bytes / 1e6:.1f} MB, sha256 {made.sha256}",
        *([f"{made.resumed} files were there from a run before"] if made.resumed else []),
    ]
    return Outcome(lines, asdict(made) | {"path": str(made.path)}, faults)


def check(config: RunConfig, *, submission: Path | None = None) -> Outcome:
    """Hold a submission against the rules; every fault is listed.

    Args:
        config: The run.
        submission: A zip or folder; the run's own, if not given.
    """
    path = submission or config.out / config.submit.file
    faults = find_faults(config, path)
    verdict = f"{len(faults)} faults" if faults else "every rule kept"
    return Outcome([f"{path}: {verdict}"], {"path": str(path), "faults": faults}, faults)


@step
def write(config: RunConfig) -> Submission:
    """Write the zip.

    Raises:
        SubmissionError: The release has test files that the store has not.
        ChangedError: The model is not what it was when this began, e.g. another was promoted.
    """
    edition, name = config.read_edition(), config.submit.model
    tested = [city for city in config.chosen_cities() if city.tested]
    stores = [Store.open(config.store, edition, city) for city in tested]
    by_city = {store.city.name: store for store in stores}
    if missing := {
        store.city.name: sorted(lacking)
        for store in stores
        if (lacking := {*_test_days(config, edition, store.city)} - {*store.days("test")})
    }:
        raise SubmissionError(
            f"{config.store}: lacks test files of the release, by city: {missing}; what stands at "
            f"{config.out / config.submit.file} stays as it is; ingest them, then submit again"
        )
    known = {store.city.name: identity(config, store, name) for store in stores}

    def forecaster(city: City) -> Forecaster:
        store = by_city[city.name]
        model = build_models(config, store, [name])[name]
        if identity(config, store, name) != known[city.name]:  # cities would have several models
            raise ChangedError(f"{name}: became another model during the submission; submit again")
        return model

    total = sum(len(store.days("test")) for store in stores)
    with progress("submit", total) as tick:
        return write_submission(
            config.out / config.submit.file,
            stores,
            forecaster,
            identity=" ".join(known.values()),
            history=config.history,
            gzip=config.submit.gzip,
            progress=tick,
        )


@step
def find_faults(config: RunConfig, submission: Path) -> list[str]:
    """Check a submission against the test days that rules, release or store tell of."""
    edition = config.read_edition()
    days = {city.name: _test_days(config, edition, city) for city in config.chosen_cities()}
    return check_submission(
        submission,
        expected_members(edition, days),
        workers=config.workers,
        most_mib=edition.layout.submission_mib,
    )


def _test_days(config: RunConfig, edition: Edition, city: City) -> list[str]:
    """Return the days that must be answered: what the rules list, or what the release holds."""
    listed = listed_days(edition, city)
    if listed is not None:
        return listed
    found = [file.day for file in day_files(config.release, edition, city, "test")]
    return found or Store.open(config.store, edition, city).days("test")
