"""What a benchmark leaves: tables, curves, pictures and films."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flows.benchmarking.config import BenchmarkConfig
from flows.benchmarking.scores import Scores, read_pictures
from flows.benchmarking.sequences import BenchmarkData
from flows.benchmarking.sights import hard_sequences, looked_at
from flows.benchmarking.train import REPORT, training_folder
from flows.recipe import Outcome, publish_image, publish_table
from pipeline.benchmark_table import draw_leads, write_tables
from pipeline.filmstrips import draw_columns, draw_film, draw_strip
from pipeline.learning_curve import draw_curves, read_curve

Cost = dict[str, Any]
TABLE_4 = (1, 3, 6, 9, 12)
"""Frames ahead that the paper's table 4 tells of."""


def report(
    config: BenchmarkConfig,
    data: BenchmarkData,
    scores: Sequence[Scores],
    costs: Mapping[str, Cost],
) -> Outcome:
    """Write everything that can be said of the models that were scored so far, and say it."""
    runs, key = config.runs(), "moving-mnist" if config.training_horizon is None else "video"
    ranked = sorted(scores, key=lambda one: one.means()["frame_sse"])
    table = score_table(config, ranked, costs)
    title = (
        f"{config.title}: {len(data.test)} sequences of {config.test.set}, "
        f"{config.history} frames in, {data.horizon} out, {config.says_schedule()}, "
        f"protocol {config.score.protocol}"
    )
    written = write_tables(config.out / "table", table, title)
    publish_table(key, table, title)
    lines = [*written.splitlines(), ""]
    trained = [one.name for one in scores if one.name in runs]
    later = video_tables(config, ranked) if config.training_horizon else []
    for stem, more, what in (
        *later,
        ("leads", lead_table(ranked), "every metric at every lead"),
        ("protocols", protocol_table(ranked), "the authors' protocol and the clean one"),
        ("costs", cost_table(config, trained, costs), "measured on this machine"),
    ):
        if len(more):
            text = write_tables(config.out / stem, more, f"{config.title}: {what}")
            publish_table(f"{key}-{stem}", more, what)
            if stem != "leads":
                lines += [*text.splitlines(), ""]
    pictures = [*draw_pictures(config, data, ranked), *draw_all_curves(config, ranked, trained)]
    for path in pictures:
        if path.suffix == ".png":
            publish_image(f"{key}-{path.stem}", path, f"{config.title}: {path.stem}")
    hard = hard_sequences(config, data)[: config.pictures.hard]
    if hard:
        said = ", ".join(f"{number} ({share:.2f})" for number, share in hard)
        lines.append(f"digits overlap through the warm-up in sequences {said}")
    lines += [f"table: {config.out / 'table.csv'}", f"pictures: {config.out / 'pictures'}"]
    facts = {
        "title": title,
        "scores": {one.name: one.means() for one in ranked},
        "table": str(config.out / "table.csv"),
        "pictures": [str(path) for path in pictures],
        "hard": hard,
    }
    return Outcome(lines, facts)


def score_table(
    config: BenchmarkConfig, ranked: Sequence[Scores], costs: Mapping[str, Cost]
) -> pd.DataFrame:
    """Return scores beside the paper's figures; no clock has a part in it."""
    runs, rows = config.runs(), {}
    for one in ranked:
        row: dict[str, Any] = {}
        for metric, value in one.means().items():
            row[metric] = value
            if metric == "frame_sse":
                row["error"] = one.error()
        model = runs[one.name][0] if one.name in runs else None
        row["sees"] = (config.models[model].sees or config.history) if model else None
        cost = costs.get(model or "")
        row["M parameters"] = cost["parameters"] / 1e6 if cost else None
        row["GMAC"] = cost["gmac"] if cost else None
        row["MB kept"] = cost["saved_mb"] if cost else None
        row["MB kept, frugal"] = cost["frugal_mb"] if cost else None
        paper = config.models[model].paper if model else None
        row["paper MSE"] = paper.mse if paper else None
        row["paper SSIM"] = paper.ssim if paper else None
        row["paper MB"] = paper.memory_mb if paper else None
        rows[one.name] = row
    return _frame(rows)


def lead_table(ranked: Sequence[Scores]) -> pd.DataFrame:
    """Return every metric at every lead, counted from 1."""
    return _frame(
        {
            f"{one.name} {metric}": {f"+{lead}": v for lead, v in enumerate(values, 1)}
            for one in ranked
            for metric, values in one.by_lead.items()
        }
    )


