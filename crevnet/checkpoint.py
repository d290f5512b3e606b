"""A network in one file: safetensors weights, and what it is in the header. No pickle.

Two kinds: a bare CrevNet (`save`, `load`), and any network of the zoo with its task (`save_model`,
`load_model`). A file is not trusted: what its header claims is held against the shapes of the
weights that are there before anything is built or read.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TypeVar, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from crevnet.config import CrevNetConfig
from crevnet.model import CrevNet
from crevnet.plain import from_plain
from crevnet.task import Task
from crevnet.whole_file import whole_file
from crevnet.zoo import AnyNetwork, Description, config_of, describe, from_description, layers

FORMAT = "crevnet-1"
MODEL_FORMAT = "t4c-model-1"
HEADER_LIMIT = 16 * 2**20
Shapes = dict[str, tuple[int, ...]]
N = TypeVar("N", bound=nn.Module)


class CheckpointError(Exception):
    """A file that is not a network, or not a whole one; says which, and what was expected."""


def save(model: CrevNet, path: Path) -> Path:
    """Write a network whole: beside, flushed, then renamed; the same network, the same bytes."""
    return write_file(model, path, {FORMAT: header_text(model.config.to_dict())})


def load(path: Path, device: torch.device | str = "cpu") -> CrevNet:
    """Return a network from its file.

    Raises:
        CheckpointError: There is no such file; it is truncated, or another kind of file; or its
            weights are not those of its config.
    """
    value, shapes = read_header(path, FORMAT)
    try:
        if not isinstance(value, dict):
            raise ValueError(f"a {type(value).__name__}")
        config = CrevNetConfig.from_dict(value)
        description = {"kind": "crevnet", "config": config.to_dict()}
        config_of(description)
    except (KeyError, TypeError, ValueError) as fault:
        raise CheckpointError(f"{path}: its config is not one of a CrevNet: {fault}") from None
    return cast(CrevNet, _load(path, description, shapes, device))


def save_model(path: Path, network: nn.Module, task: Task, extra: dict[str, Any]) -> Path:
    """Write a network of the zoo with its task, whole; the same values, the same bytes.

    Args:
        path: The file.
        network: Of a kind of the zoo, bare: not wrapped for several processes.
        task: What it was trained to do.
        extra: What else is to be known of it, in plain values.

    Raises:
        ZooError: The network is of no known kind.
        ValueError: `extra` is not made of plain, finite values, or is too long for a header.
    """
    value = {"network": describe(network), "task": task.to_dict(), "extra": extra}
    return write_file(network, path, {MODEL_FORMAT: header_text(value)})


def load_model(
    path: Path, device: torch.device | str = "cpu"
) -> tuple[AnyNetwork, Task, dict[str, Any]]:
    """Return a network of the zoo, its task, and what else its file says, as `save_model` wrote it.

    Raises:
        CheckpointError: There is no such file; it is truncated, or another kind of file; or its
            weights are not those of its config.
    """
    description, task, extra, shapes = _read_model(path)
    return _load(path, description, shapes, device), task, extra


def read_description(path: Path) -> tuple[Description, Task, dict[str, Any]]:
    """Return what a file of `save_model` says of itself, without its weights.

    Raises:
        CheckpointError: As `load_model`, but for weights that do not fit.
    """
    return _read_model(path)[:3]


def _read_model(path: Path) -> tuple[Description, Task, dict[str, Any], Shapes]:
    value, shapes = read_header(path, MODEL_FORMAT)
    try:
        if not isinstance(value, dict) or set(value) != {"network", "task", "extra"}:
            found = sorted(value) if isinstance(value, dict) else type(value).__name__
            raise ValueError(f"it holds {found}, expected ['extra', 'network', 'task']")
        config_of(value["network"])
        task = from_plain(Task, value["task"])
        if not isinstance(value["extra"], dict):
            raise ValueError(f"extra is a {type(value['extra']).__name__}, expected a mapping")
    except (KeyError, TypeError, ValueError) as fault:
        raise CheckpointError(f"{path}: its header is not one of a model: {fault}") from None
    return value["network"], task, value["extra"], shapes


def write_file(network: nn.Module, path: Path, header: dict[str, str]) -> Path:
    """Write a module's weights under a header, whole; the same values, the same bytes."""
    state = {
        name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()
    }
    with whole_file(path) as partial:
        save_file(state, partial, metadata=header)
        partial.chmod(0o644)  # safetensors makes it for its owner alone
    return path


