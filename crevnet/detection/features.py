"""What a frozen CrevNet sees in a frame, by name: its autoencoder's features, its RPMs' masks.

Of a clip of frames whose last is the target, the predictor advances over all of them, so that its
memory knows how they move; what it remembers and masks at the step whose clip ends with the target
is what a head is given (paper, section 3.3.2). Names are where things come from:
`autoencoder.a`, `autoencoder.b`, `predictor.rpms.0.gate`, ... A still, the target repeated, has
the masks of a scene in which nothing moves.
"""

from __future__ import annotations

import hashlib
from typing import Any, Literal

import torch
from torch import Tensor, nn

from crevnet.config import CrevNetConfig
from crevnet.model import CrevNet

Inputs = Literal["masks", "masks_and_features"]
"""The two rows of the paper's table 5: attention masks alone, or with the autoencoder's halves."""
HALVES = ("autoencoder.a", "autoencoder.b")


class ChangedWeightsError(Exception):
    """Weights that should not have been touched are other ones than they were."""


def feature_names(config: CrevNetConfig, inputs: Inputs) -> tuple[str, ...]:
    """Return the names of what a head is given, in order."""
    gates = tuple(f"predictor.rpms.{number}.gate" for number in range(config.modules))
    return gates if inputs == "masks" else HALVES + gates


def part_channels(config: CrevNetConfig) -> int:
    """Return the channels of each part: a half and a gate have as many, 3D depth folded in."""
    return config.width * (config.clip if config.dims == 3 else 1)


@torch.no_grad()
def extract(network: CrevNet, frames: Tensor) -> dict[str, Tensor]:
    """Return every feature of the last frame, by name.

    Args:
        network: In evaluation mode, without a static map.
        frames: `(B, T, C, H, W)` as the network sees them, T at least its clip.

    Returns:
        `(B, part_channels, ceil(H / factor), ceil(W / factor))` each. In 3D a volume's depth, the
        frames of the clip, is folded into the channels: `(B, C, D, h, w)` to `(B, C * D, h, w)`.

    Raises:
        ValueError: Too few frames, or of other channels than the network's.
    """
    a, b = network.encode(frames)  # (steps, B, width, [D,] h, w)
    memory = network.predictor.start(a[0])
    for now in zip(a, b, strict=True):
        _, memory = network.predictor(now, memory)
    names = feature_names(network.config, "masks_and_features")
    parts = (a[-1], b[-1], *network.predictor.gates(memory))
    return {
        name: part.float().flatten(1, -3) if part.dim() == 5 else part.float()
        for name, part in zip(names, parts, strict=True)
    }


def fingerprint(module: nn.Module) -> str:
    """Return the sha256 of a module's weights and buffers: names, types, shapes and bytes."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        plain = value.detach().cpu().contiguous()
        digest.update(plain.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


class FrozenCrevNet(nn.Module):
    """A CrevNet that only looks: no gradient reaches it, and it stays in evaluation mode.

    Attributes:
        network: The CrevNet.
        inputs: Which of its features it gives.
        scale: What it sees is so many times as large as a frame in [0, 1].
        weights: Their `fingerprint`, as they came.
    """

    def __init__(self, network: CrevNet, inputs: Inputs, scale: float = 1.0) -> None:
        super().__init__()
        self.network = network.requires_grad_(False).eval()
        self.inputs, self.scale = inputs, scale
        self.weights = fingerprint(network)

    @property
    def channels(self) -> int:
        """Channels of what it gives."""
        config = self.network.config
        return len(feature_names(config, self.inputs)) * part_channels(config)

    @torch.no_grad()
    def forward(self, frames: Tensor) -> Tensor:
        """Return the features of the last of `(B, T, 3, H, W)` uint8 frames, side by side.

        In float32 whatever the head learns in: it is to see the same when it learns, from
        features that were kept, and when it finds.

        Returns:
            float32 `(B, channels, ceil(H / factor), ceil(W / factor))`.
        """
        with torch.autocast(frames.device.type, enabled=False):
            found = extract(self.network, frames.float() / 255 * self.scale)
        return torch.cat(
            [found[name] for name in feature_names(self.network.config, self.inputs)], 1
        )

    def train(self, mode: bool = True) -> FrozenCrevNet:
        """Stay as it is: a head around it that learns must not make it learn."""
        return super().train(False)

    def check(self) -> str:
        """Return the fingerprint of the weights, still what it was.

        Raises:
            ChangedWeightsError: It is not.
        """
        now = fingerprint(self.network)
        if now != self.weights:
            raise ChangedWeightsError(
                f"the CrevNet's weights were {self.weights[:16]} and are {now[:16]}"
            )
        return now

    def facts(self) -> dict[str, Any]:
        """Return what a head must know of it, in plain values."""
        return {"weights": self.weights, "inputs": self.inputs, "scale": self.scale}
