"""Does it learn? A short training on drawn, moving glyphs, held against copying the last frame.

    python bench/learn.py [--preset small_mnist_2d] [--steps 800] [--seed 0] [--out docs]

Two hand-drawn-like glyphs move over 64 x 64 pixels by the paper's rule: whole steps of -4 to 4
pixels, bounced off the walls, brightness added and clipped. Every training sequence is drawn anew;
the 32 sequences that are scored are drawn from other glyphs and another seed. Loss: mean squared
error of all predicted clips under teacher forcing. Score: mean squared error of the ten frames that
follow ten, rolled out, beside copy-last and zeros on the same sequences. Writes the curve as CSV
and PNG and prints one JSON object.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from crevnet.loss import clip_loss
from crevnet.model import CrevNet
from crevnet.presets import preset
from crevnet.rollout import forecast

SIZE, GLYPH, FRAMES, PAST = 64, 24, 20, 10


def draw_glyphs(count: int, rng: np.random.Generator) -> np.ndarray:
    """Strokes of a soft pen: `(count, 24, 24)` in [0, 1]."""
    y, x = np.mgrid[:GLYPH, :GLYPH]
    glyphs = np.zeros((count, GLYPH, GLYPH), np.float32)
    for glyph in glyphs:
        points = rng.uniform(4, GLYPH - 5, (4, 2))
        path = np.concatenate([np.linspace(a, b, 16) for a, b in pairwise(points)])
        for py, px in path:
            np.maximum(glyph, np.exp(-((y - py) ** 2 + (x - px) ** 2) / 3.0), out=glyph)
    return glyphs


def draw_sequences(count: int, glyphs: np.ndarray, rng: np.random.Generator) -> torch.Tensor:
    """Moving pairs of glyphs, `(count, 20, 1, 64, 64)`."""
    room = SIZE - GLYPH
    frames = np.zeros((count, FRAMES, 1, SIZE, SIZE), np.float32)
    for movie in frames:
        for glyph in glyphs[rng.integers(0, len(glyphs), 2)]:
            place, speed = rng.integers(0, room + 1, 2), rng.integers(-4, 5, 2)
            for frame in movie:
                outside = (place < 0) | (place > room)
                speed = np.where(outside, -speed, speed)
                place = np.clip(place, 0, room)
                y, x = place
                frame[0, y : y + GLYPH, x : x + GLYPH] += glyph
                place = place + speed
    return torch.from_numpy(np.minimum(frames, 1.0))


def evaluate(model: CrevNet, test: torch.Tensor) -> dict[str, float]:
    model.eval()
    with torch.no_grad():
        said = forecast(model, test[:, :PAST], range(FRAMES - PAST)).clamp(0, 1)
    model.train()
    error = (said - test[:, PAST:]).square().mean(dim=(0, 2, 3, 4))
    return {"rolled_out": error.mean().item(), "next_frame": error[0].item()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="small_mnist_2d")
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("docs"))
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    rng, apart = (np.random.default_rng([options.seed, n]) for n in (0, 1))
    glyphs = draw_glyphs(500, rng)
    test = draw_sequences(32, draw_glyphs(100, apart), apart)
    model = CrevNet(preset(options.preset))
    optimiser = torch.optim.Adam(model.parameters(), options.rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, options.rate, total_steps=options.steps, pct_start=0.1
    )
    last = (test[:, PAST - 1 : PAST] - test[:, PAST:]).square()
    baselines = {
        "copy_last": last.mean().item(),
        "copy_last_next_frame": last[:, 0].mean().item(),
        "zeros": test[:, PAST:].square().mean().item(),
    }
    rows, losses, begun = [], [], time.process_time()
    for step in range(1, options.steps + 1):
        frames = draw_sequences(options.batch, glyphs, rng)
        loss = clip_loss(model(frames), frames)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        losses.append(loss.item())
        if step % max(1, options.steps // 20) == 0:
            used = time.process_time() - begun
            row = {"step": step, "cpu_s": round(used), "loss": float(np.mean(losses))}
            rows.append(row | evaluate(model, test))
            losses = []
    options.out.mkdir(parents=True, exist_ok=True)
    stem = options.out / f"learn_{options.preset}"
    with stem.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    draw(rows, baselines, options.preset, stem.with_suffix(".png"))
    facts = {"preset": options.preset, "parameters": sum(p.numel() for p in model.parameters())}
    run = {"seed": options.seed, "steps": options.steps, "batch": options.batch}
    machine = {"cores": os.cpu_count(), "torch": torch.__version__}
    print(json.dumps(facts | run | machine | baselines | {"first": rows[0], "last": rows[-1]}))


def draw(rows: list[dict], baselines: dict[str, float], name: str, path: Path) -> None:
    figure = Figure(figsize=(6.4, 4.0), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    steps = [row["step"] for row in rows]
    curves = {
        "rolled_out": ("10 frames ahead, rolled out", "C0"),
        "next_frame": ("next frame", "C2"),
        "loss": ("training loss", "0.6"),
    }
    for key, (label, colour) in curves.items():
        axes.plot(steps, [row[key] for row in rows], color=colour, label=label)
    axes.axhline(baselines["copy_last"], color="C0", ls="--", lw=1, label="copy last, 10 frames")
    axes.axhline(baselines["copy_last_next_frame"], color="C2", ls="--", lw=1,
                 label="copy last, next frame")  # fmt: skip
    axes.set_yscale("log")
    axes.set_xlabel("training steps")
    axes.set_ylabel("mean squared error of a pixel")
    axes.set_title(f"{name} on moving glyphs, sequences it never saw")
    axes.legend(fontsize=8)
    figure.savefig(path, metadata={"Software": None})


if __name__ == "__main__":
    main()
