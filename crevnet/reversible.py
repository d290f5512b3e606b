"""Coupling blocks that keep no activations: what backward needs, it makes again by inversion."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.func import functional_call

from crevnet.coupling import CouplingBlock, Halves
from crevnet.pixel_shuffle import shuffle, unshuffle

PIECE = 2**19
"""Values of a half that pass through all blocks at a time: their working set fits a cache."""


def run_forward(
    blocks: Sequence[CouplingBlock],
    halves: Halves,
    layout: torch.memory_format = torch.contiguous_format,
) -> Halves:
    """Encode through all blocks, keeping the outputs of the last alone for backward.

    These are laid out as asked before they are kept: whoever goes on with them needs no copy.
    """
    return _run(blocks, halves, layout, encode=True)


def run_inverse(blocks: Sequence[CouplingBlock], halves: Halves) -> Halves:
    """Decode through all blocks, last to first, keeping the outputs alone for backward."""
    return _run(blocks[::-1], halves, torch.contiguous_format, encode=False)


def _run(
    blocks: Sequence[CouplingBlock], halves: Halves, layout: torch.memory_format, *, encode: bool
) -> Halves:
    for block in blocks:
        for module in block.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training:
                raise ValueError(
                    "BatchNorm in training is not inverted: its statistics would count every batch "
                    "twice; use norm='group' or memory='plain'"
                )
    parameters = {id(p): p for block in blocks for p in block.parameters()}.values()
    a, b = _Reversible.apply(tuple(blocks), encode, layout, *halves, *parameters)
    return a, b


@dataclass(frozen=True, slots=True)
class _Climate:
    """What a recomputation must find as the first computation did: autocast and dice."""

    device: str
    autocast: bool
    dtype: torch.dtype
    dice: tuple[Tensor, Tensor | None] | None

    @classmethod
    def here(cls, block: CouplingBlock, x: Tensor) -> _Climate:
        device = x.device.type
        rolls = any(isinstance(m, nn.Dropout) and m.training and m.p for m in block.modules())
        dice = None
        if rolls:
            on_device = torch.cuda.get_rng_state(x.device) if device == "cuda" else None
            dice = (torch.get_rng_state(), on_device)
        return cls(
            device, torch.is_autocast_enabled(device), torch.get_autocast_dtype(device), dice
        )

    def again(self, x: Tensor) -> AbstractContextManager[Any]:
        """Return a context in which the same computation gives the same values."""
        stack = ExitStack()
        stack.enter_context(torch.autocast(self.device, dtype=self.dtype, enabled=self.autocast))
        if self.dice is not None:
            devices = [x.device] if self.device == "cuda" else []
            stack.enter_context(torch.random.fork_rng(devices=devices))
            torch.set_rng_state(self.dice[0])
            if self.dice[1] is not None:
                torch.cuda.set_rng_state(self.dice[1], x.device)
        return stack


class _Reversible(torch.autograd.Function):
    """A pure function of two halves and parameters; returns gradients, writes none."""

    @staticmethod
    def forward(
        ctx: Any,
        blocks: tuple[CouplingBlock, ...],
        encode: bool,
        layout: torch.memory_format,
        a: Tensor,
        b: Tensor,
        *parameters: Tensor,
    ) -> Halves:
        ctx.blocks, ctx.encode, ctx.climates = blocks, encode, []
        said = []
        with torch.no_grad():
            pieces = _pieces(blocks, a)
            for part in zip(a.tensor_split(pieces), b.tensor_split(pieces), strict=True):
                climates = []
                for block in blocks:
                    climates.append(_Climate.here(block, part[0]))
                    part = block(part) if encode else block.inverse(part)
                ctx.climates.append(climates)
                said.append(part)
        a, b = (half.contiguous(memory_format=layout) for half in _joined(said))
        ctx.save_for_backward(a, b, *parameters)
        return a, b

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads_out: Tensor) -> tuple[Any, ...]:
        a, b, *parameters = ctx.saved_tensors
        split = [tensor.tensor_split(len(ctx.climates)) for tensor in (a, b, *grads_out)]
        grads: dict[int, Tensor | None] = {}
        undo = _undo_forward if ctx.encode else _undo_inverse
        said = []
        for climates, *tensors in zip(ctx.climates, *split, strict=True):
            a, b, ga, gb = (tensor.contiguous() for tensor in tensors)
            part, grad = (a, b), (ga, gb)
            for block, climate in zip(reversed(ctx.blocks), reversed(climates), strict=True):
                part, grad, found = undo(block, climate, part, grad)
                for parameter, more in zip(block.residual.parameters(), found, strict=True):
                    grads[id(parameter)] = _sum(grads.get(id(parameter)), more)
            said.append(grad)
        return None, None, None, *_joined(said), *(grads[id(p)] for p in parameters)


def _pieces(blocks: Sequence[CouplingBlock], half: Tensor) -> int:
    """Return in how many pieces a batch passes, so that what a block works with stays small.

    Where dice are rolled, in one: they must fall as they do without inversion.
    """
    if any(isinstance(m, nn.Dropout) and m.training and m.p for b in blocks for m in b.modules()):
        return 1
    return max(1, min(len(half), -(-half.numel() // PIECE)))


def _joined(parts: list[Halves]) -> Halves:
    if len(parts) == 1:
        return parts[0]
    a, b = (torch.cat(half) for half in zip(*parts, strict=True))
    return a, b


def _sum(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    if one is None or other is None:
        return other if one is None else one
    return one + other


Undone = tuple[Halves, Halves, list[Tensor | None]]


def _undo_forward(block: CouplingBlock, climate: _Climate, out: Halves, grads: Halves) -> Undone:
    """From the outputs `(b', a' + F(b))` and their gradients to the inputs and theirs."""
    (c, y), (gc, gy), s = out, grads, block.stride
    b = shuffle(c, s)
    added, gb, found = _again(block, climate, b, gy)
    a = shuffle(y - added, s)
    return (a, b), (shuffle(gy, s), shuffle(gc, s) + gb), found


def _undo_inverse(block: CouplingBlock, climate: _Climate, out: Halves, grads: Halves) -> Undone:
    """From the outputs `(a, b)` of a decoding step and their gradients to the inputs and theirs."""
    (a, b), (ga, gb), s = out, grads, block.stride
    gy = unshuffle(ga, s)
    added, more, found = _again(block, climate, b, -gy)
    y = unshuffle(a, s) + added
    return (unshuffle(b, s), y), (unshuffle(gb + more, s), gy), found


def _again(
    block: CouplingBlock, climate: _Climate, b: Tensor, gy: Tensor
) -> tuple[Tensor, Tensor, list[Tensor | None]]:
    """Compute `F(b)` once more, and its vector-Jacobian product with `gy`."""
    b = b.detach().requires_grad_()
    # Stand-ins share the parameters' values, not their hooks: those are for the whole gradient.
    here = {
        name: p.detach().requires_grad_(p.requires_grad)
        for name, p in block.residual.named_parameters()
    }
    with torch.enable_grad(), climate.again(b):
        added = functional_call(block.residual, here, (b,))
    wanted = [p for p in here.values() if p.requires_grad]
    products = torch.autograd.grad(added, (b, *wanted), gy.to(added.dtype), allow_unused=True)
    rest = iter(products[1:])
    gb = products[0] if products[0] is not None else torch.zeros_like(b)
    found = [next(rest) if p.requires_grad else None for p in here.values()]
    return added.detach(), gb, found
