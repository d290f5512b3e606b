"""PredNet (Lotter, Kreiman and Cox, 2016): layers that say what comes and pass on what they missed.

Of each layer l, at each step t (the paper's algorithm 1):

    R_l = ConvLSTM([E_l, R_l of the step before, upsampled R_l+1])     downwards, from the top
    Ahat_l = ReLU(W R_l), of pixels at most their highest value        what is expected
    E_l = [ReLU(A_l - Ahat_l), ReLU(Ahat_l - A_l)]                     what was missed
    A_0 = the frame, A_l+1 = max pooling of ReLU(W E_l)                upwards

A frame is only seen after it was expected: Ahat_0 is the forecast of the next one. A frame said and
fed back is missed by nothing, and R goes on by itself: E_0 is zero for the frame's own channels, on
sizes that need no padding (a map's channels, and pixels beyond the edge, are still missed).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, max_pool2d, relu

from crevnet.comparators.frames import FrameByFrame, FrameShape, State, check_sizes
from crevnet.gates import advance, tanh
from crevnet.layers import lay_channels_last


@dataclass(frozen=True, slots=True)
class PredNetConfig(FrameShape):
    """A PredNet in numbers; as published for KITTI, but for the channels of a frame.

    Attributes:
        widths: Channels of the layers above the pixels, of R and A alike; before each the grid is
            halved. The pixels' layer has a frame's channels, and a map's, which are expected too.
        highest: Pixels are expected in [0, highest]. None bounds nothing, for frames that are
            differences to a base.
    """

    widths: tuple[int, ...] = (48, 96, 192)
    highest: float | None = 1.0

    def __post_init__(self) -> None:
        FrameShape.__post_init__(self)  # slots leave no plain `super()`
        if not 1 <= len(self.widths) <= 16:
            raise ValueError(f"{len(self.widths)} widths, expected 1 to 16")
        check_sizes(self, *self.widths, most=2**31)
        if self.highest is not None and not self.highest > 0:
            raise ValueError(f"highest {self.highest}, expected above 0, or none")

    @property
    def factor(self) -> int:
        """What the sides of a grid are padded to a multiple of."""
        return int(2 ** len(self.widths))

    @property
    def stack(self) -> tuple[int, ...]:
        """Channels of each layer, the pixels' first."""
        return (self.channels + self.static_channels, *self.widths)

    @property
    def layers(self) -> int:
        """A lower bound of the tensors it has."""
        return 3 * len(self.stack)


class Representation(nn.Module):
    """R of a layer, a ConvLSTM without peepholes."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.width = width
        self.gates = nn.Conv2d(inputs, 4 * width, 3, padding=1)  # i, f, g, o
        nn.init.zeros_(cast(Tensor, self.gates.bias))

    def forward(self, seen: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        """Advance one step: from errors, R and R above, side by side, and the cell's state."""
        gates, o = self.gates(seen).split((3 * self.width, self.width), 1)
        cell = advance(gates, cell)
        return torch.sigmoid(o) * tanh(cell), cell


class PredNet(FrameByFrame):
    """Expectations downwards, errors upwards; remembers R and the cell's state of each layer."""

    def __init__(self, config: PredNetConfig) -> None:
        super().__init__(config)
        self.config = config
        stack = config.stack
        self.representations = nn.ModuleList(
            Representation(2 * width + width + above, width)
            for width, above in zip(stack, (*stack[1:], 0), strict=True)
        )
        self.expectations = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for width in stack)
        self.targets = nn.ModuleList(
            nn.Conv2d(2 * width, above, 3, padding=1) for width, above in pairwise(stack)
        )
        for one in (*self.expectations, *self.targets):
            nn.init.zeros_(cast(Tensor, one.bias))
        if config.highest is not None:  # halfway: at neither end does a colour learn anything
            nn.init.constant_(cast(Tensor, self.expectations[0].bias), config.highest / 2)
        lay_channels_last(self)

    def start(self, seen: Tensor) -> State:
        """Return R and cells before any frame: after a step down from zeros."""
        B, H, W = len(seen), *seen.shape[-2:]

        def zeros(times: int) -> list[Tensor]:
            return [
                seen.new_zeros(B, times * width, H // 2**layer, W // 2**layer)
                for layer, width in enumerate(self.config.stack)
            ]

        return self._expect(zeros(2), zeros(1), zeros(1))

    def step(self, seen: Tensor, state: State) -> tuple[Tensor, State]:
        """Advance one step: see a frame that was expected, then say the next one."""
        n = len(self.config.stack)
        after = self._expect(self._miss(seen[:, 0], state[:n]), state[:n], state[n:])
        return self._expected(0, after[0])[:, : self.config.channels], after

    def _expected(self, layer: int, hidden: Tensor) -> Tensor:
        """Return Ahat of a layer."""
        said: Tensor = self.expectations[layer](hidden)
        if layer:
            return relu(said)
        return said if self.config.highest is None else said.clamp(0, self.config.highest)

    def _miss(self, frame: Tensor, hidden: Sequence[Tensor]) -> list[Tensor]:
        """Return E of each layer, upwards."""
        target = frame
        errors: list[Tensor] = []
        for layer, one in enumerate(hidden):
            if layer:
                target = max_pool2d(relu(self.targets[layer - 1](errors[-1])), 2)
            gap = target - self._expected(layer, one)
            errors.append(torch.cat((relu(gap), relu(-gap)), 1))
        return errors

    def _expect(
        self, errors: Sequence[Tensor], hidden: Sequence[Tensor], cells: Sequence[Tensor]
    ) -> State:
        """Return R and cells of each layer, made downwards."""
        new, states = [*hidden], [*cells]
        for layer in reversed(range(len(new))):
            seen = [errors[layer], hidden[layer]]
            if layer + 1 < len(new):
                seen.append(interpolate(new[layer + 1], scale_factor=2.0, mode="nearest"))
            one = cast(Representation, self.representations[layer])
            new[layer], states[layer] = one(torch.cat(seen, 1), cells[layer])
        return (*new, *states)
