from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn.parallel import DistributedDataParallel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from crevnet.autoencoder import TwoWayAutoencoder
from crevnet.config import CrevNetConfig
from crevnet.model import CrevNet
from crevnet.reversible import run_forward, run_inverse
from tests.test_crevnet import CELLS, EXACT, ROUGH, SMALL, build, distance, one_thread, world

__all__ = ["one_thread"]

TINY = CrevNetConfig(clip=2, blocks=(2, 1), strides=(1, 2), modules=2)


def loss_of(model, frames, static=None, **how):
    said = model(frames, static, **how)
    return (said - frames[:, 1:].unfold(1, said.shape[2], 1).movedim(-1, 2)).square().mean()


def gradients(model, frames, static=None, **how):
    """Of all parameters and the input, as one long vector."""
    frames = frames.detach().requires_grad_()
    wanted = [p for p in model.parameters() if p.requires_grad]
    grads = torch.autograd.grad(loss_of(model, frames, static, **how), [frames, *wanted])
    return torch.cat([g.flatten() for g in grads])


def error(found, true) -> float:
    assert true.norm() > 0
    return float((found - true).norm() / true.norm())


def coupled(dtype=EXACT, **changes):
    """Blocks of a small autoencoder, and halves to put in at either end."""
    model = build(replace(TINY, **changes), dtype).autoencoder
    depth = () if changes.get("dims") == 2 else (2,)
    inputs = 2 * model.blocks[0].residual[0].in_channels // 2
    torch.manual_seed(2)
    ends = {run_forward: (inputs, 4, 6), run_inverse: (inputs * 4, 2, 3)}
    ends = {
        run: tuple(torch.randn(2, c, *depth, h, w, dtype=dtype) for _ in range(2))
        for run, (c, h, w) in ends.items()
    }
    return list(model.blocks), ends


def plainly(run, blocks, halves):
    for block in blocks if run is run_forward else blocks[::-1]:
        halves = block(halves) if run is run_forward else block.inverse(halves)
    return halves


BOTH = pytest.mark.parametrize("run", [run_forward, run_inverse])


@pytest.mark.parametrize(("dtype", "bound"), [(EXACT, 1e-11), (ROUGH, 1e-3)])
@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("cell", CELLS)
def test_frugal_gradients_equal_plain_ones(cell, dims, dtype, bound):
    model = build(replace(SMALL, cell=cell, dims=dims), dtype)
    frames, static = world(model.config, dtype)
    plain = gradients(model, frames, static)
    for segment in (1, 2, 5):
        frugal = gradients(model, frames, static, memory="frugal", segment=segment)
        assert error(frugal, plain) < bound
    assert distance(model(frames, static, memory="frugal"), model(frames, static)) < bound
    assert all(p.grad is None for p in model.parameters())


def test_frugal_float32_gradients_stay_near_once_trained():
    model = build(replace(TINY, blocks=(4, 5)), ROUGH)
    frames, _ = world(model.config, ROUGH, size=(8, 8))
    adam = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(10):
        adam.zero_grad()
        loss_of(model, frames, memory="frugal").backward()
        adam.step()
    assert error(gradients(model, frames, memory="frugal"), gradients(model, frames)) < 1e-3


@BOTH
@pytest.mark.parametrize("dims", [2, 3])
def test_gradcheck(run, dims):
    blocks, ends = coupled(dims=dims, blocks=(1, 1))
    halves = [x[:1].requires_grad_() for x in ends[run]]
    parameters = [p for block in blocks for p in block.parameters()]

    def function(a, b, *_):
        return run(blocks, (a, b))

    assert torch.autograd.gradcheck(function, (*halves, *parameters), fast_mode=True)


@BOTH
def test_parameters_train_though_the_input_needs_no_gradient(run):
    blocks, ends = coupled()
    parameters = [p for block in blocks for p in block.parameters()]
    grads = []
    for way in (run, lambda *given: plainly(run, *given)):
        a, b = way(blocks, ends[run])
        grads.append(torch.autograd.grad((a * b).sum(), parameters))
    for found, true in zip(*grads, strict=True):
        assert error(found, true) < 1e-11


@BOTH
def test_half_an_input_may_need_a_gradient_and_half_a_loss_use_it(run):
    blocks, ends = coupled()
    parameters = [p for block in blocks for p in block.parameters()]
    for kept in (0, 1):
        for used in (0, 1):
            grads = []
            for way in (run, lambda *given: plainly(run, *given)):
                halves = [x.clone() for x in ends[run]]
                halves[kept].requires_grad_()
                out = way(blocks, tuple(halves))[used]
                wanted = [halves[kept], *parameters]
                grad = torch.autograd.grad(out.square().sum(), wanted, materialize_grads=True)
                grads.append(torch.cat([g.flatten() for g in grad]))
            assert error(*grads) < 1e-11


