"""A frame in, the next frame out: how recurrent networks are unrolled, whatever their cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import pad as pad_with
from torch.utils.checkpoint import checkpoint

from crevnet.autoencoder import MemoryMode
from crevnet.comparators.stages import check_frames
from crevnet.padding import crop, pad
from crevnet.plain import from_plain, to_plain

State = tuple[Tensor, ...]
"""What a network remembers, flat: which tensor is which, it knows itself."""


@dataclass(frozen=True, slots=True)
class FrameShape:
    """What every network of frames is shaped by.

    Attributes:
        channels: Channels of a frame.
        static_channels: Planes of a map, appended to each frame.
    """

    channels: int = 1
    static_channels: int = 0

    def __post_init__(self) -> None:
        if self.channels < 1 or self.static_channels < 0:
            raise ValueError(f"{self}: every size is at least 1")

    @property
    def norm(self) -> Literal["none", "group", "batch"]:
        """What normalises: nothing that sees other samples, unless a network says so."""
        return "none"

    @property
    def factor(self) -> int:
        """What the sides of a grid are padded to a multiple of."""
        return 1

    def to_dict(self) -> dict[str, Any]:
        """Return the same as plain values."""
        return to_plain(self)

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> Self:
        """Return a config from plain values.

        Raises:
            ValueError: A key is unknown, or a value is not allowed.
        """
        return from_plain(cls, value)


def check_sizes(config: object, *sizes: int, most: int = 4096) -> None:
    """Refuse sizes that no network has.

    Raises:
        ValueError: One is below 1, or above `most`.
    """
    if min(sizes) < 1:
        raise ValueError(f"{config}: every size is at least 1")
    if max(sizes) > most:
        raise ValueError(f"{config}: sizes of up to {max(sizes)}, expected at most {most}")


def check_kernel(kernel: int) -> None:
    """Refuse a kernel without a middle.

    Raises:
        ValueError: It is even, below 1 or above 63.
    """
    if kernel % 2 == 0 or not 1 <= kernel <= 63:
        raise ValueError(f"kernel {kernel}, expected an odd one from 1 to 63")


@dataclass(frozen=True, slots=True)
class PatchedStack(FrameShape):
    """What every stack of cells on patches of a frame is shaped by.

    Attributes:
        patch: Side of the patches whose pixels become channels.
        cells: How many are stacked.
        width: Channels of each.
        kernel: Side of the kernels.
        bias: Whether convolutions have biases; the published counts are without.
        forget_bias: Added to the logits of forget gates.
    """

    patch: int = 4
    cells: int = 4
    width: int = 128
    kernel: int = 5
    bias: bool = True
    forget_bias: float = 1.0

    def __post_init__(self) -> None:
        FrameShape.__post_init__(self)  # slots leave no plain `super()`
        check_sizes(self, self.patch, self.cells)
        check_sizes(self, self.width, most=2**31)
        check_kernel(self.kernel)

    @property
    def factor(self) -> int:
        """What the sides of a grid are padded to a multiple of."""
        return self.patch

    @property
    def layers(self) -> int:
        """A lower bound of the tensors it has."""
        return self.cells + 1


class FrameByFrame(nn.Module):
    """Says the next frame from the last few; a subclass says how, in `start` and `step`.

    Shapes:
        Frames `(B, T, C, H, W)`, any H and W; static map `(B, S, H, W)`.
    """

    def __init__(self, shape: FrameShape, *, sees: int = 1) -> None:
        super().__init__()
        self.shape, self.sees = shape, sees

    def start(self, seen: Tensor) -> State:
        """Return what is remembered before a first step on what it will see."""
        raise NotImplementedError

    def step(self, seen: Tensor, state: State) -> tuple[Tensor, State]:
        """Advance one step.

        Args:
            seen: The last frames `(B, sees, C + S, H, W)`, the map beside each; both sides are
                multiples of the config's factor.
            state: What `start` or the step before returned.

        Returns:
            The next frame `(B, C, H, W)`, not bounded, and the state after.
        """
        raise NotImplementedError

    def unroll(
        self,
        history: Tensor,
        horizon: int,
        static: Tensor | None = None,
        *,
        memory: MemoryMode = "plain",
    ) -> Tensor:
        """Say every next frame of a history, then look ahead, each frame said fed back as it is.

        Args:
            history: `(B, T, C, H, W)`, with T at least the frames of a step.
            horizon: Frames to look ahead, at least 1.
            static: `(B, S, H, W)` for a config with static channels.
            memory: *plain* keeps activations for backward; *frugal* makes each step's again.

        Returns:
            `(B, T - sees + horizon, C, H, W)`, not bounded: frames `sees .. T + horizon - 1`. The
            last `horizon` are the forecast; each before them is said from true frames.

        Raises:
            ValueError: Too few frames, no horizon, other channels, or a map missing or unasked for.
        """
        shape = self.shape
        check_frames(history, static, shape.channels, shape.static_channels, self.sees)
        if horizon < 1:
            raise ValueError(f"a horizon of {horizon} frames, expected at least 1")
        frames, said = list(history.unbind(1)), []
        T, (H, W) = len(frames), history.shape[-2:]
        frugal = memory == "frugal" and torch.is_grad_enabled()
        state: State | None = None
        for last in range(self.sees - 1, T + horizon - 1):
            recent = torch.stack(frames[last + 1 - self.sees : last + 1], 1)
            if static is not None:
                recent = torch.cat((recent, static[:, None].expand(-1, self.sees, -1, -1, -1)), 2)
            seen = pad(recent, shape.factor)
            state = self.start(seen) if state is None else state
            if frugal:
                frame, *after = checkpoint(self._flat, seen, *state, use_reentrant=False)
                state = tuple(after)
            else:
                frame, state = self.step(seen, state)
            said.append(crop(frame, H, W))
            if last + 1 >= T:
                frames.append(said[-1].to(history.dtype))
        return torch.stack(said, 1)

    def forward(self, history: Tensor, static: Tensor | None = None) -> Tensor:
        """Say the frame after each of a history, `(B, T, C, H, W)`."""
        return self.unroll(history, 1, static)

    def _flat(self, seen: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        frame, after = self.step(seen, state)
        return (frame, *after)


class Forgetting(nn.Module):
    """Adds a constant to the logits of forget gates, where i, f, g, ... lie side by side.

    Not a parameter: cells without biases have it too.
    """

    bias: Tensor

    def __init__(self, width: int, gates: int, dims: int, bias: float) -> None:
        super().__init__()
        where = torch.zeros(gates * width, *[1] * dims)
        where[width : 2 * width] = bias
        self.register_buffer("bias", where, persistent=False)

    def forward(self, gates: Tensor) -> Tensor:
        """Shift the second of the gates."""
        return gates + self.bias


def pad_depth(x: Tensor, kernel: int) -> Tensor:
    """Pad the depth of `(B, C, D, H, W)` so that a kernel keeps it, the odd one out at the end."""
    before = (kernel - 1) // 2
    return pad_with(x, (0, 0, 0, 0, before, kernel - 1 - before))
