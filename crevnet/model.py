"""CrevNet: pad, encode, advance, decode, crop (paper, eq. 1 and 4)."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from crevnet.autoencoder import MemoryMode, TwoWayAutoencoder
from crevnet.config import CrevNetConfig
from crevnet.coupling import Halves
from crevnet.layers import lay_channels_last
from crevnet.memory import Memory
from crevnet.padding import crop, pad
from crevnet.predictor import Predictor
from crevnet.volumes import to_frames, to_volume


class CrevNet(nn.Module):
    """The conditionally reversible network.

    A step sees the clip of frames `t .. t + k - 1` and says the clip `t + 1 .. t + k`: clips
    overlap, and the last frame is the new one.

    Shapes:
        Frames `(B, T, C, H, W)` in [0, 1], any H and W; static map `(B, S, H, W)`.
    """

    def __init__(self, config: CrevNetConfig) -> None:
        super().__init__()
        self.config = config
        self.autoencoder = TwoWayAutoencoder(config)
        self.predictor = Predictor(config)
        lay_channels_last(self.predictor)

    def forward(
        self,
        frames: Tensor,
        static: Tensor | None = None,
        *,
        memory: MemoryMode = "plain",
        segment: int = 1,
    ) -> Tensor:
        """Predict every clip from the true one before it (teacher forcing), all steps.

        Args:
            frames: `(B, T, C, H, W)`, with T at least k + 1.
            static: `(B, S, H, W)` for a config with static channels.
            memory: *plain* keeps activations for backward; *frugal* makes them again: the
                autoencoder by inversion, the predictor from the state that entered a segment.
            segment: Steps of a segment; fewer need less memory at the peak, more less in all.

        Returns:
            `(B, T - k, k, C, H, W)`: at step `t` the clip of frames `t + 1 .. t + k`.

        Raises:
            ValueError: Too few frames, or a map missing or unasked for.
        """
        k = self.config.clip
        B, T, _, H, W = frames.shape
        steps = T - k
        if steps < 1:
            raise ValueError(f"{T} frames, but clips of {k} and the next one take {k + 1}")
        if self.config.norm == "batch" and self.training:
            return self._step_by_step(frames, static, memory)
        halves = self.encode(frames[:, :-1], static, memory)
        state = self.predictor.start(halves[0][0])
        if memory == "frugal" and torch.is_grad_enabled():
            said = self._advance_frugally(halves, state, segment)[0]
        else:
            said = self._advance(halves, state)[0]
        a, b = (torch.cat(half) for half in zip(*said, strict=True))
        clips = self.decode((a, b), H, W, memory)  # (steps * B, k, C, H, W)
        return clips.reshape(steps, B, k, self.config.channels, H, W).transpose(0, 1)

    def unroll(
        self,
        history: Tensor,
        horizon: int,
        static: Tensor | None = None,
        *,
        memory: MemoryMode = "plain",
        segment: int = 1,
    ) -> Tensor:
        """Say every next frame of a history, then look ahead: what training on roll-outs needs.

        Args:
            history: `(B, T, C, H, W)`, with T at least k.
            horizon: Frames to look ahead, at least 1.
            static: `(B, S, H, W)` for a config with static channels.
            memory: As in `forward`.
            segment: As in `forward`.

        Returns:
            `(B, T - k + horizon, C, H, W)`: frames `k .. T + horizon - 1`. The last `horizon` are
            the forecast, equal to `rollout.forecast`'s; each before them is said from the true
            frames before it.

        Raises:
            ValueError: Too few frames, no horizon, or a map missing or unasked for.
        """
        if horizon < 1:
            raise ValueError(f"a horizon of {horizon} frames, expected at least 1")
        k, (H, W) = self.config.clip, history.shape[-2:]
        halves = self.encode(history, static, memory)
        advance = self._advance
        if memory == "frugal" and torch.is_grad_enabled():
            advance = partial(self._advance_frugally, segment=segment)
        said, state = advance(halves, self.predictor.start(halves[0][0]))
        for known in range(k - 1, k - horizon, -1):
            a, b = said[-1]
            if self.config.anchored and known > 0:
                clip = self.decode((a, b), H, W, memory)
                clip = torch.cat((history[:, -known:], clip[:, known:]), 1)
                a, b = (half[0] for half in self.encode(clip, static, memory))
            more, state = advance((a[None], b[None]), state)
            said += more
        a, b = (torch.cat(half) for half in zip(*said, strict=True))
        frames = self.decode((a, b), H, W, memory)[:, -1]
        unrolled: Tensor = frames.unflatten(0, (len(said), -1)).transpose(0, 1)
        return unrolled

    def encode(
        self, frames: Tensor, static: Tensor | None = None, memory: MemoryMode = "plain"
    ) -> Halves:
        """Encode every clip of `(B, T, C, H, W)`: halves `(T - k + 1, B, width, [D,] h, w)`."""
        steps, B = frames.shape[1] - self.config.clip + 1, frames.shape[0]
        volume = pad(to_volume(self.config, frames, static), self.config.factor)
        a, b = self.autoencoder.encode(volume, memory)
        return a.unflatten(0, (steps, B)), b.unflatten(0, (steps, B))

    def decode(
        self, halves: Halves, height: int, width: int, memory: MemoryMode = "plain"
    ) -> Tensor:
        """Decode halves `(N, width, [D,] h, w)` to clips `(N, k, C, H, W)`, without the map."""
        volume = self.autoencoder.decode(halves, memory)
        return to_frames(self.config, crop(volume, height, width))

    def invert(
        self,
        clip: Tensor,
        before: Memory,
        after: Memory,
        static: Tensor | None = None,
        *,
        limit: float = 1e6,
    ) -> tuple[Tensor, float]:
        """Recover the clip that a prediction was made from (paper, eq. 5).

        Exact as far as arithmetic allows, for sizes that need no padding and for nets without a
        map: what was predicted for padding and map is not part of a clip.

        Args:
            clip: Predicted clip `(B, k, C, H, W)`.
            before: Memory that entered the step.
            after: Memory that left it.
            static: Map `(B, S, H, W)`, taken for what the network predicted of it.
            limit: See `Predictor.invert`.

        Returns:
            The clip that was seen, `(B, k, C, H, W)`, and the condition number.

        Raises:
            IllConditionedError: Gates are too near 1.
        """
        H, W = clip.shape[-2:]
        a, b = self.encode(clip, static)
        halves, condition = self.predictor.invert((a[0], b[0]), before, after, limit=limit)
        return self.decode(halves, H, W), condition

    def _step_by_step(self, frames: Tensor, static: Tensor | None, memory: MemoryMode) -> Tensor:
        """Encode, advance and decode step by step: BatchNorm's statistics are those of a step."""
        k, (H, W) = self.config.clip, frames.shape[-2:]
        state: Memory | None = None
        clips = []
        for start in range(frames.shape[1] - k):
            a, b = self.encode(frames[:, start : start + k], static, memory)
            state = state or self.predictor.start(a[0])
            halves, state = self.predictor((a[0], b[0]), state)
            clips.append(self.decode(halves, H, W, memory))
        return torch.stack(clips, 1)

    def _advance(self, halves: Halves, state: Memory) -> tuple[list[Halves], Memory]:
        said = []
        for now in zip(*halves, strict=True):
            out, state = self.predictor(now, state)
            said.append(out)
        return said, state

    def _advance_frugally(
        self, halves: Halves, state: Memory, segment: int
    ) -> tuple[list[Halves], Memory]:
        said: list[Halves] = []
        for start in range(0, len(halves[0]), segment):
            part = slice(start, start + segment)
            # Only what enters the next segment leaves this one: h, c and the topmost M.
            flat = checkpoint(
                self._segment,
                halves[0][part],
                halves[1][part],
                *state.hidden,
                *state.cell,
                *state.spatial[-1:],
                use_reentrant=False,
            )
            n, steps = len(state.hidden), len(halves[0][part])
            said += [(flat[2 * s], flat[2 * s + 1]) for s in range(steps)]
            rest = flat[2 * steps :]
            state = Memory(rest[:n], rest[n : 2 * n], rest[2 * n :])
        return said, state

    def _segment(self, a: Tensor, b: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        n = len(self.predictor.rpms)
        memory = Memory(state[:n], state[n : 2 * n], state[2 * n :])
        said, memory = self._advance((a, b), memory)
        flat = [half for halves in said for half in halves]
        return (*flat, *memory.hidden, *memory.cell, *memory.spatial[-1:])
