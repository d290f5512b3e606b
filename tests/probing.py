"""What tests of networks look at: a small world for one, its gradients, what it really keeps."""

from __future__ import annotations

import copy

import torch

FRAMES = 4


def world(network, batch=2, size=(17, 23), frames=FRAMES, dtype=torch.float64):
    torch.manual_seed(1)
    history = torch.rand(batch, frames, network.config.channels, *size, dtype=dtype)
    planes = network.config.static_channels
    static = torch.rand(batch, planes, *size, dtype=dtype) if planes else None
    return history, static


def near(one, two, tolerance=1e-10):
    torch.testing.assert_close(one, two, rtol=tolerance, atol=tolerance)


def gradients(network, memory, inputs):
    network = copy.deepcopy(network)
    history, static = inputs
    history = history.clone().requires_grad_()
    kept = {}

    def pack(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        said = network.unroll(history, 3, static, memory=memory)
    said.square().mean().backward()
    return said, [history.grad, *(p.grad for p in network.parameters())], sum(kept.values())


def really_kept(network, history, horizon, static, memory):
    """Bytes that a real forward pass keeps for backward, parameters not counted."""
    own = {p.untyped_storage().data_ptr() for p in network.parameters()}
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own and storage.nbytes():
            kept[storage.data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        network.unroll(history, horizon, static, memory=memory)
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
