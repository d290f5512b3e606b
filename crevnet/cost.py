"""What a network costs, counted and not timed: parameters, multiply-accumulates, bytes kept.

Counted on shapes alone: no memory is taken, whatever the size of the grid. Multiply-accumulates are
those of the convolutions as written; bytes are those of the path a CPU takes, where narrow 3D
blocks run folded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from crevnet.autoencoder import MemoryMode
from crevnet.zoo import AnyNetwork, Description, config_of, describe, from_description

Look = tuple[Tensor, int, Tensor | None]
"""What `unroll` is asked: history, horizon, static map."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What one sample costs.

    Attributes:
        parameters: Trained numbers.
        multiply_accumulates: Of the convolutions of `unroll`: the forecast, and the one-step
            predictions of the history that come with it.
        saved_plain: Bytes that a training step in float32 keeps for backward: unique storages,
            parameters not counted; all frames that `unroll` says are wanted.
        saved_frugal: The same with `memory="frugal"`; none where that cannot be, with BatchNorm.
    """

    parameters: int
    multiply_accumulates: int
    saved_plain: int
    saved_frugal: int | None


def cost(
    network: nn.Module | Description, *, history: int, horizon: int, height: int, width: int
) -> Cost:
    """Count what a network, or one by its description, costs on a grid.

    Args:
        network: It, or its description; its weights are not looked at.
        history: Frames it sees.
        horizon: Frames it says.
        height: Rows of the grid.
        width: Columns of the grid.

    Raises:
        ZooError: It is of no known kind, or not a description.
    """
    description = describe(network) if isinstance(network, nn.Module) else network
    config = config_of(description)
    planes = config.static_channels

    def look() -> Look:
        frames = torch.empty(1, history, config.channels, height, width)
        static = torch.empty(1, planes, height, width) if planes else None
        return frames, horizon, static

    with torch.device("meta"):
        network = from_description(description)
        operations = multiply_accumulates(network, look())
    with FakeTensorMode():
        give_fake_weights(network)

        def kept(memory: MemoryMode) -> int:
            return kept_for_backward(network, lambda: network.unroll(*look(), memory=memory))

        plain = kept("plain")
        frugal = None if config.norm == "batch" else kept("frugal")
    return Cost(parameters(network), operations, plain, frugal)


def multiply_accumulates(network: AnyNetwork, look: Look) -> int:
    """Return those of a network's convolutions when it looks ahead; it may be on no device."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.unroll(*look)
    return int(counter.get_total_flops()) // 2


def parameters(network: nn.Module) -> int:
    """Return how many numbers are trained."""
    return sum(p.numel() for p in network.parameters())


def give_fake_weights(network: AnyNetwork) -> None:
    """Make a network's weights, of any device, seem to be on a CPU."""
    for module in network.modules():
        for name, old in module.named_parameters(recurse=False):
            new = torch.empty_strided(old.shape, old.stride(), dtype=old.dtype)
            module.register_parameter(name, nn.Parameter(new))
        for name, buffer in module.named_buffers(recurse=False):
            module.register_buffer(name, torch.empty(buffer.shape, dtype=buffer.dtype))


def kept_for_backward(network: nn.Module, work: Callable[[], object]) -> int:
    """Return the bytes that some work keeps for backward: each storage once, parameters not.

    Args:
        network: Whose parameters are not counted.
        work: What is done; on fake tensors it takes no memory.
    """
    own = {p.untyped_storage()._cdata for p in network.parameters()}
    saved: dict[int, Tensor] = {}  # kept alive, so that no two share an address

    def pack(tensor: Tensor) -> Tensor:
        address = tensor.untyped_storage()._cdata
        if address not in own:
            saved[address] = tensor
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor), torch.enable_grad():
        work()
    return sum(tensor.untyped_storage().nbytes() for tensor in saved.values())
