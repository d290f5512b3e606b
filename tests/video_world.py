"""Small drives in folders and .seq files, written from the formats' descriptions."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
from PIL import Image

CATALOG = """
tiny_drives:
  kind: video
  title: Tiny drives
  reader: pictures
  rate: 10
  height: 24
  width: 28
  frames: camera
  splits:
    training: ["day/*"]
    validation: [day/held]
    test: [day/unseen]
tiny_seq:
  kind: video
  title: Tiny films
  reader: seq
  rate: 30
  every: 3
  height: 24
  width: 28
  splits:
    test: ["set06/V*.seq"]
"""


def movie(count: int, seed: int, size: tuple[int, int] = (30, 50), shift: int = 2) -> np.ndarray:
    """A smooth coloured picture that slides to the left, `(count, H, W, 3)` uint8."""
    rng = np.random.default_rng(seed)
    rough = rng.integers(0, 256, (5, 17, 3), np.uint8)
    wide = Image.fromarray(rough).resize((size[1] + shift * count, size[0]))
    whole = np.asarray(wide)
    return np.stack([whole[:, t * shift : t * shift + size[1]] for t in range(count)])


def write_drive(folder: Path, frames: np.ndarray) -> None:
    folder.mkdir(parents=True)
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"{number:010d}.png")


def seq_header(
    size: tuple[int, int], count: int, code: int, *, whole: int = 0, bits: int = 8, rate: float = 30
) -> bytes:
    """The header, field after field."""
    height, width = size
    name = "Norpix seq\n".encode("utf-16-le")
    head = struct.pack("<I24sii512s", 0xFEED, name, 3, 1024, b"")
    head += struct.pack(
        "<9I", width, height, bits, bits, width * height * bits // 8, code, count, 0, whole
    )
    head += struct.pack("<d", rate)
    return head.ljust(1024, b"\0")


def seq_bytes(
    frames: np.ndarray, kind: str, *, trailer: int = 8, count: int | None = None, code: int = 0
) -> bytes:
    """A film of `(T, H, W)` or `(T, H, W, 3)` frames: `raw`, `JPEG` or `PNG`."""
    code = code or {"raw": 100, "JPEG": 201, "PNG": 2}[kind]
    size, stamp = frames.shape[1:3], b"\x01\x02\x03\x04\x05\x06".ljust(trailer, b"\0")
    counted = len(frames) if count is None else count
    if kind == "raw":
        whole = size[0] * size[1] + len(stamp)
        body = b"".join(frame.tobytes() + stamp for frame in frames)
        return seq_header(size, counted, code, whole=whole) + body
    body = b""
    for frame in frames:
        packed = io.BytesIO()
        Image.fromarray(frame).save(packed, kind, quality=95, subsampling=0)
        data = packed.getvalue()
        body += struct.pack("<I", len(data) + 4) + data + stamp
    return seq_header(size, counted, code, bits=24) + body


def build_drives(root: Path) -> Path:
    """Four drives and a catalogue; returns the drives' folder."""
    for seed, (name, count) in enumerate({"one": 13, "two": 9, "held": 8, "unseen": 10}.items()):
        write_drive(root / "release" / "day" / name / "camera", movie(count, seed))
    (root / "catalog.yaml").write_text(CATALOG)
    return root / "release"
