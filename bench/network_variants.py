"""Which networks `network.py` measures, and what a step of theirs is.

Imported first: it finds `tests`, beside this folder, and has threads rest.
"""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads would count as work
ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # `tests` stands beside this folder

import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from crevnet.config import CrevNetConfig  # noqa: E402
from crevnet.model import CrevNet  # noqa: E402
from tests.literal import LiteralCrevNet, literal  # noqa: E402

MNIST = CrevNetConfig(cell="released_st_lstm")
TRAFFIC = CrevNetConfig(channels=3, cell="st_lstm")
VARIANTS = ("reference", "plain", "frugal")


def make(variant: str, config: CrevNetConfig) -> nn.Module:
    torch.manual_seed(0)
    net = CrevNet(config)
    return literal(net) if variant == "reference" else net


def loss_of(net: nn.Module, frames: Tensor, variant: str) -> Tensor:
    """As released: the sum over steps of a clip's mean squared error."""
    k = net.config.clip
    truth = frames[:, 1:].unfold(1, k, 1).movedim(-1, 2)
    said = net(frames) if isinstance(net, LiteralCrevNet) else net(frames, memory=variant)
    return (said - truth).square().mean() * said.shape[1]


def clips(batch: int, config: CrevNetConfig = MNIST, frames: int = 20, size=(64, 64)) -> Tensor:
    torch.manual_seed(1)
    return torch.rand(batch, frames, config.channels, *size)


def optimiser(net: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(net.parameters(), lr=5e-4)


def step(net, adam, frames: Tensor, variant: str) -> None:
    adam.zero_grad()
    loss_of(net, frames, variant).backward()
    adam.step()


def cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def megabytes(count: float) -> float:
    return round(count / 1e6, 2)
