"""Drawn pictures of a street in KITTI's folders, and a CrevNet that learned nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from crevnet.checkpoint import save_model
from crevnet.config import CrevNetConfig
from crevnet.model import CrevNet
from crevnet.task import Task
from pipeline.kitti.labels import KittiObject, write_labels

SIZE = (32, 104)
"""Rows and columns that a network sees; a third of a whole picture."""
WHOLE = (96, 312)
COLOURS = {"Car": (200, 30, 40), "Pedestrian": (30, 200, 60), "Cyclist": (40, 60, 220)}
STREET = {
    3: [("Car", (20, 30, 110, 85)), ("Pedestrian", (200, 10, 222, 70))],
    4: [("Car", (180, 35, 270, 90)), ("Cyclist", (60, 20, 95, 80))],
    7: [("Car", (110, 40, 190, 88)), ("Pedestrian", (30, 22, 56, 90))],
}
CONFIG = """
title: Tiny street
network: {root}/crevnet.safetensors
out: {root}/out
height: 32
width: 104
training: {{root: {root}/street, images: [3, 4, 7], preceding: repeat}}
test: {{root: {root}/street, images: all, preceding: repeat}}
mirror: false
keep: features
heads:
  both:
    inputs: masks_and_features
    width: 24
    depth: 1
    sizes: [[10, 16, 24], [30]]
    ratios: [0.6, 1.7, 2.7]
    training:
      {{batch: 3, steps: 120, learning_rate: 0.01, schedule: one_cycle, warmup: 0.2,
       weight_decay: 0, clip_norm: 5, threads: 1, accelerator: cpu, log_every: 10,
       save_every_seconds: 0}}
tell: {{threads: 1, device: cpu}}
draw: {{images: [7], width: 312}}
published:
  Others: {{car: [90, 80, 70], pedestrian: [60, 50, 40], cyclist: [30, 20, 10]}}
"""


def picture(objects, seed: int, shift: int = 0) -> Image.Image:
    """A noisy grey street, and its objects in the colours of their kinds."""
    rng = np.random.default_rng(seed)
    drawn = Image.fromarray(rng.integers(90, 130, (*WHOLE, 3), dtype=np.uint8))
    draw = ImageDraw.Draw(drawn)
    for kind, (left, top, right, bottom) in objects:
        draw.rectangle((left - shift, top, right - shift - 1, bottom - 1), fill=COLOURS[kind])
    return drawn


def build_street(root: Path) -> Path:
    """Three pictures with labels, and a CrevNet; returns the configuration's file."""
    for number, objects in STREET.items():
        path = root / "street" / "image_2" / f"{number:06d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(objects, number).save(path)
        labels = [KittiObject(kind, tuple(map(float, box)), 0.0, 0) for kind, box in objects]
        write_labels(root / "street" / "label_2" / f"{number:06d}.txt", labels)
    save_crevnet(root / "crevnet.safetensors", tiny())
    (root / "run.yaml").write_text(CONFIG.format(root=root))
    return root / "run.yaml"


def add_preceding(root: Path, number: int) -> None:
    """The three frames before a picture, in which things are further right."""
    folder = root / "street" / "prev_2"
    folder.mkdir(exist_ok=True)
    for back in (1, 2, 3):
        picture(STREET[number], number, -5 * back).save(folder / f"{number:06d}_{back:02d}.png")


def tiny(seed: int = 0, **change) -> CrevNet:
    """A CrevNet of RGB frames whose sizes all differ."""
    given = {"dims": 2, "clip": 2, "blocks": (1, 1), "strides": (1, 2), "modules": 3}
    torch.manual_seed(seed)
    return CrevNet(CrevNetConfig(channels=3, gate_cap=0.9, **(given | change)))


def save_crevnet(path: Path, network: CrevNet, **task) -> Path:
    """Write it as `t4c benchmark` does."""
    given = {"leads": (0,), "history": 4, "channels": ("red", "green", "blue")}
    return save_model(path, network, Task(**(given | task)), {})
