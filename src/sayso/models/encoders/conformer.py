"""Streaming Conformer (Gulati et al. 2020): chunked attention, causal convolution with a cache, rotary relative
positions.

Two ways through the same weights: ``forward`` runs a whole recording under a chunk mask, ``step`` runs one chunk
against caches of keys, values and convolution inputs; both give the same numbers. Positions are rotary (Su et al.
2021), so only differences matter and a stream may run for hours: ``step`` numbers its window from zero each time.
LayerNorm replaces BatchNorm in the convolution module because a stream has no batch statistics.

Shapes: ``B`` batch, ``T`` frames (features outside, 8 times fewer inside), ``D`` width, ``L`` left context frames,
``C`` chunk frames, ``N`` layers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from sayso.core.config import Config
from sayso.models.masks import chunk_mask, length_mask
from sayso.models.streaming import Context, State
from sayso.models.subsampling import FACTOR, Subsampling


class ConformerConfig(Config):
    """Settings; ``chunk_frames`` and ``left_frames`` are the defaults of a stream (encoder frames of 80 ms)."""

    kind: Literal["conformer"] = "conformer"
    mels: int = 80
    channels: int = 192
    width: int = 256
    layers: int = 8
    heads: int = 4
    feedforward: int = 768
    kernel: int = 9
    dropout: float = 0.1
    chunk_frames: int = 4
    left_frames: int = 32

    def build(self) -> Conformer:
        """Randomly initialised encoder."""
        return Conformer(self)


@dataclass
class ConformerState(State):
    """Caches of a stream; ``fill`` (B,) counts the real frames among the L cached ones (they stand at the end)."""

    sub0: Tensor
    sub1: Tensor
    sub2: Tensor
    keys: Tensor  # (B, N, L, D)
    values: Tensor  # (B, N, L, D)
    conv: Tensor  # (B, N, kernel-1, D)
    fill: Tensor  # (B,) int64


class _FeedForward(nn.Sequential):
    def __init__(self, c: ConformerConfig) -> None:
        super().__init__(
            nn.LayerNorm(c.width), nn.Linear(c.width, c.feedforward), nn.SiLU(),
            nn.Linear(c.feedforward, c.width), nn.Dropout(c.dropout),
        )  # fmt: skip


class _Attention(nn.Module):
    """Self-attention over [cached frames, new frames] with rotary positions."""

    def __init__(self, c: ConformerConfig) -> None:
        super().__init__()
        self.heads, self.size = c.heads, c.width // c.heads
        self.norm = nn.LayerNorm(c.width)
        self.query = nn.Linear(c.width, c.width)
        self.key = nn.Linear(c.width, c.width, bias=False)
        self.value = nn.Linear(c.width, c.width)
        self.out = nn.Linear(c.width, c.width)

    def forward(
        self, x: Tensor, rotation: tuple[Tensor, Tensor], mask: Tensor, cache: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """x (B,C,D), mask (B|1,1,C,L+C), cache (B,L,D) each; returns out, and unrotated keys and values (B,L+C,D)."""
        x = self.norm(x)
        query, key, value = self.query(x), self.key(x), self.value(x)
        if cache is not None:
            key, value = torch.cat([cache[0], key], 1), torch.cat([cache[1], value], 1)
        q, k, v = self._split(query), self._split(key), self._split(value)
        offset = k.shape[2] - q.shape[2]
        q = _rotate(q, rotation[0][offset : offset + q.shape[2]], rotation[1][offset : offset + q.shape[2]])
        k = _rotate(k, rotation[0][: k.shape[2]], rotation[1][: k.shape[2]])
        scores = torch.matmul(q, k.transpose(2, 3)) * self.size**-0.5
        weights = torch.softmax(scores.masked_fill(~mask, -1e9), dim=-1)
        mixed = torch.matmul(weights.to(v.dtype), v)
        return self.out(mixed.transpose(1, 2).flatten(2)), key, value

    def _split(self, x: Tensor) -> Tensor:
        return x.reshape(*x.shape[:2], self.heads, self.size).transpose(1, 2)


class _Convolution(nn.Module):
    """Pointwise GLU, causal depthwise convolution, LayerNorm, SiLU, pointwise."""

    def __init__(self, c: ConformerConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(c.width)
        self.expand = nn.Linear(c.width, 2 * c.width)
        self.depthwise = nn.Conv1d(c.width, c.width, c.kernel, groups=c.width)
        self.middle = nn.LayerNorm(c.width)
        self.out = nn.Linear(c.width, c.width)
        self.dropout = nn.Dropout(c.dropout)

    def forward(self, x: Tensor, cache: Tensor) -> tuple[Tensor, Tensor]:
        """x (B,C,D), cache (B,kernel-1,D): the inputs just before; returns out (B,C,D) and the extended input."""
        x = functional.glu(self.expand(self.norm(x)), dim=-1)
        x = torch.cat([cache.to(x.dtype), x], 1)
        y = self.depthwise(x.transpose(1, 2)).transpose(1, 2)
        return self.dropout(self.out(functional.silu(self.middle(y)))), x


class _Layer(nn.Module):
    def __init__(self, c: ConformerConfig) -> None:
        super().__init__()
        self.first, self.second = _FeedForward(c), _FeedForward(c)
        self.attention, self.convolution = _Attention(c), _Convolution(c)
        self.dropout, self.norm = nn.Dropout(c.dropout), nn.LayerNorm(c.width)

    def forward(
        self,
        x: Tensor,
        rotation: tuple[Tensor, Tensor],
        mask: Tensor,
        cache: tuple[Tensor, Tensor] | None,
        conv: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        x = x + 0.5 * self.first(x)
        attended, keys, values = self.attention(x, rotation, mask, cache)
        x = x + self.dropout(attended)
        convolved, inputs = self.convolution(x, conv)
        x = x + convolved
        x = x + 0.5 * self.second(x)
        return self.norm(x), keys, values, inputs


class Conformer(nn.Module):
    """Streaming Conformer encoder; ``forward`` for training and offline, ``step`` for streams."""

    mean: Tensor
    scale: Tensor

    def __init__(self, config: ConformerConfig) -> None:
        super().__init__()
        self.config = config
        self.width = config.width
        self.subsampling = Subsampling(config.mels, config.channels, config.width)
        self.layers = nn.ModuleList(_Layer(config) for _ in range(config.layers))
        self.register_buffer("mean", torch.zeros(config.mels))
        self.register_buffer("scale", torch.ones(config.mels))

    @property
    def default_context(self) -> Context:
        """The context a stream gets when none is named."""
        return Context(self.config.chunk_frames, self.config.left_frames)

    def lookahead_ms(self, context: Context | None = None) -> float | None:
        """The most future a frame sees beyond its own 80 ms; None: everything."""
        chunk = (context or self.default_context).chunk_frames
        return None if chunk is None else (chunk - 1) * FACTOR * 10.0

    def forward(
        self, x: Tensor, lengths: Tensor, context: Context | None = None, passed: list[Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """x (B,T,F) features, lengths (B,); returns (B,ceil(T/8),D), zero beyond each row's length, and frame
        counts. Every layer's output, shaped so, is appended to ``passed``: for losses on the way."""
        context = context or self.default_context
        x = functional.pad(x, (0, 0, 0, -x.shape[1] % FACTOR))
        x = (x - self.mean) * self.scale
        x, frames, _ = self.subsampling(x, lengths, self.subsampling.init_state(x.shape[0], x))
        size = x.shape[1]
        inside = length_mask(frames, size)
        mask = chunk_mask(size, context.chunk_frames, context.left_frames, x.device)[None] & inside[:, None, :]
        mask = mask | torch.eye(size, dtype=torch.bool, device=x.device)  # padded queries must not see nothing
        rotation = _rotation(size, self.width // self.config.heads, x)
        conv = x.new_zeros(x.shape[0], self.config.kernel - 1, self.width)
        for layer in self.layers:
            x = layer(x, rotation, mask[:, None], None, conv)[0]
            if passed is not None:
                passed.append(x * inside[:, :, None])
        return x * inside[:, :, None], frames

    def init_state(self, batch: int, context: Context | None = None) -> ConformerState:
        """The state before the first sample."""
        context = context or self.default_context
        if context.left_frames is None or context.chunk_frames is None:
            raise ValueError("a stream needs a bounded context: set chunk_frames and left_frames")
        layers = len(self.layers)
        cache = (batch, layers, context.left_frames, self.width)
        like = self.mean
        sub0, sub1, sub2 = self.subsampling.init_state(batch, like)
        return ConformerState(
            sub0=sub0,
            sub1=sub1,
            sub2=sub2,
            keys=like.new_zeros(cache),
            values=like.new_zeros(cache),
            conv=like.new_zeros(batch, layers, self.config.kernel - 1, self.width),
            fill=torch.zeros(batch, dtype=torch.int64, device=like.device),
        )

    def step(
        self,
        x: Tensor,
        lengths: Tensor,
        state: ConformerState,
        context: Context | None = None,
        final: bool = False,
    ) -> tuple[Tensor, Tensor, ConformerState]:
        """One chunk: x (B, 8C, F), zero padded where a row's ``lengths`` is shorter (its last chunk).

        Returns (B,C,D), frame counts (B,), and the next state. Nothing is held back, so ``final`` changes nothing; a
        row that was short must not be stepped again.
        """
        del context, final
        chunk, left = x.shape[1] // FACTOR, state.keys.shape[2]
        x = (x - self.mean) * self.scale
        x, frames, subs = self.subsampling(x, lengths, [state.sub0, state.sub1, state.sub2])
        slot = torch.arange(left + chunk, device=x.device)[None, :]
        visible = (slot >= (left - state.fill)[:, None]) & (slot < (left + frames)[:, None])
        own = torch.cat([visible.new_zeros(chunk, left), torch.eye(chunk, dtype=torch.bool, device=x.device)], 1)
        mask = (visible[:, None, :] | own[None])[:, None]
        rotation = _rotation(left + chunk, self.width // self.config.heads, x)
        keys, values, conv = [], [], []
        for index, layer in enumerate(self.layers):
            cache = (state.keys[:, index], state.values[:, index])
            x, key, value, inputs = layer(x, rotation, mask, cache, state.conv[:, index])
            keys.append(key[:, chunk:])
            values.append(value[:, chunk:])
            conv.append(inputs[:, chunk:])
        following = ConformerState(
            sub0=subs[0],
            sub1=subs[1],
            sub2=subs[2],
            keys=torch.stack(keys, 1),
            values=torch.stack(values, 1),
            conv=torch.stack(conv, 1),
            fill=torch.clamp(state.fill + frames, max=left),
        )
        return x * length_mask(frames, chunk)[:, :, None], frames, following


def _rotation(length: int, size: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines and sines (length, size) of rotary positions 0 .. length-1, in the precision of ``like`` (fp32 at
    least)."""
    kind = torch.float64 if like.dtype == torch.float64 else torch.float32
    rates = 10000.0 ** (-torch.arange(0, size, 2, dtype=kind, device=like.device) / size)
    angles = torch.arange(length, dtype=kind, device=like.device)[:, None] * rates[None, :]
    angles = torch.cat([angles, angles], 1)
    return angles.cos(), angles.sin()


def _rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    turned = torch.cat([-x[..., half:], x[..., :half]], -1)
    return x * cosine.to(x.dtype) + turned * sine.to(x.dtype)
