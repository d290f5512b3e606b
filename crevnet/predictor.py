"""Reversible predictive modules: a recurrent coupling with a weighted sum (paper, section 2.2)."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from crevnet.cells import CELLS, AnyCell
from crevnet.config import Attention, Cell
from crevnet.coupling import Halves
from crevnet.layers import Dims, convolution
from crevnet.memory import Memory


class PredictorShape(Protocol):
    """What shapes a predictor; a `CrevNetConfig` is one."""

    @property
    def dims(self) -> Dims:
        """2 or 3."""

    @property
    def width(self) -> int:
        """Channels of each half."""

    @property
    def cell(self) -> Cell:
        """Kind of its cells."""

    @property
    def attention(self) -> Attention:
        """Kind of its gates."""

    @property
    def modules(self) -> int:
        """How many RPMs."""

    @property
    def gate_cap(self) -> float:
        """Gates are at most this."""

    @property
    def gate_bias(self) -> float:
        """What the gates' logits start at."""


class IllConditionedError(ArithmeticError):
    """A step cannot be undone: its gates are too near 1 for the arithmetic in use."""


def attention(dims: Dims, width: int, kind: Attention) -> nn.Sequential:
    """Return what turns a hidden state into gate logits.

    *single*: one 1x1 convolution (appendix B). *double*: `W2 * ReLU(W1 * h + b1) + b2` with
    kernels of 3 (section 2.2). *deep*: 1x1, 3x3 and 1x1 with GroupNorm and ReLU between (as
    released for Traffic4cast).
    """
    if kind == "single":
        return nn.Sequential(convolution(dims, width, width, 1))
    if kind == "double":
        return nn.Sequential(
            convolution(dims, width, width, 3), nn.ReLU(), convolution(dims, width, width, 3)
        )
    return nn.Sequential(
        convolution(dims, width, width, 1),
        nn.GroupNorm(1, width),
        nn.ReLU(),
        convolution(dims, width, width, 3),
        nn.GroupNorm(1, width),
        nn.ReLU(),
        convolution(dims, width, width, 1),
    )


class PredictiveModule(nn.Module):
    """One RPM: `(a, b) -> ((1 - g) b + g h, a)` with `h` from a cell that sees `a`."""

    def __init__(self, config: PredictorShape) -> None:
        super().__init__()
        self.cell: AnyCell = CELLS[config.cell](config.dims, config.width)
        self.attention = attention(config.dims, config.width, config.attention)
        self.gate_cap = config.gate_cap
        if config.gate_bias:
            last = self.attention[-1]
            nn.init.constant_(last.get_parameter("bias"), config.gate_bias)

    def gate(self, hidden: Tensor) -> Tensor:
        """Return how much of the other half is replaced, in (0, `gate_cap`)."""
        return self.gate_cap * torch.sigmoid(self.attention(hidden))


class Predictor(nn.Module):
    """A stack of RPMs that alternate between the halves; M zigzags from the top to the next step.

    Shapes:
        Each half `(B, width, [D,] h, w)`, in and out.
    """

    def __init__(self, config: PredictorShape) -> None:
        super().__init__()
        self.rpms = nn.ModuleList(PredictiveModule(config) for _ in range(config.modules))
        self.spatial = CELLS[config.cell].spatial

    def start(self, like: Tensor) -> Memory:
        """Return the memory before the first step, for a feature map's batch, size and device."""
        return Memory.zeros(like, len(self.rpms), spatial=self.spatial)

    def forward(self, halves: Halves, memory: Memory) -> tuple[Halves, Memory]:
        """Advance one step: from the features of now to those of next."""
        a, b = halves
        hidden, cell, spatial = [], [], []
        m = memory.spatial_in
        for rpm, h, c in zip(self._rpms(), memory.hidden, memory.cell, strict=True):
            h, c, m = rpm.cell(a, h, c, m)
            g = rpm.gate(h)
            a, b = torch.lerp(b, h.to(b.dtype), g.to(b.dtype)), a  # autocast mixes types
            hidden.append(h)
            cell.append(c)
            if m is not None:
                spatial.append(m)
        return (a, b), Memory(tuple(hidden), tuple(cell), tuple(spatial))

    def gates(self, after: Memory) -> tuple[Tensor, ...]:
        """Return each module's gate in the step that left a memory: the paper's attention masks.

        A gate follows from the module's hidden state alone, which the memory holds.

        Args:
            after: What `forward` returned.

        Returns:
            A `(B, width, [D,] h, w)` for each module, in (0, `gate_cap`).
        """
        return tuple(
            rpm.gate(hidden) for rpm, hidden in zip(self._rpms(), after.hidden, strict=True)
        )

    def invert(
        self, halves: Halves, before: Memory, after: Memory, *, limit: float = 1e6
    ) -> tuple[Halves, float]:
        """Undo a step: from the features of next to those of now (paper, eq. 5, appendix B).

        Args:
            halves: What `forward` returned.
            before: The memory that entered the step.
            after: The memory that left it; its M of each module is what entered the one above.
            limit: Condition number above which nothing is returned.

        Returns:
            The halves that entered the step, and the condition number: the product over the modules
            of the largest `1 / (1 - g)`, by which rounding errors may have grown.

        Raises:
            IllConditionedError: The condition number is over the limit, or not a number.
        """
        a, b = halves
        condition = 1.0
        for number in reversed(range(len(self.rpms))):
            rpm = self._rpms()[number]
            m = before.spatial_in if number == 0 else None
            if self.spatial and number > 0:
                m = after.spatial[number - 1]
            h, _, _ = rpm.cell(b, before.hidden[number], before.cell[number], m)
            g = rpm.gate(h)
            condition *= float(1 / (1 - g.detach().max()))
            if not 0 < condition <= limit:
                raise IllConditionedError(
                    f"condition number {condition:.3g} at module {number + 1} of "
                    f"{len(self.rpms)}, over {limit:.3g}: cap the gates or use float64"
                )
            a, b = b, (a - g * h) / (1 - g)
        return (a, b), condition

    def _rpms(self) -> list[PredictiveModule]:
        return [rpm for rpm in self.rpms if isinstance(rpm, PredictiveModule)]
