"""A head in one file: its weights, what it is, and on which CrevNet it learned. No pickle."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_args

from crevnet.checkpoint import (
    CheckpointError,
    header_text,
    read_header,
    read_network,
    write_file,
)
from crevnet.detection.features import FrozenCrevNet, Inputs
from crevnet.detection.head import DetectionHead, HeadConfig
from crevnet.plain import from_plain, to_plain

HEAD_FORMAT = "t4c-detection-head-2"


@dataclass(frozen=True, slots=True)
class Provenance:
    """The CrevNet that a head learned on.

    Attributes:
        file: Its checkpoint.
        weights: Fingerprint of its weights before the head learned.
        weights_after: And after: the same, or nothing was written.
        inputs: Which of its features the head is given.
        scale: What it saw was so many times as large as frames in [0, 1].
    """

    file: str
    weights: str
    weights_after: str
    inputs: Inputs
    scale: float

    def __post_init__(self) -> None:
        if self.weights != self.weights_after:
            raise ValueError(f"weights {self.weights[:16]} became {self.weights_after[:16]}")
        if self.inputs not in get_args(Inputs):
            raise ValueError(f"inputs {self.inputs!r}, expected one of {get_args(Inputs)}")


def save_head(
    path: Path, head: DetectionHead, frozen: FrozenCrevNet, file: str, extra: dict[str, Any]
) -> Path:
    """Write a head whole, with the CrevNet's fingerprint, taken anew.

    Args:
        path: The file.
        head: What learned.
        frozen: What it learned on.
        file: The CrevNet's checkpoint.
        extra: What else is to be known, in plain values.

    Raises:
        ChangedWeightsError: The CrevNet's weights are not what they were.
    """
    origin = Provenance(file, frozen.weights, frozen.check(), frozen.inputs, frozen.scale)
    value = {"head": to_plain(head.config), "crevnet": to_plain(origin), "extra": extra}
    return write_file(head, path, {HEAD_FORMAT: header_text(value)})


def read_provenance(path: Path) -> tuple[HeadConfig, Provenance, dict[str, Any]]:
    """Return what a head's file says of itself, without its weights.

    Raises:
        CheckpointError: There is no such file, or it is not one of a head.
    """
    value, _ = read_header(path, HEAD_FORMAT)
    try:
        if not isinstance(value, dict) or set(value) != {"head", "crevnet", "extra"}:
            found = sorted(value) if isinstance(value, dict) else type(value).__name__
            raise ValueError(f"it holds {found}, expected ['crevnet', 'extra', 'head']")
        if not isinstance(value["extra"], dict):
            raise ValueError(f"extra is a {type(value['extra']).__name__}, expected a mapping")
        for name, kind in (("head", HeadConfig), ("crevnet", Provenance)):
            _whole(name, value[name], kind)
        head = from_plain(HeadConfig, value["head"])
        return head, from_plain(Provenance, value["crevnet"]), value["extra"]
    except (KeyError, TypeError, ValueError) as fault:
        raise CheckpointError(f"{path}: its header is not one of a head: {fault}") from None


def load_head(path: Path, frozen: FrozenCrevNet) -> DetectionHead:
    """Return a head from its file, to be used with the CrevNet that it learned on.

    Raises:
        CheckpointError: There is no such file, it is damaged, its weights are not those of its
            config, or it learned on another CrevNet, or on other features of it.
    """
    config, origin, _ = read_provenance(path)
    wanted = {
        "weights": (origin.weights, frozen.weights),
        "inputs": (origin.inputs, frozen.inputs),
        "scale": (origin.scale, frozen.scale),
        "channels": (config.channels, frozen.channels),
        "stride": (config.stride, frozen.network.config.factor),
    }
    faults = [f"{name} {was}, here {now}" for name, (was, now) in wanted.items() if was != now]
    if faults:
        raise CheckpointError(
            f"{path}: learned on another CrevNet, {origin.file}: {'; '.join(faults)}"
        )
    _, found = read_header(path, HEAD_FORMAT)
    if config.depth + len(config.sizes) > len(found):  # before as many are built
        raise CheckpointError(
            f"{path}: weights do not fit the config: {len(found)} tensors, "
            f"expected at least {config.depth + len(config.sizes)}"
        )
    return read_network(path, lambda: DetectionHead(config), found)


def _whole(name: str, value: Any, kind: type[Any]) -> None:
    wanted = {field.name for field in fields(kind)}
    if not isinstance(value, dict) or {*value} != wanted:
        found = sorted(value) if isinstance(value, dict) else type(value).__name__
        raise ValueError(f"{name} holds {found}, expected {sorted(wanted)}")
