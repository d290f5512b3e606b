"""One picture to one frame, as PredNet cuts them: resized by height, then cropped in the middle.

Nothing is distorted: 375 x 1242 becomes 128 x 424, of which columns 132 to 291 stay; 480 x 640
becomes 128 x 171, of which columns 5 to 164 stay. Bilinear, as Pillow resizes (Lotter et al. 2017
used it by way of SciPy). Frames are RGB bytes; grey pictures say the same in all three channels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

MODES = ("L", "RGB")


def crop_picture(picture: Image.Image, height: int = 128, width: int = 160) -> NDArray[np.uint8]:
    """Return a picture's frame, `(height, width, 3)` uint8, RGB.

    Raises:
        ValueError: It is neither grey nor RGB with 8 bits, or too narrow.
    """
    if picture.mode not in MODES:
        raise ValueError(f"a picture of mode {picture.mode}, expected one of {MODES}")
    columns = round(picture.width * height / picture.height)
    if columns < width:
        raise ValueError(
            f"{picture.height} x {picture.width} is {columns} wide at a height of {height}, "
            f"expected {width} at least"
        )
    resized = picture.resize((columns, height), Image.Resampling.BILINEAR)
    left = (columns - width) // 2
    cropped = resized.crop((left, 0, left + width, height)).convert("RGB")
    return np.array(cropped, dtype=np.uint8)
