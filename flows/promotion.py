"""Which network is in use: a new one takes over only if it beats the old one by a margin."""

from __future__ import annotations

import glob
import os
import shutil
from collections.abc import Collection
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from flows.config import RunConfig
from flows.model_config import Promotion
from flows.promotion_record import Record
from flows.recipe import Outcome, publish_markdown
from flows.score import score_city
from flows.train import train_model
from pipeline.alone import alone
from pipeline.atomic import whole_file
from pipeline.comparison import Difference, paired_difference
from pipeline.errors import ConfigError, ModelError
from pipeline.kept_fits import DIGEST, digest
from pipeline.scoring import Errors, join
from pipeline.store import Store


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a network takes over.

    Attributes:
        promoted: Whether it does.
        share: Its error / that of what it must beat, - 1; below 0 is better.
        mse: Its error on the validation days.
        to_beat: That of what is in use.
        difference: With its interval over days; told, not asked for.
    """

    promoted: bool
    share: float
    mse: float
    to_beat: float
    difference: Difference


def judge(errors: Errors, candidate: str, other: str, margin: float) -> Verdict:
    """Return whether a model's error is lower than another's by at least a share of it.

    Args:
        errors: Of both, on the same windows.
        candidate: The new one.
        other: The one in use.
        margin: Share of the other's error that must be gone, e.g. 0.002.
    """
    found = paired_difference(errors, [candidate], [other])
    scores = errors.leaderboard()
    mse, to_beat = float(scores[candidate]), float(scores[other])
    return Verdict(found.share <= -margin, found.share, mse, to_beat, found)


def promote(config: RunConfig) -> Outcome:
    """Train the network of `promotion` on the days there are, and put it in use if it is better.

    Each training has a folder of its own, named by the days and settings it rests on: one that was
    stopped goes on, and new days begin a new one. In a flow it is a process of its own. The network
    in use is a link, `out/models/<pointer>.safetensors`, moved in one step; where it pointed before
    is kept. The record beside it is written first: whatever kills this, the next run goes on.

    Raises:
        ConfigError: The configuration has no `promotion`.
        ModelError: The network cannot be trained or scored.
        StoreError: A store is missing or has no validation days.
        InUseError: Another run is promoting.
    """
    plan = config.promotion
    if plan is None:
        raise ConfigError("promotion: not given; it names a model and a margin")
    link = pointer_path(config, plan)
    target_of(link)  # refused before hours of training, not after
    folder = config.out / "candidates" / f"{plan.model}_{_rests_on(config, plan)[:16]}"
    fitted = config.out / "fitted"  # what is usual is the same for all of them
    fitted.mkdir(parents=True, exist_ok=True)
    point(folder / "fitted", fitted)
    trained = train_model(_candidate(config, plan, folder), plan.model)
    if not trained.mine:  # another process of this training speaks for it
        return Outcome()
    with alone(link.with_name(f".{link.stem}.lock"), link, "promote"):
        return _choose(config, plan, link, trained.path)


def _choose(config: RunConfig, plan: Promotion, link: Path, path: Path) -> Outcome:
    """Judge a candidate, put it in use or set it aside, and remove old ones."""
    record, current, name = Record.beside(link), target_of(link), path.parent.parent.name
    facts: dict[str, Any] = {"promoted": False, "candidate": str(path), "in_use": str(link)}
    if current is not None and current.resolve() == path.resolve():
        record.finish(path, config.edition)  # where an earlier run was killed before it could
        return Outcome([f"{link}: {name} is in use already; there are no new days"], facts)
    if record.was_in_use(path):
        line = f"kept aside: {name} was in use and is not any more; {link} is as it was"
        return Outcome([line], facts)
    other = plan.against if current is None else str(current)
    other, errors, unusable = _score(config, plan, str(path), other)
    verdict = judge(errors, str(path), other, plan.margin)
    facts |= {"against": other, "margin": plan.margin, "unusable": unusable} | asdict(verdict)
    facts |= {"days": sorted(map(str, errors.rows["day"].unique())), "removed": []}
    if verdict.promoted:
        record.begin(path, facts)
        point(link, path)
        record.finish(path, config.edition)
    spared = [path, *(file for file in (current, target_of(link)) if file), *record.last(2)]
    spared += [file for file in link.parent.glob("*.safetensors") if file.is_symlink()]
    facts["removed"] = sweep_candidates(path.parent.parent.parent, plan, spared)
    line = _said(verdict, plan, other, link)
    if unusable:
        line += f"; the one in use cannot be scored any more: {unusable}"
    publish_markdown(f"{config.edition}-promotion", line, "Which network is in use")
    return Outcome([line, f"model: {path}"], facts)


def _score(
    config: RunConfig, plan: Promotion, path: str, other: str
) -> tuple[str, Errors, str | None]:
    """Return what a candidate is held against, the errors of both, and why not the one in use.

    A day that was corrected since disowns the network in use: it can forecast no more, so it is
    not what must be beaten.
    """

    def score(against: str) -> Errors:
        names = [path, against]
        return join([score_city(config, city, names) for city in config.chosen_cities()])

    try:
        return other, score(other), None
    except ModelError as fault:
        if other == plan.against:
            raise
        errors = score(plan.against)  # raises, if it is the candidate that is faulty
        return plan.against, errors, str(fault)


def pointer_path(config: RunConfig, plan: Promotion) -> Path:
    """Return the link that says which network is in use."""
    return config.out / "models" / f"{plan.pointer}.safetensors"


def target_of(link: Path) -> Path | None:
    """Return the file that a pointer points to, or nothing if there is none."""
    if not link.is_symlink():
        if link.exists():
            raise ConfigError(f"{link}: a file, expected a link to a network or nothing")
        return None
    return link.parent / link.readlink()


def point(link: Path, target: Path) -> None:
    """Have a link point to a file, in one step: a reader sees the old one or the new one."""
    with whole_file(link) as partial:
        partial.symlink_to(os.path.relpath(target.absolute(), link.parent.absolute()))


def sweep_candidates(folder: Path, plan: Promotion, spared: Collection[Path]) -> list[str]:
    """Remove the oldest networks set aside, but for the last `keep` and those spared."""
    safe = {path.resolve().parent.parent for path in spared}
    aside = [
        path
        for path in folder.glob(f"{glob.escape(plan.model)}_{DIGEST}")
        if path.is_dir() and path.resolve() not in safe
    ]
    aside.sort(key=lambda path: (path.stat().st_mtime_ns, path.name))
    removed = aside[: len(aside) - plan.keep] if len(aside) > plan.keep else []
    for path in removed:
        shutil.rmtree(path)
    return [str(path) for path in removed]


def _candidate(config: RunConfig, plan: Promotion, folder: Path) -> RunConfig:
    """Return the run with another `out`, and no start that lies there."""
    from flows.networks import model_path

    model = config.models[plan.model]
    if model.start_from is not None:
        start = str(model_path(config, model.start_from))
        model = model.model_copy(update={"start_from": start})
    return config.model_copy(update={"out": folder, "models": config.models | {plan.model: model}})


def _rests_on(config: RunConfig, plan: Promotion) -> str:
    """Return a digest of the days and settings that a training rests on."""
    edition, parts = config.read_edition(), [config.models[plan.model].model_dump_json()]
    for city in config.chosen_cities():
        store = Store.open(config.store, edition, city)
        parts.append(digest(store, store.days("training"), config.history))
    return sha256("\n".join(parts).encode()).hexdigest()


def _said(verdict: Verdict, plan: Promotion, other: str, link: Path) -> str:
    name = other if not other.endswith(".safetensors") else Path(other).parent.parent.name
    found = (
        f"MSE {verdict.mse:.6g} against {verdict.to_beat:.6g} of {name} on the validation days, "
        f"{verdict.share:+.2%}; the margin is {-plan.margin:.2%}"
    )
    if verdict.promoted:
        return f"promoted: {found}; {link} points to it, the one before is kept"
    return f"kept aside: {found}; {link} is as it was"
