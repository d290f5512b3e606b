"""A network in one file: safetensors weights, and its config in the header. No pickle."""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from crevnet.config import CrevNetConfig
from crevnet.model import CrevNet

FORMAT = "crevnet-1"


class CheckpointError(Exception):
    """A file that is not a network, or not a whole one; says which, and what was expected."""


def save(model: CrevNet, path: Path) -> Path:
    """Write a network whole: beside, flushed, then renamed; the same network, the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    config = json.dumps(model.config.to_dict(), sort_keys=True)
    header = {FORMAT: config}  # one key: safetensors writes several in any order
    try:
        save_file(state, partial, metadata=header)
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        return partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def load(path: Path, device: torch.device | str = "cpu") -> CrevNet:
    """Return a network from its file.

    Raises:
        CheckpointError: There is no such file; it is truncated, or another kind of file; or its
            weights are not those of its config.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            header = file.metadata() or {}
            if FORMAT not in header:
                raise CheckpointError(f"{path}: header {sorted(header)}, expected {FORMAT!r}")
            config = CrevNetConfig.from_dict(json.loads(header[FORMAT]))
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as fault:
        raise CheckpointError(f"{path}: not a whole safetensors file: {fault}") from None
    except (KeyError, TypeError, ValueError) as fault:
        raise CheckpointError(f"{path}: its config is not one of a CrevNet: {fault}") from None
    with torch.device("meta"):
        expected = {name: value.shape for name, value in CrevNet(config).state_dict().items()}
    found_shapes = {name: value.shape for name, value in state.items()}
    if found_shapes != expected:
        faults = [
            f"{name} {tuple(found_shapes.get(name, ())) if name in found_shapes else 'missing'}, "
            f"expected {tuple(expected[name]) if name in expected else 'nothing'}"
            for name in sorted(found_shapes.keys() | expected.keys())
            if found_shapes.get(name) != expected.get(name)
        ]
        raise CheckpointError(f"{path}: weights do not fit the config: {'; '.join(faults[:5])}")
    model = CrevNet(config)
    model.load_state_dict(state)
    return model.to(device)
