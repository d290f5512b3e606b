"""Folded recurrent networks, FRNN (Oliu et al., 2018): encoder and decoder share their states.

Each unit has gates in both directions. A history is only encoded, a forecast only decoded: nothing
that was said is seen again, so there are no one-step predictions on the way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import conv_transpose2d, interpolate, max_pool2d
from torch.utils.checkpoint import checkpoint

from crevnet.autoencoder import MemoryMode
from crevnet.comparators.frames import FrameShape, check_kernel, check_sizes
from crevnet.comparators.stages import check_frames
from crevnet.gates import tanh
from crevnet.layers import lay_channels_last
from crevnet.padding import crop, pad


@dataclass(frozen=True, slots=True)
class FRNNConfig(FrameShape):
    """A folded recurrent network in numbers and names; as published for Moving MNIST.

    Attributes:
        filters: Channels of the convolutions next to the frame, of kernel 5.
        units: Channels of the double-mapping units; the grid is halved before every second one.
        kernels: Side of each unit's kernels.
    """

    filters: tuple[int, ...] = (32, 64)
    units: tuple[int, ...] = (128, 128, 256, 256, 512, 512, 256, 256)
    kernels: tuple[int, ...] = (5, 5, 5, 5, 3, 3, 3, 3)

    def __post_init__(self) -> None:
        FrameShape.__post_init__(self)  # slots leave no plain `super()`
        if not self.filters or not self.units or len(self.units) != len(self.kernels):
            raise ValueError(
                f"{len(self.filters)} filters, {len(self.units)} units, {len(self.kernels)} "
                "kernels: expected at least a filter and a unit, and as many kernels"
            )
        check_sizes(self, *self.filters, *self.units, most=2**31)
        if len(self.units) > 16:
            raise ValueError(f"{len(self.units)} units, expected at most 16")
        for kernel in self.kernels:
            check_kernel(kernel)

    @property
    def factor(self) -> int:
        """What the sides of a grid are padded to a multiple of."""
        return int(2 ** ((len(self.units) + 1) // 2))

    @property
    def layers(self) -> int:
        """A lower bound of the tensors it has."""
        return len(self.filters) + len(self.units)


class FoldedConvolution(nn.Module):
    """A convolution and its transpose, with the same weights and a bias each way."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.up = nn.Conv2d(inputs, outputs, 5, padding=2)
        self.bias_down = nn.Parameter(torch.zeros(inputs))

    def forward(self, x: Tensor) -> Tensor:
        """Go away from the frame; bounded by a hyperbolic tangent."""
        return tanh(self.up(x))

    def inverse(self, x: Tensor) -> Tensor:
        """Go towards the frame; not bounded, and no true inverse."""
        return conv_transpose2d(x, self.up.weight, self.bias_down, padding=2)