def header_text(value: dict[str, Any]) -> str:
    """Return plain values as a header holds them.

    Raises:
        ValueError: They are not plain and finite, or too long.
    """
    text = json.dumps(value, sort_keys=True, allow_nan=False)
    if len(text) > HEADER_LIMIT // 2:
        raise ValueError(f"{len(text)} characters, expected at most {HEADER_LIMIT // 2}")
    return text


def read_header(path: Path, wanted: str) -> tuple[Any, Shapes]:
    """Return the value in the header, and the shapes of the weights; reads no weights.

    Raises:
        CheckpointError: There is no such file; it is truncated, or another kind of file.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    try:
        with path.open("rb") as raw:
            length = int.from_bytes(raw.read(8), "little")
        if length > min(HEADER_LIMIT, path.stat().st_size):
            raise SafetensorError(f"a header of {length} bytes")
        with safe_open(path, framework="pt", device="cpu") as file:
            header = file.metadata() or {}
            names = file.keys()
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in names}
    except (SafetensorError, OSError) as fault:
        raise CheckpointError(f"{path}: not a whole safetensors file: {fault}") from None
    if wanted not in header:
        raise CheckpointError(f"{path}: header {sorted(header)}, expected {wanted!r}")
    try:
        return json.loads(header[wanted], parse_constant=_refuse), shapes
    except (ValueError, RecursionError) as fault:
        raise CheckpointError(f"{path}: its header is not JSON: {fault}") from None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a number")


def _load(
    path: Path, description: Description, found: Shapes, device: torch.device | str
) -> AnyNetwork:
    """Build the network and read its weights, once they are known to fit."""
    config = config_of(description)
    if layers(config) > len(found):
        raise CheckpointError(
            f"{path}: weights do not fit the config: {len(found)} tensors, "
            f"expected at least {layers(config)}"
        )
    network = read_network(path, lambda: from_description(description), found)
    return network.to(device)


def read_network(path: Path, build: Callable[[], N], found: Shapes) -> N:
    """Return a network with the weights of a file, built once they are known to fit.

    Args:
        path: The file.
        build: Makes the network that its header tells of.
        found: Shapes of its weights, as `read_header` told them.

    Raises:
        CheckpointError: There can be no such network, or the weights are not its.
    """
    try:
        with torch.device("meta"):
            state = build().state_dict()
        expected = {name: tuple(value.shape) for name, value in state.items()}
    except (ArithmeticError, MemoryError, RuntimeError, TypeError, ValueError) as fault:
        said = str(fault).splitlines()[0]
        raise CheckpointError(f"{path}: no network can have its config: {said}") from None
    if found != expected:
        faults = [
            f"{name} {found.get(name, 'missing')}, expected {expected.get(name, 'nothing')}"
            for name in sorted(found.keys() | expected.keys())
            if found.get(name) != expected.get(name)
        ]
        raise CheckpointError(f"{path}: weights do not fit the config: {'; '.join(faults[:5])}")
    network = build()
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            weights = {name: file.get_tensor(name) for name in found}
    except (SafetensorError, OSError) as fault:
        raise CheckpointError(f"{path}: not a whole safetensors file: {fault}") from None
    mistyped = [
        f"{name} {value.dtype}, expected {state[name].dtype}"
        for name, value in weights.items()
        if value.is_floating_point() != state[name].is_floating_point()
    ]
    if mistyped:
        raise CheckpointError(f"{path}: weights do not fit the config: {'; '.join(mistyped[:5])}")
    network.load_state_dict(weights)
    return network
