"""Looking ahead: the roll-out in feature space, and the same one frame at a time for live use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from crevnet.coupling import Halves
from crevnet.memory import Memory
from crevnet.model import CrevNet


@dataclass(frozen=True, slots=True)
class Stream:
    """What a network needs to know of the frames it has seen: carried by the caller.

    Attributes:
        recent: The last k frames, or all where there are fewer, `(B, up to k, C, H, W)`.
        static: The map, or none.
        memory: The predictor's, after the last step; none before the first.
        halves: Features of the clip that is to come; none before the first step.
    """

    recent: Tensor
    static: Tensor | None = None
    memory: Memory | None = None
    halves: Halves | None = None


def begin(model: CrevNet, history: Tensor, static: Tensor | None = None) -> Stream:
    """Take in a history `(B, T, C, H, W)`, all clips encoded in one batch.

    Raises:
        ValueError: It is shorter than a clip, or the map is missing or unasked for.
    """
    halves = model.encode(history, static)
    memory = model.predictor.start(halves[0][0])
    out: Halves = (halves[0][0], halves[1][0])
    for now in zip(*halves, strict=True):
        out, memory = model.predictor(now, memory)
    return Stream(history[:, -model.config.clip :], static, memory, out)


def observe(model: CrevNet, stream: Stream, frame: Tensor) -> Stream:
    """Take in one more frame `(B, C, H, W)`, at the cost of one step."""
    recent = torch.cat((stream.recent, frame[:, None]), 1)[:, -model.config.clip :]
    if recent.shape[1] < model.config.clip:
        return Stream(recent, stream.static)
    a, b = model.encode(recent, stream.static)
    memory = stream.memory or model.predictor.start(a[0])
    halves, memory = model.predictor((a[0], b[0]), memory)
    return Stream(recent, stream.static, memory, halves)


def look_ahead(model: CrevNet, stream: Stream, leads: Sequence[int]) -> Tensor:
    """Say the frames at some leads, counted from 0 for the next one.

    Predicted features are fed back as they are: decoding them only to encode them again would be
    the identity (paper, section 2.1). An anchored network first puts what is known into the k - 1
    clips that still overlap with the history, as released. Only asked leads are decoded.

    Args:
        model: The network.
        stream: What it has seen.
        leads: In rising order.

    Returns:
        `(B, len(leads), C, H, W)`, not clipped.

    Raises:
        ValueError: Fewer frames than a clip were seen, or leads are not in rising order.
    """
    if list(leads) != sorted(set(leads)) or not leads or leads[0] < 0:
        raise ValueError(f"leads {list(leads)} are not rising and at least 0")
    halves, memory, k = stream.halves, stream.memory, model.config.clip
    if halves is None or memory is None:
        raise ValueError(f"{stream.recent.shape[1]} frames were seen, a first step takes {k}")
    H, W = stream.recent.shape[-2:]
    said: dict[int, Tensor] = {}
    kept: list[tuple[int, Halves]] = []
    for lead in range(leads[-1] + 1):
        if lead:
            halves, memory = model.predictor(halves, memory)
        known = k - 1 - lead if model.config.anchored else 0
        if known > 0 and lead < leads[-1]:
            clip = model.decode(halves, H, W)
            said[lead] = clip[:, -1]
            clip = torch.cat((stream.recent[:, -known:], clip[:, known:]), 1)
            a, b = model.encode(clip, stream.static)
            halves = a[0], b[0]
        elif lead in leads:
            kept.append((lead, halves))
    if kept:
        a, b = (torch.cat(half) for half in zip(*(h for _, h in kept), strict=True))
        frames = model.decode((a, b), H, W)[:, -1].unflatten(0, (len(kept), -1))
        said |= {lead: frame for (lead, _), frame in zip(kept, frames, strict=True)}
    return torch.stack([said[lead] for lead in leads], 1)


def forecast(
    model: CrevNet, history: Tensor, leads: Sequence[int], static: Tensor | None = None
) -> Tensor:
    """Say the frames at some leads after a history: `(B, T, C, H, W)` to `(B, L, C, H, W)`."""
    return look_ahead(model, begin(model, history, static), leads)