def video_tables(
    config: BenchmarkConfig, ranked: Sequence[Scores]
) -> list[tuple[str, pd.DataFrame, str]]:
    """Return the next frame and the later ones as the paper's table 4 has them, and its figures."""
    ours: dict[str, dict[str, Any]] = {}
    for one in ranked:
        row = {"PSNR +1": one.by_lead["psnr"][0]} if "psnr" in one.by_lead else {}
        for metric in (name for name in one.by_lead if name.startswith("ssim")):
            values = one.by_lead[metric]
            leads = [lead for lead in TABLE_4 if lead <= len(values)]
            row |= {f"{metric} +{lead}": values[lead - 1] for lead in leads}
        ours[one.name] = row
    theirs = {
        name: {"PSNR +1": figures.psnr, "SSIM +1": figures.ssim}
        | {f"SSIM +{lead}": figures.ssim_at.get(lead) for lead in TABLE_4[1:]}
        for name, figures in config.published.items()
    }
    said = "as published, on Caltech Pedestrian: other frames than those scored here"
    return [
        ("frames", _frame(ours), "the next frame and later ones"),
        ("published", _frame(theirs), said),
    ]


def protocol_table(ranked: Sequence[Scores]) -> pd.DataFrame:
    """Return, for networks of overlapping clips, scores under both protocols and the difference."""
    rows = {}
    for one in ranked:
        if one.other is None:
            continue
        here, there = one.means(), one.other
        authors, clean = (here, there) if one.protocol == "authors" else (there, here)
        for metric in here:
            difference = clean[metric] - authors[metric]
            row = {"authors": authors[metric], "clean": clean[metric], "difference": difference}
            rows[f"{one.name}: {metric}"] = row
    return _frame(rows)


def cost_table(
    config: BenchmarkConfig, trained: Sequence[str], costs: Mapping[str, Cost]
) -> pd.DataFrame:
    """Return what was measured with a clock."""
    rows = {}
    for name in trained:
        model = config.runs()[name][0]
        facts = json.loads((training_folder(config, name) / REPORT).read_text())
        cost = costs.get(model, {})
        rows[name] = {
            "steps": facts["step"],
            "sequences": facts["examples"],
            "CPU-s of training": facts["cpu_seconds"],
            "validation MSE, 10^-3": (facts["validation_mse"] or 0) * 1e3,
            "CPU-s a sequence and step": cost.get("step_cpu_seconds"),
            "CPU-s a forecast": cost.get("forecast_cpu_seconds"),
            "MB at the peak": cost.get("peak_mb"),
            "paper MB": config.models[model].paper.memory_mb,
            "ended by": facts["finished"],
        }
    return _frame(rows)


def draw_pictures(
    config: BenchmarkConfig, data: BenchmarkData, ranked: Sequence[Scores]
) -> list[Path]:
    """Draw input, truth and each model's forecast of the sequences to look at, still and moving.

    Where one frame is said, all of them are in one picture besides.
    """
    folder, zoom, paths = config.out / "pictures", config.pictures.zoom, list[Path]()
    next_frames: list[dict[str, NDArray[np.uint8]]] = []
    said = {one.name: read_pictures(config, one.name) for one in ranked}
    hard = {number for number, _ in hard_sequences(config, data)[: config.pictures.hard]}
    for place, number in enumerate(looked_at(config, data)):
        clip = data.test[number]
        history, truth = _shown(clip.history), _shown(clip.future)
        movies = {"truth": truth}
        movies |= {name: _shown(_bytes(movie[place])) for name, movie in said.items()}
        stem = f"{'hard' if number in hard else 'sequence'}_{number:05d}"
        rows = {"input": history, **movies}
        paths.append(draw_strip(folder / f"{stem}.png", rows, zoom=zoom))
        paths.append(draw_film(folder / f"{stem}.gif", history, movies, zoom=zoom))
        next_frames.append({name: movie[0] for name, movie in movies.items()})
    if data.horizon == 1 and next_frames:
        paths.append(draw_columns(folder / "next_frames.png", next_frames, zoom=zoom))
    return paths


def draw_all_curves(
    config: BenchmarkConfig, ranked: Sequence[Scores], trained: Sequence[str]
) -> list[Path]:
    """Draw validation error against CPU-seconds, and squared error against the lead."""
    paths = []
    if trained:
        curves = {name: read_curve(training_folder(config, name)) for name in trained}
        paths.append(draw_curves(config.out / "pictures" / "learning.png", curves))
    leads = {one.name: one.by_lead["frame_sse"] for one in ranked}
    label = "squared error summed over a frame"
    return [*paths, draw_leads(config.out / "pictures" / "leads.png", leads, label)]


def _bytes(said: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.rint(np.clip(said, 0, 1) * 255).astype(np.uint8)


def _shown(movie: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Turn `(T, C, H, W)` into what is drawn: `(T, H, W)` of one channel, else `(T, H, W, C)`."""
    return movie[:, 0] if movie.shape[1] == 1 else np.ascontiguousarray(np.moveaxis(movie, 1, -1))


def _frame(rows: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    table = pd.DataFrame.from_dict(dict(rows), orient="index").rename_axis("model")
    unsaid = [name for name in table if str(name).startswith("paper") and table[name].isna().all()]
    return table.drop(columns=unsaid)
