"""MNIST's digits: from a local folder, or fetched with their checksum."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DigitsError
from pipeline.moving_mnist.entry import DigitFile, DigitSplit, MovingMnist
from pipeline.moving_mnist.idx import read_images


def read_digits(
    entry: MovingMnist, split: DigitSplit, folder: Path, *, fetch: bool = False
) -> NDArray[np.uint8]:
    """Return the digits of a split, `(N, H, W)` uint8.

    Validation digits are the last of the training file, and no training digits.

    Args:
        entry: Of the catalogue.
        split: Which.
        folder: Where the files are, plain or gzipped.
        fetch: Whether a file that is not there may be fetched into the folder.

    Raises:
        DigitsError: A file is missing, damaged or another one, or cannot be fetched.
    """
    file = entry.test if split == "test" else entry.training
    images = read_images(find_file(file, folder, fetch=fetch), file.sha256)
    if split == "test":
        return images
    kept = len(images) - entry.validation_digits
    if kept < 1:
        raise DigitsError(
            f"{folder / file.name}: {len(images)} digits, expected more than the "
            f"{entry.validation_digits} that are kept for validation"
        )
    return images[:kept] if split == "training" else images[kept:]


def find_file(file: DigitFile, folder: Path, *, fetch: bool = False) -> Path:
    """Return where a file of digits is, plain or gzipped.

    Raises:
        DigitsError: It is not there, or cannot be fetched.
    """
    plain, packed = folder / file.name, folder / f"{file.name}.gz"
    for path in (plain, packed):
        if path.is_file():
            return path
    if not fetch:
        raise DigitsError(
            f"{plain}: no such file, and no {packed.name}; put it there, or set `fetch: true`"
        )
    return _fetch(file, packed)


def _fetch(file: DigitFile, target: Path) -> Path:
    """Fetch a gzipped file whole; pooch compares its checksum before it gets its name."""
    import pooch  # brings requests: slow to load, and rarely needed

    if file.archive_sha256 is None or not file.addresses:
        raise DigitsError(f"{target}: the catalogue has no addresses with a checksum for it")
    faults = []
    for address in file.addresses:
        try:
            found = pooch.retrieve(
                address,
                known_hash=f"sha256:{file.archive_sha256}",
                fname=target.name,
                path=target.parent,
            )
        except (OSError, ValueError) as fault:  # requests' errors are OSError
            faults.append(f"{address}: {str(fault).splitlines()[0]}")
        else:
            return Path(found)
    raise DigitsError(f"{target}: cannot be fetched\n" + "\n".join(faults))
