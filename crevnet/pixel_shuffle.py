"""The bijective down-sampling: space into channels and back, exact to the bit."""

from __future__ import annotations

from torch import Tensor


def unshuffle(x: Tensor, factor: int) -> Tensor:
    """Move `factor` x `factor` patches of space into channels.

    Channels come out in the order (row in the patch, column in the patch, channel), so the first
    half of them holds the even rows.

    Shapes:
        `(B, C, ..., H, W)` in, `(B, C * factor**2, ..., H / factor, W / factor)` out.

    Raises:
        ValueError: A side does not divide.
    """
    if factor == 1:
        return x
    *front, H, W = x.shape
    B, C, depth = front[0], front[1], front[2:]
    if H % factor or W % factor:
        raise ValueError(f"a map of {H} x {W} does not divide into patches of {factor} x {factor}")
    h, w, d = H // factor, W // factor, len(depth)
    x = x.reshape(B, C, *depth, h, factor, w, factor)
    rows, columns = 3 + d, 5 + d  # where the patch's row and column stand
    x = x.permute(0, rows, columns, 1, *range(2, 2 + d), 2 + d, 4 + d)  # (B, k, k, C, ..., h, w)
    return x.reshape(B, factor * factor * C, *depth, h, w)


def shuffle(x: Tensor, factor: int) -> Tensor:
    """Move channels back into patches of space; undoes `unshuffle`.

    Shapes:
        `(B, C * factor**2, ..., h, w)` in, `(B, C, ..., h * factor, w * factor)` out.

    Raises:
        ValueError: The channels do not divide.
    """
    if factor == 1:
        return x
    *front, h, w = x.shape
    B, channels, depth = front[0], front[1], front[2:]
    if channels % factor**2:
        raise ValueError(f"{channels} channels do not make patches of {factor} x {factor}")
    C, d = channels // factor**2, len(depth)
    x = x.reshape(B, factor, factor, C, *depth, h, w)
    x = x.permute(0, 3, *range(4, 4 + d), 4 + d, 1, 5 + d, 2)  # (B, C, ..., h, k, w, k)
    return x.reshape(B, C, *depth, h * factor, w * factor)
