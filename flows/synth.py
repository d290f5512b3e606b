"""Draw a synthetic release, and say how lifelike it is."""

from __future__ import annotations

from flows.config import RunConfig
from flows.recipe import Outcome, progress, publish_table, step
from pipeline.alone import alone
from pipeline.atomic import write_text
from pipeline.errors import ConfigError
from pipeline.synthetic.realism import city_realism
from pipeline.synthetic.release import ReleaseSummary, write_release


def synth(config: RunConfig) -> Outcome:
    """Write training and validation days and test files, and the truth apart from them."""
    summary = write(config)
    line = f"{len(summary.written)} files drawn, {len(summary.skipped)} there already"
    facts = {"written": list(map(str, summary.written)), "skipped": len(summary.skipped)}
    return Outcome([f"{line} -> {config.release}"], facts)


@step
def write(config: RunConfig) -> ReleaseSummary:
    """Write the release."""
    if config.truth is None:
        raise ConfigError("truth: not given; the truth of the test days goes there")
    edition, wanted = config.chosen_edition(), config.synth
    days = len(edition.cities) * (wanted.training + wanted.validation + wanted.test)
    lock = config.release / ".synth.lock"
    with alone(lock, config.release, "synth"), progress("draw", days) as tick:
        return write_release(
            edition,
            config.release,
            config.truth,
            seed=wanted.seed,
            training=wanted.training,
            validation=wanted.validation,
            test=wanted.test,
            first_day=wanted.first_day,
            gzip=wanted.gzip,
            progress=tick,
        )


def realism(config: RunConfig) -> Outcome:
    """Compare drawn days with what was measured on real ones."""
    edition, outcome = config.read_edition(), Outcome(facts={"cities": {}})
    for city in config.chosen_cities():
        table = city_realism(edition, city, seed=config.synth.seed)
        path = write_text(config.out / f"realism_{city.name}.csv", table.to_csv(index=False))
        publish_table(f"realism-{city.name}", table, f"How lifelike {city.name} is")
        shown = table[["quantity", "target", "generated", "inside", "note"]]
        outcome.lines += [
            f"{city.name}: {int(table['inside'].sum())} of {len(table)} targets met",
            *shown.to_string(index=False, float_format=lambda v: f"{v:.3g}").splitlines(),
            f"table: {path}",
        ]
        outcome.facts["cities"][city.name] = table.to_dict("records")
    return outcome
