"""`.seq` files of the Caltech Pedestrian benchmark: a header of 1024 bytes, then frame after frame.

All numbers are little-endian. The header: 0xFEED (uint32) at 0, "Norpix seq" in UTF-16 at 4,
version at 28, header's length at 32 (int32), then from 548 width, height, bits a pixel, real bits,
bytes of an unpacked picture, picture format, frames, origin, bytes of a frame (uint32 each), and
at 584 frames a second (float64). A packed frame is its length (uint32, itself included), a JPEG or
PNG, and 8 or 16 bytes of time stamp and padding; an unpacked grey one fills `bytes of a frame`.
Files come from strangers: everything a file claims is held against its size before it is used.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from pipeline.errors import VideoError

HEADER = 1024
MAGIC = 0xFEED
NAME = "Norpix seq".encode("utf-16-le")
RAW, JPEG, PNG = (100,), (102, 201), (1, 2)
STARTS = {**dict.fromkeys(JPEG, b"\xff\xd8"), **dict.fromkeys(PNG, b"\x89PNG")}
TRAILERS = (8, 16)
LARGEST = 1 << 14


@dataclass(frozen=True, slots=True)
class SeqMovie:
    """Where the frames of a file are; none is decoded.

    Attributes:
        path: The file.
        height: Rows of a picture.
        width: Columns.
        rate: Frames a second, as the header says.
        code: Picture format.
        places: First byte and bytes of every frame.
    """

    path: Path
    height: int
    width: int
    rate: float
    code: int
    places: tuple[tuple[int, int], ...]

    def __len__(self) -> int:
        return len(self.places)

    def pictures(self, every: int = 1) -> Iterator[Image.Image]:
        """Yield every n-th picture, the n-th first, as counted from 1; grey or RGB.

        Raises:
            VideoError: A frame cannot be decoded, or is of another size than the header says.
        """
        with self.path.open("rb") as file:
            for number in range(every - 1, len(self.places), every):
                yield self._decode(file, number)

    def _decode(self, file: io.BufferedReader, number: int) -> Image.Image:
        start, size = self.places[number]
        file.seek(start)
        data = file.read(size)
        where = f"{self.path}: frame {number}"
        if len(data) != size:
            raise VideoError(f"{where}: {len(data)} bytes, expected {size}")
        if self.code in RAW:
            pixels = data[: self.height * self.width]
            return Image.frombytes("L", (self.width, self.height), pixels)
        try:
            picture = Image.open(io.BytesIO(data), formats=("JPEG", "PNG"))
            if picture.size != (self.width, self.height):
                raise VideoError(
                    f"{where}: {picture.height} x {picture.width}, but the header says "
                    f"{self.height} x {self.width}"
                )
            picture.load()
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as fault:
            raise VideoError(f"{where}: cannot be decoded: {fault}") from None
        return picture


def open_seq(path: Path) -> SeqMovie:
    """Return where a file's frames are, once all it claims has been checked.

    Raises:
        VideoError: There is no such file; it is not a .seq file, or of a kind not read here; it
            ends before its frames do, or holds more of them than its header counts.
    """
    try:
        with path.open("rb") as file:
            return _walk(path, file)
    except OSError as fault:
        raise VideoError(f"{path}: {fault.strerror or fault}") from None


def _walk(path: Path, file: io.BufferedReader) -> SeqMovie:
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    head = file.read(HEADER)
    if len(head) < HEADER:
        raise VideoError(f"{path}: {len(head)} bytes, expected a header of {HEADER}")
    magic, name = struct.unpack_from("<I", head)[0], head[4 : 4 + len(NAME)]
    length = struct.unpack_from("<i", head, 32)[0]
    if magic != MAGIC or name != NAME or length != HEADER:
        raise VideoError(
            f"{path}: begins with {head[:4].hex()} and a header of {length}, expected edfe0000, "
            f"'Norpix seq' and {HEADER}: not a .seq file"
        )
    width, height, bits, _, _, code, count, _, whole = struct.unpack_from("<9I", head, 548)
    rate = struct.unpack_from("<d", head, 584)[0]
    if not (0 < width <= LARGEST and 0 < height <= LARGEST):
        raise VideoError(f"{path}: pictures of {height} x {width}, expected 1 to {LARGEST}")
    if code not in (*RAW, *STARTS):
        raise VideoError(
            f"{path}: picture format {code}, expected grey {RAW}, JPEG {JPEG} or PNG {PNG}"
        )
    if not 0 < rate < 1e4:
        raise VideoError(f"{path}: {rate} frames a second, expected above 0")
    if not count:
        raise VideoError(f"{path}: a header that counts no frames")
    if code in RAW:
        if bits != 8 or whole < width * height:
            raise VideoError(
                f"{path}: grey frames of {bits} bits and {whole} bytes, expected 8 bits and "
                f"{width * height} bytes at least"
            )
        places = _even(path, size, count, whole)
    else:
        places = _packed(path, file, size, count, code)
    return SeqMovie(path, height, width, rate, code, tuple(places))


def _even(path: Path, size: int, count: int, whole: int) -> list[tuple[int, int]]:
    there, rest = divmod(size - HEADER, whole)
    if there != count:
        raise VideoError(
            f"{path}: {size} bytes hold {there} frames and {rest} bytes, but the header counts "
            f"{count}"
        )
    return [(HEADER + number * whole, whole) for number in range(count)]


def _packed(
    path: Path, file: io.BufferedReader, size: int, count: int, code: int
) -> list[tuple[int, int]]:
    places: list[tuple[int, int]] = []
    at, trailer = HEADER, 0
    for number in range(count):
        if number == 1:  # the second frame tells how long what follows a frame is
            trailer = next((t for t in TRAILERS if _frame(file, at + t, size, code)), TRAILERS[0])
        at += trailer if number else 0
        length = _frame(file, at, size, code)
        if not length:
            raise VideoError(
                f"{path}: no whole frame {number} of {count} at byte {at} of {size}: truncated "
                "or damaged"
            )
        places.append((at + 4, length - 4))
        at += length
    beyond = (trailer,) if count > 1 else TRAILERS
    if any(_frame(file, at + more, size, code) for more in beyond):
        raise VideoError(f"{path}: another frame after the {count} that the header counts")
    return places


def _frame(file: io.BufferedReader, at: int, size: int, code: int) -> int:
    """Return the length of the frame at a byte, its own four bytes included; 0 if none is there."""
    begins = STARTS[code]
    file.seek(at)
    head = file.read(4 + len(begins))
    if len(head) < 4 + len(begins) or head[4:] != begins:
        return 0
    length = int(struct.unpack_from("<I", head)[0])
    return length if len(head) <= length <= size - at else 0
