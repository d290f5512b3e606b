"""The CrevNet that sees for a head: loaded, held against what is asked of it, frozen."""

from __future__ import annotations

from crevnet.checkpoint import load_model
from crevnet.detection.features import FrozenCrevNet, Inputs
from crevnet.model import CrevNet
from flows.detection.config import DetectionConfig
from flows.networks import named_faults
from pipeline.errors import ModelError
from pipeline.kitti.objects import BEFORE

RGB = ("red", "green", "blue")


def frozen_network(config: DetectionConfig, inputs: Inputs) -> FrozenCrevNet:
    """Return the network, on the CPU.

    Raises:
        ModelError: There is no such file, it is damaged, or holds no CrevNet of RGB frames.
    """
    path = config.network
    if not path.is_file():
        raise ModelError(f"{path}: no such model; `t4c benchmark configs/kitti_cpu.yaml` makes one")
    with named_faults():
        network, task, _ = load_model(path)
    if not isinstance(network, CrevNet):
        raise ModelError(f"{path}: a {type(network).__name__}, expected a CrevNet")
    shape = network.config
    wanted = {
        "channels of a frame": (shape.channels, len(RGB)),
        "their names": (tuple(task.channels), RGB),
        "planes of a map": (shape.static_channels, 0),
        "base of a forecast": (task.base, "none"),
    }
    faults = [
        f"{what} {was}, expected {here}" for what, (was, here) in wanted.items() if was != here
    ]
    if shape.clip > BEFORE + 1:
        faults.append(f"clips of {shape.clip} frames, expected {BEFORE + 1} at most")
    if faults:
        raise ModelError(f"{path}: {'; '.join(faults)}")
    return FrozenCrevNet(network, inputs, task.scale)