class DoubleGRU(nn.Module):
    """A GRU whose input is a state too, with a second set of gates to update it.

    `encode`: `h' = (1 - z) h + z tanh(W [x, r h])`, r and z from `[x, h]`. `decode`: the same with
    x and h in each other's place.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__()

        def conv(channels: int) -> nn.Conv2d:
            return nn.Conv2d(inputs + outputs, channels, kernel, padding=kernel // 2)

        self.gates, self.new = conv(2 * outputs), conv(outputs)
        self.gates_down, self.new_down = conv(2 * inputs), conv(inputs)
        self.first = nn.Parameter(torch.zeros(outputs, 1, 1))

    def encode(self, x: Tensor, hidden: Tensor) -> Tensor:
        """Return the new state, from what is below it."""
        reset, update = torch.sigmoid(self.gates(torch.cat((x, hidden), 1))).chunk(2, 1)
        return _mix(hidden, tanh(self.new(torch.cat((x, reset * hidden), 1))), update)

    def decode(self, x: Tensor, hidden: Tensor) -> Tensor:
        """Return the new input, from the state above it."""
        reset, update = torch.sigmoid(self.gates_down(torch.cat((x, hidden), 1))).chunk(2, 1)
        return _mix(x, tanh(self.new_down(torch.cat((reset * x, hidden), 1))), update)


def _mix(old: Tensor, new: Tensor, share: Tensor) -> Tensor:
    return torch.lerp(old, new.to(old.dtype), share.to(old.dtype))


class FRNN(nn.Module):
    """Double-mapping units upon each other; the topmost state alone advances by itself.

    Shapes:
        Frames `(B, T, C, H, W)`, any H and W; static map `(B, S, H, W)`.
    """

    def __init__(self, config: FRNNConfig) -> None:
        super().__init__()
        self.config = config
        below = (config.channels + config.static_channels, *config.filters)
        self.filters = nn.ModuleList(FoldedConvolution(ins, outs) for ins, outs in pairwise(below))
        wide = (config.filters[-1], *config.units)
        self.units = nn.ModuleList(
            DoubleGRU(ins, outs, kernel)
            for ins, outs, kernel in zip(wide[:-1], wide[1:], config.kernels, strict=True)
        )
        lay_channels_last(self)

    def unroll(
        self,
        history: Tensor,
        horizon: int,
        static: Tensor | None = None,
        *,
        memory: MemoryMode = "plain",
    ) -> Tensor:
        """Encode a history, then decode the next frames.

        Args:
            history: `(B, T, C, H, W)`, at least a frame.
            horizon: Frames to look ahead, at least 1.
            static: `(B, S, H, W)` for a config with static channels.
            memory: *plain* keeps activations for backward; *frugal* makes each step's again.

        Returns:
            `(B, horizon, C, H, W)`, not bounded.

        Raises:
            ValueError: No frames, no horizon, other channels, or a map missing or unasked for.
        """
        config, (H, W) = self.config, history.shape[-2:]
        check_frames(history, static, config.channels, config.static_channels, 1)
        if horizon < 1:
            raise ValueError(f"a horizon of {horizon} frames, expected at least 1")
        frugal = memory == "frugal" and torch.is_grad_enabled()
        states: tuple[Tensor, ...] = ()
        bottom = history
        for frame in history.unbind(1):
            seen = frame if static is None else torch.cat((frame, static), 1)
            bottom, *after = _run(frugal, self._see, pad(seen, config.factor), *states)
            states = tuple(after)
        inputs = tuple(self._lift(number, h) for number, h in enumerate((bottom, *states[:-1])))
        flow, said = (*inputs, states[-1]), []
        for _ in range(horizon):
            frame, *after = _run(frugal, self._say, *flow)
            flow = tuple(after)
            said.append(crop(frame[:, : config.channels], H, W))
        return torch.stack(said, 1)

    def forward(self, history: Tensor, static: Tensor | None = None) -> Tensor:
        """Say the frame after a history, `(B, 1, C, H, W)`."""
        return self.unroll(history, 1, static)

    def _lift(self, number: int, x: Tensor) -> Tensor:
        """Halve the grid below every second unit, the first one too."""
        return x if number % 2 else max_pool2d(x, 2)

    def _see(self, frame: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """Encode a frame: what the filters say of it, and the state of each unit."""
        x = frame
        for one in self.filters:
            x = one(x)
        bottom, after = x, []
        for number, unit in enumerate(self._units()):
            x = self._lift(number, x)
            h = states[number] if states else unit.first.expand(len(x), -1, *x.shape[-2:])
            x = unit.encode(x, h)
            after.append(x)
        return (bottom, *after)

    def _say(self, *flow: Tensor) -> tuple[Tensor, ...]:
        """Decode a frame: it, the new input of each unit, and the topmost state."""
        *inputs, top = flow
        x, after = top, list(inputs)
        for number in reversed(range(len(inputs))):
            x = after[number] = self._units()[number].decode(inputs[number], x)
            x = x if number % 2 else interpolate(x, scale_factor=2.0, mode="nearest")
        for number in reversed(range(len(self.filters))):
            x = cast(FoldedConvolution, self.filters[number]).inverse(x)
            x = tanh(x) if number else x
        return (x, *after, self._units()[-1].encode(after[-1], top))

    def _units(self) -> list[DoubleGRU]:
        return [cast(DoubleGRU, unit) for unit in self.units]


def _run(
    frugal: bool, function: Callable[..., tuple[Tensor, ...]], *inputs: Tensor
) -> tuple[Tensor, ...]:
    if not frugal:
        return function(*inputs)
    said: tuple[Tensor, ...] = checkpoint(function, *inputs, use_reentrant=False)
    return said
