"""What models there are, and what each costs on a grid."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pandas as pd

from crevnet.cost import cost
from crevnet.zoo import ZOO, ZooError, configure
from flows.blueprint import seen_sizes
from flows.config import RunConfig
from flows.model_config import Model
from flows.networks import named_faults
from flows.recipe import Outcome, progress, publish_table
from flows.starts import Start
from pipeline.errors import ModelError

NAIVE = ("zeros", "persistence", "moving_average_3", "window_mean", "climatology", "mix")
TRAFFIC4CAST = {"height": 495, "width": 436, "channels": 3, "history": 9, "horizon": 3}


def list_models(config: RunConfig | None = None) -> Outcome:
    """List every model with its parameters and what a window costs, counted on shapes alone.

    Args:
        config: Whose grid, channels, history and leads to count on; Traffic4cast's 2019 grid with
            9 frames in and 3 out, if not given.
    """
    size, title = TRAFFIC4CAST, "the Traffic4cast 2019 grid"
    if config is not None:
        edition = config.chosen_edition()
        height, width, channels = edition.frame_shape
        size = {"height": height, "width": width, "channels": channels}
        size |= {"history": config.history, "horizon": edition.leads[-1] + 1}
        title = edition.title
    impossible: list[str] = []
    wanted: dict[str, dict[str, Any]] = {name: {"network": name} for name in ZOO}
    if config is not None:
        for name, model in config.models.items():
            try:
                wanted[f"run: {name}"] = _of_run(config, model)
            except ModelError as fault:
                impossible.append(str(fault))
    none = {"parameters": 0, "multiply_accumulates": 0, "saved_plain": 0, "saved_frugal": 0}
    rows: dict[str, dict[str, Any]] = {name: {"kind": "naive", **none} for name in NAIVE}
    with progress("count", len(wanted)) as tick:
        for name, how in wanted.items():
            try:
                rows[name] = _row(**(size | how))
            except ZooError as fault:
                impossible.append(f"{name}: {fault}")
            tick(name)
    table = _table(rows)
    publish_table("models", table, f"Models on {title}")
    lines = [
        f"{title}: {size['height']} x {size['width']} cells, {size['channels']} channels, "
        f"{size['history']} frames in, {size['horizon']} out; of one window:",
        *table.to_string(na_rep="-", float_format=lambda value: f"{value:,.2f}").splitlines(),
        "GMAC: multiply-accumulates of a forecast. MB: what a training step keeps for backward "
        "(float32), all kept or made again.",
        *(f"not listed: {line}" for line in impossible),
    ]
    return Outcome(lines, {**size, "models": rows, "impossible": impossible})


def _of_run(config: RunConfig, model: Model) -> dict[str, Any]:
    """Return what a run changes of a network, its extra planes included."""
    if model.start_from is not None:
        with named_faults():
            return {"network": Start.of(config, model).description}
    sizes = seen_sizes(config, model)
    static, history = sizes["static_channels"], sizes["history"]
    change = {"static_channels": static, **model.change}
    return {"network": model.network, "history": history, "change": change}


def _row(
    network: str | dict[str, Any],
    *,
    channels: int,
    history: int,
    horizon: int,
    height: int,
    width: int,
    change: dict[str, Any] | None = None,
) -> dict[str, Any]:
    description = configure(
        network, channels=channels, history=history, horizon=horizon, **(change or {})
    )
    counted = cost(description, history=history, horizon=horizon, height=height, width=width)
    return {"kind": description["kind"], **asdict(counted)}


def _table(rows: dict[str, dict[str, Any]]) -> pd.DataFrame:
    found = pd.DataFrame.from_dict(rows, orient="index")
    return pd.DataFrame(
        {
            "kind": found["kind"],
            "M parameters": found["parameters"].astype(float) / 1e6,
            "GMAC": found["multiply_accumulates"].astype(float) / 1e9,
            "MB kept, plain": found["saved_plain"].astype(float) / 1e6,
            "MB, frugal": found["saved_frugal"].astype(float) / 1e6,
        }
    ).rename_axis("model")
