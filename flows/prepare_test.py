"""Cut a private test set and its truth from days whose future is known."""

from __future__ import annotations

import io

from ruamel.yaml import YAML

from flows.config import RunConfig
from flows.recipe import Outcome, progress, step
from flows.release_config import Prepare
from pipeline.alone import alone
from pipeline.atomic import write_text
from pipeline.errors import ConfigError
from pipeline.rehearsal import Rehearsal, cut_rehearsal
from pipeline.store import Store


def prepare_test(config: RunConfig) -> Outcome:
    """Write a release to rehearse on, its truth, and the configuration of both.

    Raises:
        ConfigError: The run does not say what to cut, or into which folder.
    """
    if config.prepare is None:
        raise ConfigError("prepare: not given; e.g. --set prepare.into=data/rehearsal")
    cut = write(config, config.prepare)
    path = config.prepare.into / "run.yaml"
    into = config.prepare.into
    changed = {"release": cut.release, "truth": cut.truth}
    changed |= {"store": into / "store", "out": into / "out"}
    settings = config.model_dump(mode="json", exclude_unset=True, exclude={"prepare"})
    settings |= {key: str(value) for key, value in changed.items()}
    text = io.StringIO()
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.dump(settings, text)
    write_text(path, text.getvalue())
    days = sum(map(len, cut.days.values()))
    lines = [
        f"{len(cut.written)} files cut from {days} days, {cut.linked} linked -> {cut.release}",
        f"truth: {cut.truth}",
        f"next: t4c ingest {path} && t4c submit {path}",
    ]
    facts = {"config": str(path), "days": cut.days, "linked": cut.linked}
    return Outcome(lines, facts | {"written": list(map(str, cut.written))})


@step
def write(config: RunConfig, wanted: Prepare) -> Rehearsal:
    """Cut the test files."""
    edition = config.read_edition()
    stores = [Store.open(config.store, edition, city) for city in config.chosen_cities()]
    tested = sum(store.city.tested for store in stores)
    lock = wanted.into / ".lock"
    with (
        alone(lock, wanted.into, "prepare-test"),
        progress("cut", tested * wanted.days) as tick,
    ):
        return cut_rehearsal(
            stores,
            config.release,
            wanted.into,
            split=wanted.split,
            days=wanted.days,
            seed=wanted.seed,
            gzip=wanted.gzip,
            progress=tick,
        )
