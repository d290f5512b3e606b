"""What cells do between convolutions: element by element, fused where a CPU is slow at it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def advance(gates: Tensor, state: Tensor) -> Tensor:
    """Return `sigmoid(f) * state + sigmoid(i) * tanh(g)`, the cell of an LSTM one step on.

    Args:
        gates: What the convolutions say of i, f and g, side by side: `(B, 3 * C, ...)`.
        state: `(B, C, ...)`.
    """
    if gates.device.type == "cpu" and gates.dtype == state.dtype != torch.bfloat16:
        advanced: Tensor = _Advance.apply(gates, state)
        return advanced
    i, f, g = gates.chunk(3, 1)
    return torch.sigmoid(f) * state + torch.sigmoid(i) * torch.tanh(g)


def tanh(x: Tensor) -> Tensor:
    """Return the hyperbolic tangent; on a CPU by the sigmoid, which is several times as fast."""
    if x.device.type == "cpu" and x.dtype != torch.bfloat16:
        bent: Tensor = _Tanh.apply(x)
        return bent
    return torch.tanh(x)


def _tanh(x: Tensor) -> Tensor:
    return torch.sigmoid(x * 2).mul_(2).sub_(1)


class _Tanh(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        said = _tanh(x)
        ctx.save_for_backward(said)
        return said

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (said,) = ctx.saved_tensors
        back: Tensor = grad * (1 - said * said)
        return back


class _Advance(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gates: Tensor, state: Tensor) -> Tensor:
        width = state.shape[1]
        opened = torch.sigmoid(gates[:, : 2 * width])  # i, f
        new = _tanh(gates[:, 2 * width :])
        i, f = opened.chunk(2, 1)
        ctx.save_for_backward(opened, new, state)
        return torch.addcmul(f * state, i, new)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        opened, new, state = ctx.saved_tensors
        width = state.shape[1]
        i, f = opened.chunk(2, 1)
        back = torch.empty_strided(
            (len(new), 3 * width, *new.shape[2:]), _strides(new, 3 * width), dtype=new.dtype
        )
        torch.mul(grad, new, out=back[:, :width])
        torch.mul(grad, state, out=back[:, width : 2 * width])
        back[:, : 2 * width] *= opened * (1 - opened)
        torch.mul(grad, i, out=back[:, 2 * width :]).mul_(1 - new * new)
        return back, grad * f


def _strides(like: Tensor, channels: int) -> tuple[int, ...]:
    """Return the strides of a tensor of more channels, in the order of another's."""
    shape = (len(like), channels, *like.shape[2:])
    order = sorted(range(like.dim()), key=lambda axis: (like.stride(axis), -axis))
    strides, step = [0] * like.dim(), 1
    for axis in order:
        strides[axis] = step
        step *= shape[axis]
    return tuple(strides)