@BOTH
def test_frozen_parameters_get_none_and_the_rest_theirs(run):
    blocks, ends = coupled()
    frozen = {id(p) for p in blocks[0].parameters()}
    for p in blocks[0].parameters():
        p.requires_grad_(False)
    parameters = [p for block in blocks for p in block.parameters()]
    free = [p for p in parameters if id(p) not in frozen]
    grads = []
    for way in (run, lambda *given: plainly(run, *given)):
        a, b = (x.clone().requires_grad_() for x in ends[run])
        out = way(blocks, (a, b))
        grads.append(torch.autograd.grad((out[0] * out[1]).sum(), [a, b, *free]))
    for found, true in zip(*grads, strict=True):
        assert error(found, true) < 1e-11
    run(blocks, tuple(x.clone().requires_grad_() for x in ends[run]))[0].sum().backward()
    assert all((p.grad is None) == (id(p) in frozen) for p in parameters)


def test_a_block_used_over_time_and_in_both_directions():
    blocks, ends = coupled()
    parameters = [p for block in blocks for p in block.parameters()]
    grads = []
    for there, back in (
        (run_forward, run_inverse),
        (lambda *x: plainly(run_forward, *x), lambda *x: plainly(run_inverse, *x)),
    ):
        a, b = (x.clone().requires_grad_() for x in ends[run_forward])
        now, total = (a, b), 0.0
        for _ in range(3):
            c, d = there(blocks, now)
            now = back(blocks, (torch.tanh(d), c))
            total = total + (now[0] * now[1]).sum()
        grads.append(torch.autograd.grad(total, [a, b, *parameters]))
    for found, true in zip(*grads, strict=True):
        assert error(found, true) < 1e-10


@BOTH
def test_a_block_twice_in_one_run(run):
    blocks, ends = coupled(blocks=(3,), strides=(1,))
    blocks = [blocks[1], blocks[2], blocks[1]]
    halves = ends[run_forward]  # no strides: both ends are alike
    parameters = list({id(p): p for block in blocks for p in block.parameters()}.values())
    grads = []
    for way in (run, lambda *given: plainly(run, *given)):
        a, b = way(blocks, halves)
        grads.append(torch.autograd.grad((a * b).sum(), parameters))
    for found, true in zip(*grads, strict=True):
        assert error(found, true) < 1e-11


@pytest.mark.parametrize("memory", ["plain", "frugal"])
def test_backward_fills_grads_and_fires_hooks_once(memory):
    model = build(TINY)
    frames, _ = world(model.config, size=(8, 8))
    plain = torch.autograd.grad(loss_of(model, frames), list(model.parameters()))
    scaled, stored = [], []
    for p in model.parameters():
        p.register_hook(lambda grad: scaled.append(1) or 3 * grad)
        p.register_post_accumulate_grad_hook(lambda p: stored.append(id(p)))
    for times in (1, 2):  # grads add up, and only once a backward
        loss = loss_of(model, frames, memory=memory)
        assert len(stored) == (times - 1) * len(plain)
        loss.backward()
        assert len(set(stored)) == len(plain)
        assert len(stored) == len(scaled) == times * len(plain)
        for p, true in zip(model.parameters(), plain, strict=True):
            assert error(p.grad, 3 * times * true) < 1e-11


def logged(model, frames, memory):
    """Gradients under bf16 autocast, and what each block's residual gave, in order."""
    dtypes, undo = [], []
    for block in model.autoencoder.blocks:
        hook = block.residual.register_forward_hook(lambda m, x, y: dtypes.append((id(m), y.dtype)))
        undo.append(hook)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = loss_of(model, frames, memory=memory)
    count = len(dtypes)
    grads = torch.autograd.grad(loss, list(model.parameters()))
    for hook in undo:
        hook.remove()
    return torch.cat([g.flatten() for g in grads]), dtypes[:count], dtypes[count:]


def test_recomputed_under_autocast_as_computed():
    model = build(TINY, ROUGH)
    frames, _ = world(model.config, ROUGH, size=(8, 8))
    plain, first, again = logged(model, frames, "plain")
    assert {dtype for _, dtype in first} == {torch.bfloat16}
    assert not again
    frugal, first, again = logged(model, frames, "frugal")
    assert again == first[::-1]
    assert frugal.isfinite().all()
    assert error(frugal, plain) < 0.03
    assert error(frugal, gradients(model, frames)[frames.numel() :]) > 1e-5  # it was bf16


def test_dropout_falls_as_it_fell_and_leaves_the_dice_where_plain_does():
    model = build(replace(TINY, dropout=0.4)).train()
    frames, _ = world(model.config, size=(8, 8))
    found = {}
    for memory in ("plain", "frugal"):
        torch.manual_seed(7)
        grads = gradients(model, frames, memory=memory)
        found[memory] = grads, torch.rand(5)
    assert error(found["frugal"][0], found["plain"][0]) < 1e-11
    assert torch.equal(found["frugal"][1], found["plain"][1])
    torch.manual_seed(8)
    assert error(gradients(model, frames), found["plain"][0]) > 1e-3  # the dice matter


