"""Fixed sets as the cities' days are stored: netCDF-4, a sequence a chunk, and what it was made of.

A set is drawn once. Its manifest is written after it, so a set with a manifest is whole; the
checksum is of the frames, not of the file, and is compared with the catalogue's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.atomic import write_json
from pipeline.errors import DigitsError
from pipeline.heatmaps import store_writer
from pipeline.layout import Axis
from pipeline.moving_mnist.digits import find_file, read_digits
from pipeline.moving_mnist.entry import FixedSet, MovingMnist
from pipeline.moving_mnist.motion import MOTIONS
from pipeline.sources.moving_mnist import DrawnSequences, StoredSequences

VERSION = 1
Tick = Callable[[str], None]


def drawn_set(
    entry: MovingMnist, name: str, folder: Path, *, fetch: bool = False, history: int = 10
) -> DrawnSequences:
    """Return a fixed set as it is drawn.

    Raises:
        DigitsError: There is no such set, or its digits are missing or other ones.
    """
    if name not in entry.sets:
        raise DigitsError(f"{entry.name}: no set {name!r}; there are {sorted(entry.sets)}")
    chosen = entry.sets[name]
    glyphs = read_digits(entry, chosen.split, folder, fetch=fetch)
    return DrawnSequences(
        glyphs,
        MOTIONS[chosen.motion],
        chosen.digits,
        chosen.seed,
        purpose_of(chosen),
        chosen.sequences,
        chosen.frames,
        chosen.canvas,
        history,
    )


def purpose_of(chosen: FixedSet) -> str:
    """Return what a set's random numbers are for."""
    return f"{chosen.split} {chosen.motion} {chosen.digits}"


def keep_set(
    entry: MovingMnist,
    name: str,
    folder: Path,
    store: Path,
    *,
    fetch: bool = False,
    history: int = 10,
    progress: Tick | None = None,
) -> StoredSequences:
    """Return a fixed set from the store; draw it first, if it is not there.

    Args:
        entry: Of the catalogue.
        name: Of the set.
        folder: Where the files of digits are.
        store: Where sets are kept: `<name>.nc` and `<name>.json`.
        fetch: Whether digits may be fetched.
        history: Frames of a clip that a model sees.
        progress: Called for each sequence that is drawn.

    Raises:
        DigitsError: The set's frames have not the catalogue's checksum, or a file is missing, or
            the stored set was made of other things.
    """
    if name not in entry.sets:
        raise DigitsError(f"{entry.name}: no set {name!r}; there are {sorted(entry.sets)}")
    chosen = entry.sets[name]
    path, manifest = store / f"{name}.nc", store / f"{name}.json"
    shape = (chosen.sequences, chosen.frames, *chosen.canvas, 1)
    if manifest.is_file():
        check_manifest(manifest, entry, chosen)
    else:
        source = drawn_set(entry, name, folder, fetch=fetch, history=history)
        file = entry.test if chosen.split == "test" else entry.training
        digest = write_set(path, source, progress)
        if chosen.sha256 is not None and digest != chosen.sha256:
            path.unlink()
            raise DigitsError(f"{path}: frames of sha256 {digest}, expected {chosen.sha256}")
        facts = made_for(entry, chosen) | {"digits_file": find_file(file, folder).name}
        size = path.stat().st_size
        write_json(manifest, facts | {"frames_sha256": digest, "stored_bytes": size})
    return StoredSequences(path, shape, history)


def write_set(path: Path, source: DrawnSequences, progress: Tick | None = None) -> str:
    """Write sequences whole; return the sha256 of their frames, sequence by sequence."""
    digest = hashlib.sha256()
    rows, columns = source.canvas
    sizes = (("sequence", len(source)), ("time", source.frames), ("y", rows), ("x", columns))
    axes = [Axis(name, np.arange(size), {}) for name, size in sizes]
    axes.append(Axis("channel", np.array(["brightness"]), {}))
    title = {"title": f"Moving MNIST: {source.purpose}", "seed": str(source.seed)}
    with store_writer(path, axes, title) as dataset:
        for index in range(len(source)):
            movie = source.movie(index)
            digest.update(movie.tobytes())
            dataset[index] = movie[..., None]
            if progress is not None:
                progress(str(index))
    return digest.hexdigest()


def made_for(entry: MovingMnist, chosen: FixedSet) -> dict[str, Any]:
    """Return all that decides a set's frames, as plain values."""
    file = entry.test if chosen.split == "test" else entry.training
    facts = {name: value for name, value in asdict(chosen).items() if name != "sha256"}
    return {
        "version": VERSION,
        **facts,
        "canvas": list(chosen.canvas),
        "digits_sha256": file.sha256,
        "validation_digits": entry.validation_digits,
    }


def check_manifest(path: Path, entry: MovingMnist, chosen: FixedSet) -> str:
    """Return the checksum of a stored set's frames.

    Raises:
        DigitsError: The manifest is damaged, or of another set; or the set's file is gone.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        digest, size = str(found["frames_sha256"]), int(found["stored_bytes"])
    except (OSError, ValueError, KeyError, TypeError) as fault:
        raise DigitsError(f"{path}: not a set's manifest: {fault}; delete it") from None
    wanted = made_for(entry, chosen)
    if chosen.sha256 is not None:
        wanted["frames_sha256"] = chosen.sha256
    differing = {key: found.get(key) for key in wanted if found.get(key) != wanted[key]}
    if differing:
        expected = {key: wanted[key] for key in differing}
        raise DigitsError(f"{path}: a set with {differing}, expected {expected}; delete it")
    data = path.with_suffix(".nc")
    there = data.stat().st_size if data.is_file() else None
    if there != size:
        raise DigitsError(f"{data}: {there} bytes, expected {size}; delete {path.name} too")
    return digest
