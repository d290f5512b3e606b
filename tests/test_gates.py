from __future__ import annotations

import pytest
import torch

from crevnet.gates import advance, tanh


def by_the_book(gates, state):
    i, f, g = gates.chunk(3, 1)
    return torch.sigmoid(f) * state + torch.sigmoid(i) * torch.tanh(g)


def world(dims, dtype=torch.float64, order=torch.contiguous_format):
    torch.manual_seed(0)
    size = (2, 3, 4)[3 - dims :]
    gates = torch.randn(2, 9, *size, dtype=dtype).contiguous(memory_format=order)
    return gates.requires_grad_(), torch.randn(2, 3, *size, dtype=dtype, requires_grad=True)


@pytest.mark.parametrize(
    ("dims", "order"),
    [(2, torch.contiguous_format), (2, torch.channels_last), (3, torch.channels_last_3d)],
)
def test_a_state_advances_by_the_book_and_so_do_gradients(dims, order):
    gates, state = world(dims, order=order)
    found, true = advance(gates, state), by_the_book(gates, state)
    torch.testing.assert_close(found, true, rtol=1e-12, atol=1e-12)
    weights = torch.randn_like(true)
    for one, other in zip(
        torch.autograd.grad((found * weights).sum(), (gates, state)),
        torch.autograd.grad((true * weights).sum(), (gates, state)),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    assert torch.autograd.gradcheck(advance, (gates, state))


def test_the_tangent_is_the_tangent_everywhere():
    x = torch.linspace(-200, 200, 4001, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(tanh(x), torch.tanh(x), rtol=0, atol=1e-15)
    single = torch.linspace(-20, 20, 4001)
    torch.testing.assert_close(tanh(single), torch.tanh(single), rtol=0, atol=3e-7)
    assert torch.autograd.gradcheck(tanh, x[::400])


def test_half_precision_and_mixed_types_take_the_plain_way():
    gates, state = world(3, torch.float32)
    half = gates.bfloat16()
    assert advance(half, state).dtype == torch.float32
    torch.testing.assert_close(advance(half, state), by_the_book(half, state), rtol=0, atol=0)
    assert tanh(half).dtype == torch.bfloat16
