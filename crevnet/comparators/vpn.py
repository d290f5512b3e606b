"""Video pixel networks, VPN (Kalchbrenner et al., 2017), in their parallel form: the baseline.

Encoder, ConvLSTM and decoder all keep the frame's resolution. The paper's full network says a frame
pixel by pixel, each drawn after those before it: thousands of passes a frame, and a likelihood
instead of an error to minimise. Its baseline, here, is the same network without the masks, which
says all pixels at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from crevnet.comparators.frames import (
    FrameByFrame,
    FrameShape,
    State,
    check_kernel,
    check_sizes,
)
from crevnet.comparators.stacked import StackedConfig, WideConvLSTM
from crevnet.gates import tanh
from crevnet.layers import lay_channels_last


@dataclass(frozen=True, slots=True)
class VPNConfig(FrameShape):
    """A video pixel network in numbers and names.

    Attributes:
        width: Channels of its maps, even; inside the blocks half as many.
        encoder: Residual multiplicative blocks before the ConvLSTM.
        decoder: And after it.
        dilations: Of the encoder's blocks, taken in turn.
        kernel: Side of the kernels.
    """

    width: int = 256
    encoder: int = 8
    decoder: int = 12
    dilations: tuple[int, ...] = (1, 2, 4, 8)
    kernel: int = 3

    def __post_init__(self) -> None:
        FrameShape.__post_init__(self)  # slots leave no plain `super()`
        if not self.dilations:
            raise ValueError("no dilations, expected at least 1")
        check_sizes(self, *self.dilations)
        check_sizes(self, self.width, self.encoder, self.decoder, most=2**31)
        check_kernel(self.kernel)
        if self.width % 2:
            raise ValueError(f"a width of {self.width} channels, expected an even one")

    @property
    def layers(self) -> int:
        """A lower bound of the tensors it has."""
        return self.encoder + self.decoder + 1


class MultiplicativeUnit(nn.Module):
    """`g1 tanh(g2 h + g3 u)`: an LSTM's cell without its recurrence."""

    def __init__(self, width: int, kernel: int, dilation: int) -> None:
        super().__init__()
        around = dilation * (kernel // 2)
        self.gates = nn.Conv2d(width, 4 * width, kernel, padding=around, dilation=dilation)

    def forward(self, x: Tensor) -> Tensor:
        """Bend a map."""
        width = x.shape[1]
        opened, u = self.gates(x).split((3 * width, width), 1)
        g1, g2, g3 = torch.sigmoid(opened).chunk(3, 1)
        return g1 * tanh(g2 * x + g3 * tanh(u))


class MultiplicativeBlock(nn.Module):
    """A residual multiplicative block: narrow, two units, widen, add."""

    def __init__(self, width: int, kernel: int, dilation: int = 1) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv2d(width, width // 2, 1),
            MultiplicativeUnit(width // 2, kernel, dilation),
            MultiplicativeUnit(width // 2, kernel, dilation),
            nn.Conv2d(width // 2, width, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Add to a map."""
        added: Tensor = self.residual(x)
        return x + added


class VPN(FrameByFrame):
    """Blocks, a ConvLSTM and blocks, at the resolution of the frame."""

    def __init__(self, config: VPNConfig) -> None:
        super().__init__(config)
        self.config = config
        width, kernel, dilations = config.width, config.kernel, config.dilations
        inputs = config.channels + config.static_channels
        self.encoder = nn.Sequential(
            nn.Conv2d(inputs, width, kernel, padding=kernel // 2),
            *(
                MultiplicativeBlock(width, kernel, dilations[number % len(dilations)])
                for number in range(config.encoder)
            ),
        )
        self.cell = WideConvLSTM(StackedConfig(width=width, kernel=kernel), width)
        self.decoder = nn.Sequential(
            *(MultiplicativeBlock(width, kernel) for _ in range(config.decoder)),
            nn.Conv2d(width, config.channels, 1),
        )
        lay_channels_last(self)

    def start(self, seen: Tensor) -> State:
        """Return zeros: h and c."""
        B, _, _, H, W = seen.shape
        zeros = seen.new_zeros(B, self.config.width, H, W)
        return zeros, zeros

    def step(self, seen: Tensor, state: State) -> tuple[Tensor, State]:
        """Advance one step."""
        hidden, kept, _ = self.cell(self.encoder(seen[:, 0]), *state, None)
        frame: Tensor = self.decoder(hidden)
        return frame, (hidden, kept)
