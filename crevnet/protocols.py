"""How a forecast is rolled out, by name, for networks that see overlapping clips.

* *authors*: as the released code does. Every predicted clip is decoded, the frames of it that are
  known already are replaced by true ones (the first k - 1 predictions have some), and it is encoded
  again for the next step. What is reported of a clip is its last frame.
* *clean*: predicted features are fed back as they are, and nothing true is put in after the
  history: the paper's section 2.1.

For a network that says one frame at a time, or all at once, both are the same.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from crevnet.correction import Correction
from crevnet.coupling import Halves
from crevnet.model import CrevNet
from crevnet.rollout import begin

Protocol = Literal["authors", "clean"]


def forecast_by(correction: Correction, history: Tensor, protocol: Protocol) -> Tensor:
    """Say a task's leads under a protocol.

    Args:
        correction: A network whose word is not added to anything, in evaluation mode.
        history: `(B, T, C, H, W)` in [0, 1].
        protocol: Which.

    Returns:
        float32 `(B, L, C, H, W)`, not clipped.

    Raises:
        ValueError: The network's word is a correction to something, or it sees extra planes.
    """
    task, network = correction.task, correction.network
    if task.base != "none" or task.inputs or task.recent:
        raise ValueError(f"base {task.base!r} with inputs {task.inputs}, expected none of them")
    if isinstance(network, CrevNet):
        roll_out = {"authors": roll_out_clips, "clean": roll_out_features}[protocol]
        seen = correction.seen(history)[:, -(task.sees or task.history) :]
        said = roll_out(network, seen, task.horizon) / task.scale
    else:
        said = correction(history)[:, -task.horizon :]
    return said[:, list(task.leads)].float()


def roll_out_clips(model: CrevNet, history: Tensor, horizon: int) -> Tensor:
    """Say `horizon` frames by the authors' protocol: `(B, T, C, H, W)` to `(B, horizon, ...)`."""
    k, (H, W) = model.config.clip, history.shape[-2:]
    memory = None
    if history.shape[1] > k:
        memory = begin(model, history[:, :-1]).memory
    clip = history[:, -k:]
    said = []
    for lead in range(horizon):
        a, b = model.encode(clip)
        memory = memory or model.predictor.start(a[0])
        halves, memory = model.predictor((a[0], b[0]), memory)
        clip = model.decode(halves, H, W)
        said.append(clip[:, -1])
        known = max(0, k - 1 - lead)
        clip = torch.cat((history[:, history.shape[1] - known :], clip[:, known:]), 1)
    return torch.stack(said, 1)


def roll_out_features(model: CrevNet, history: Tensor, horizon: int) -> Tensor:
    """Say `horizon` frames by the clean protocol."""
    H, W = history.shape[-2:]
    stream = begin(model, history)
    assert stream.halves is not None
    assert stream.memory is not None
    steps: list[Halves] = [stream.halves]
    memory = stream.memory
    for _ in range(horizon - 1):
        halves, memory = model.predictor(steps[-1], memory)
        steps.append(halves)
    a, b = (torch.cat(half) for half in zip(*steps, strict=True))
    frames = model.decode((a, b), H, W)[:, -1]
    said: Tensor = frames.unflatten(0, (horizon, -1)).transpose(0, 1)
    return said