@BOTH
def test_a_second_backward_is_refused(run):
    blocks, ends = coupled()
    a, b = run(blocks, ends[run])
    loss = (a * b).sum()
    loss.backward()
    with pytest.raises(RuntimeError, match="second time"):
        loss.backward()


@BOTH
def test_a_double_backward_is_refused(run):
    blocks, ends = coupled()
    x = ends[run][0].requires_grad_()
    a, b = run(blocks, (x, ends[run][1]))
    (grad,) = torch.autograd.grad((a * b).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.square().sum().backward()


def test_batch_norm_is_refused_in_training_and_fine_after():
    model = build(replace(TINY, norm="batch")).train()
    frames, _ = world(model.config, size=(8, 8))
    before = [b.clone() for b in model.buffers()]
    with pytest.raises(ValueError, match="BatchNorm in training"):
        model(frames, memory="frugal")
    assert all(torch.equal(a, b) for a, b in zip(before, model.buffers(), strict=True))
    model.eval()
    assert error(gradients(model, frames, memory="frugal"), gradients(model, frames)) < 1e-11


def test_without_gradients_nothing_is_kept():
    model = build(TINY)
    frames, _ = world(model.config, size=(8, 8))
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            assert model(frames, memory="frugal").grad_fn is None


class Census(TorchDispatchMode):
    """Every storage that any operation makes; hooks on saved tensors can be fooled, this not."""

    def __init__(self, known):
        super().__init__()
        self.known = {t.untyped_storage()._cdata for t in known}
        self.born: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, torch.Tensor):
                storage = leaf.untyped_storage()
                if storage._cdata not in self.known:
                    self.born[storage._cdata] = StorageWeakRef(storage), storage.nbytes()
        return out

    def living(self) -> int:
        return sum(size for ref, size in self.born.values() if not ref.expired())


def kept(blocks, memory) -> tuple[int, int]:
    """Bytes kept for backward: seen by hooks, and alive after forward."""
    model = build(replace(TINY, blocks=(blocks // 2,) * 2, modules=1), ROUGH)
    frames, _ = world(model.config, ROUGH, size=(16, 16))
    storages = {}
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = loss_of(model, frames, memory=memory)
    del loss
    with Census([*model.parameters(), frames]) as census:
        loss = loss_of(model, frames, memory=memory)
        alive = census.living()
        loss.backward()
    grads = sum(p.grad.untyped_storage().nbytes() for p in model.parameters())
    del loss
    assert census.living() <= 1.1 * grads  # the graph is gone, gradients stay
    return sum(storages.values()), alive


def test_what_is_kept_is_flat_in_depth():
    hooks, alive = zip(*(kept(blocks, "frugal") for blocks in (12, 24, 48)), strict=True)
    assert min(hooks) > 0
    assert max(hooks) < 1.05 * min(hooks)
    assert max(alive) < 1.05 * min(alive)
    plain = [kept(blocks, "plain") for blocks in (12, 24)]
    for one, two in zip(*plain, strict=True):  # the counts do count
        assert two > 1.5 * one
    assert alive[0] < 0.35 * plain[0][1]


def shard(rank, folder, states, frames):
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    torch.distributed.init_process_group("gloo", store, rank=rank, world_size=2)
    model = CrevNet(TINY).double()
    model.load_state_dict(states)
    both = DistributedDataParallel(model)
    for _ in range(2):  # a second step finds the buckets of the first
        both.zero_grad()
        loss_of(Config(both, TINY), frames[rank::2], memory="frugal").backward()
    if rank == 0:
        torch.save([p.grad for p in model.parameters()], Path(folder) / "grads.pt")
    torch.distributed.destroy_process_group()


class Config(nn.Module):
    def __init__(self, inner, config):
        super().__init__()
        self.inner, self.config = inner, config

    def forward(self, *args, **kwargs):
        return self.inner(*args, **kwargs)


def test_two_processes_find_the_gradients_of_one(tmp_path):
    model = build(TINY)
    frames, _ = world(TINY, batch=4, size=(8, 8))
    given = (str(tmp_path), model.state_dict(), frames)
    torch.multiprocessing.spawn(shard, given, nprocs=2)
    found = torch.load(tmp_path / "grads.pt")
    true = torch.autograd.grad(loss_of(model, frames), list(model.parameters()))
    for a, b in zip(found, true, strict=True):
        assert error(a, b) < 1e-11


def test_an_autoencoder_alone_takes_either_memory():
    torch.manual_seed(0)
    model = TwoWayAutoencoder(TINY).double()
    volume = torch.rand(2, 1, 2, 8, 8, dtype=EXACT, requires_grad=True)
    grads = []
    for memory in ("plain", "frugal"):
        a, b = model.encode(volume, memory)
        out = model.decode((a * b, b), memory)
        grads.append(torch.autograd.grad(out.square().sum(), volume)[0])
    assert error(grads[1], grads[0]) < 1e-11
