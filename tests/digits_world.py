"""A few drawn digits in MNIST's format, and a catalogue of small sets: no two sizes equal."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path

import numpy as np

TRAINING, TEST, KEPT = 23, 9, 5
CANVAS = (40, 36)
FRAMES, HISTORY = 7, 4
CATALOG = """
tiny_digits:
  kind: moving_mnist
  title: Tiny digits
  training: {name: train-images}
  test: {name: test-images}
  validation_digits: 5
  sets:
    authors_test: {motion: authors, digits: 2, split: test, sequences: 6, seed: 3,
      frames: 7, canvas: [40, 36]}
    common_test: {motion: common, digits: 3, split: test, sequences: 6, seed: 3,
      frames: 7, canvas: [40, 36]}
    common_validation: {motion: common, digits: 3, split: validation, sequences: 4,
      seed: 3, frames: 7, canvas: [40, 36]}
"""


@dataclass(frozen=True)
class DigitsWorld:
    """Where it is."""

    root: Path

    @property
    def digits(self) -> Path:
        return self.root / "digits"

    @property
    def catalog(self) -> Path:
        return self.root / "catalog.yaml"

    @property
    def store(self) -> Path:
        return self.root / "store"


def glyphs(count: int, seed: int) -> np.ndarray:
    """Thick strokes, `(count, 28, 28)` uint8, every one of its own."""
    rng = np.random.default_rng(seed)
    images = np.zeros((count, 28, 28), np.uint8)
    for image in images:
        for _ in range(3):
            y, x = rng.integers(3, 18, 2)
            h, w = rng.integers(2, 9, 2)
            image[y : y + h, x : x + w] = rng.integers(60, 256)
    return images


def idx(images: np.ndarray) -> bytes:
    """MNIST's format."""
    sizes = b"".join(size.to_bytes(4, "big") for size in images.shape)
    return b"\0\0\x08\x03" + sizes + images.tobytes()


def build_digits(root: Path) -> DigitsWorld:
    """Write it: one file plain, one gzipped."""
    world = DigitsWorld(root)
    world.digits.mkdir(parents=True)
    (world.digits / "train-images").write_bytes(idx(glyphs(TRAINING, 1)))
    (world.digits / "test-images.gz").write_bytes(gzip.compress(idx(glyphs(TEST, 2)), mtime=0))
    world.catalog.write_text(CATALOG)
    return world
