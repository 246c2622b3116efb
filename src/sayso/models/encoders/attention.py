"""What attention encoders share: self-attention with rotary positions, the feed-forward part, and an encoder around a
stack of layers that runs whole under a mask or in a stream against caches.

Positions are rotary (Su et al. 2021), so only differences matter and a stream may run for hours: ``step`` numbers its
window from zero each time. Keys and values of the last ``left_frames`` are kept, so cost and memory per frame are
constant; with an unbounded history they grow. Where a mask looks ahead of the chunk (``right_frames``), every layer of
a stream holds frames back until what they may see has come, so layer ``i`` is ``i * held`` frames late.

Shapes: ``B`` batch, ``n`` new frames, ``D`` width, ``K`` cached frames (``left_frames`` and those held back), ``N``
layers, ``H`` frames held back, ``k`` kernel of a causal convolution.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from pydantic import Field
from torch import Tensor, nn

from sayso.models.encoders.base import FEATURE_MS, Encoder, EncoderSettings
from sayso.models.masks import attention_mask, dependence, length_mask
from sayso.models.streaming import Context, State
from sayso.models.subsampling import FACTOR

Turn = tuple[Tensor, Tensor]  # cosines and sines (frames, head size)


class AttentionSettings(EncoderSettings):
    """What attention encoders are asked besides."""

    heads: int = 4
    feedforward: int = Field(default=768, ge=1)
    attention_dropout: float = Field(default=0.0, ge=0, lt=1)  # the chance that a query does not see a key
    layer_dropout: float = Field(default=0.0, ge=0, lt=1)  # the chance that training leaves out a layer


@dataclass
class AttentionState(State):
    """Caches of a stream; ``fill`` (B,) counts the frames it has had, up to where more makes no difference."""

    sub: Tensor  # (B, S) of the subsampling
    keys: Tensor  # (B, N, K, D)
    values: Tensor  # (B, N, K, D)
    fill: Tensor  # (B,) int64
    conv: Tensor | None = None  # (B, N, k-1, D)
    held: Tensor | None = None  # (B, N, H, D)


@dataclass
class Look:
    """What the frames of one pass may see: rotations of queries and keys, mask (B|1,1,Q,K), and which queries are
    frames at all (B,Q,1), None: all that matter."""

    queries: Turn
    keys: Turn
    mask: Tensor
    real: Tensor | None = None


@dataclass
class Memory:
    """One layer's part of the state, on the way in; on the way out, longer by the new frames."""

    keys: Tensor
    values: Tensor
    conv: Tensor | None = None
    held: Tensor | None = None


class FeedForward(nn.Sequential):
    """Normalise, widen, SiLU, narrow."""

    def __init__(self, c: AttentionSettings) -> None:
        super().__init__(
            nn.LayerNorm(c.width), nn.Linear(c.width, c.feedforward), nn.SiLU(),
            nn.Linear(c.feedforward, c.width), nn.Dropout(c.dropout),
        )  # fmt: skip


class Attention(nn.Module):
    """Multi-head self-attention (Vaswani et al. 2017) over [cached frames, new frames] with rotary positions."""

    def __init__(self, c: AttentionSettings) -> None:
        super().__init__()
        self.heads, self.size = c.heads, c.width // c.heads
        self.dropout = nn.Dropout(c.attention_dropout)
        self.norm = nn.LayerNorm(c.width)
        self.query = nn.Linear(c.width, c.width)
        self.key = nn.Linear(c.width, c.width, bias=False)
        self.value = nn.Linear(c.width, c.width)
        self.out = nn.Linear(c.width, c.width)

    def forward(self, x: Tensor, look: Look, memory: Memory | None) -> tuple[Tensor, Tensor, Memory]:
        """x (B,n,D) new frames; returns the frames whose turn it is (B,n,D), what they see (B,n,D), and the memory with
        the new keys and values, unrotated."""
        turn, normed = x, self.norm(x)
        asked, key, value, held = normed, self.key(normed), self.value(normed), None
        if memory is not None:
            key, value = torch.cat([memory.keys, key], 1), torch.cat([memory.values, value], 1)
            if memory.held is not None:
                held = torch.cat([memory.held, x], 1)
                turn = held[:, : x.shape[1]]
                asked = self.norm(turn)
        q = _rotate(self._split(self.query(asked)), look.queries)
        k, v = _rotate(self._split(key), look.keys), self._split(value)
        scores = torch.matmul(q, k.transpose(2, 3)) * self.size**-0.5
        # finite, so that a row without anything to see is no NaN; exp of it is exactly zero beside anything seen
        weights = torch.softmax(scores.masked_fill(~look.mask, -1e9), dim=-1)
        seen = self.out(torch.matmul(self.dropout(weights).to(v.dtype), v).transpose(1, 2).flatten(2))
        return turn, seen, Memory(key, value, None if memory is None else memory.conv, held)

    def _split(self, x: Tensor) -> Tensor:
        return x.reshape(*x.shape[:2], self.heads, self.size).transpose(1, 2)


class AttentionLayer(nn.Module, ABC):
    """One layer of the stack."""

    @abstractmethod
    def forward(self, x: Tensor, look: Look, memory: Memory | None) -> tuple[Tensor, Memory]:
        """x (B,n,D) new frames; returns those whose turn it is (B,n,D), and the longer memory."""

    @abstractmethod
    def ends(self) -> list[nn.Linear]:
        """The last projection of every residual branch."""

    @torch.no_grad()
    def become_identity(self) -> None:
        """Pass the input on (nearly, where a norm stands behind the branches): how a deeper encoder begins."""
        for projection in self.ends():
            nn.init.zeros_(projection.weight)
            nn.init.zeros_(projection.bias)


class AttentionEncoder(Encoder[AttentionState]):
    """Encoder around ``layers``; ``history`` is the frames of the past that a layer's convolution adds."""

    config: AttentionSettings

    def __init__(self, config: AttentionSettings, layers: list[AttentionLayer], history: int = 0) -> None:
        super().__init__(config)
        if config.width % (2 * config.heads):
            raise ValueError(f"width {config.width} must be a multiple of twice the {config.heads} heads")
        self.layers = nn.ModuleList(layers)
        self.history = history

    def lookahead_ms(self, context: Context | None = None) -> float | None:
        """As the contract says."""
        ahead = [last for _, last in self._dependence(context)]
        return None if ahead[0] is None else max(last or 0 for last in ahead) * FACTOR * FEATURE_MS

    def receptive_field_ms(self, context: Context | None = None) -> float | None:
        """As the contract says; the subsampling adds the seven features before a frame's own eight."""
        spans = [first + last for first, last in self._dependence(context) if first is not None and last is not None]
        return (max(spans) * FACTOR + 2 * FACTOR - 1) * FEATURE_MS if spans else None

    def _dependence(self, context: Context | None) -> list[tuple[int | None, int | None]]:
        return dependence(context or self.default_context, len(self.layers), self.history)

    def forward(
        self, x: Tensor, lengths: Tensor, context: Context | None = None, passed: list[Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """As the contract says."""
        x, frames, _ = self.reduced(x, lengths)
        size = x.shape[1]
        inside = length_mask(frames, size)
        frame = torch.arange(size, device=x.device)
        mask = attention_mask(frame, frame, context or self.default_context)[None] & inside[:, None, :]
        mask = mask | torch.eye(size, dtype=torch.bool, device=x.device)  # padded queries must not see nothing
        turn = self._turn(size, x)
        look = Look(turn, turn, mask[:, None])
        for layer in self.layers:
            if not self._left_out():
                x, _ = layer(x, look, None)
            if passed is not None:
                passed.append(self.finish(x) * inside[:, :, None])
        return self.finish(x) * inside[:, :, None], frames

    def _left_out(self) -> bool:
        """Whether this batch goes past a layer (stochastic depth as LayerDrop; Fan et al. 2020, arXiv:1909.11556):
        nothing is rescaled, so that judging and streams see the layers as they are."""
        rate = self.config.layer_dropout
        return self.training and rate > 0 and float(torch.rand(())) < rate

    def finish(self, x: Tensor) -> Tensor:
        """What stands behind the stack: nothing here."""
        return x

    def init_state(self, batch: int, context: Context | None = None) -> AttentionState:
        """As the contract says; full history begins with an empty cache, which every step lengthens."""
        context = context or self.default_context
        if context.chunk_frames is None:
            raise ValueError("a stream cannot see everything: set chunk_frames")
        layers, held, like = len(self.layers), context.held_frames, self.mean
        cache = (batch, layers, (context.left_frames or 0) + held, self.width)
        return AttentionState(
            sub=self.subsampling.init_state(batch, like),
            keys=like.new_zeros(cache),
            values=like.new_zeros(cache),
            fill=torch.zeros(batch, dtype=torch.int64, device=like.device),
            conv=like.new_zeros(batch, layers, self.history, self.width) if self.history else None,
            held=like.new_zeros(batch, layers, held, self.width) if held else None,
        )

    def step(
        self, x: Tensor, lengths: Tensor, state: AttentionState, context: Context | None = None, final: bool = False
    ) -> tuple[Tensor, Tensor, AttentionState]:
        """As the contract says; x may be several chunks at once where ``context`` says what one is."""
        context = _context_of(state, x.shape[1], context)
        x, frames, sub = self.reduced(x, lengths, state.sub)
        held, late = context.held_frames, context.held_frames * len(self.layers)
        if final and held:
            x = nn.functional.pad(x, (0, 0, 0, late))  # pushes out what was held back
        size, kept = x.shape[1], []
        look = self._look(context, state, frames, size, 0)
        for index, layer in enumerate(self.layers):
            if index and held:
                look = self._look(context, state, frames, size, index * held)
            x, memory = layer(x, look, _layer_memory(state, index))
            kept.append(memory)
        drop = 0 if context.left_frames is None else size
        following = AttentionState(
            sub=sub,
            keys=torch.stack([memory.keys[:, drop:] for memory in kept], 1),
            values=torch.stack([memory.values[:, drop:] for memory in kept], 1),
            fill=state.fill + frames,
            conv=_stacked([memory.conv for memory in kept], size),
            held=_stacked([memory.held for memory in kept], size),
        )
        if context.left_frames is not None:  # beyond this all comparisons come out the same
            following.fill = torch.clamp(following.fill, max=state.keys.shape[2] + late)
        x = self.finish(x)
        if held:
            x, frames = _ready(x, torch.clamp(late - state.fill, min=0), frames + late if final else frames)
        return x * length_mask(frames, x.shape[1])[:, :, None], frames, following

    def _look(self, context: Context, state: AttentionState, frames: Tensor, size: int, late: int) -> Look:
        """For a layer whose input is ``late`` frames behind the stream: ``size`` new frames behind the cached ones."""
        held, cached = context.held_frames, state.keys.shape[2]
        slot = torch.arange(cached + size, device=frames.device)
        query = torch.arange(size, device=frames.device) - held
        real = (slot >= (cached + late - state.fill)[:, None]) & (slot < (cached + late + frames)[:, None])
        mask = attention_mask(query, slot - cached, context) & real[:, None, :]
        mask = mask | (query[:, None] == (slot - cached)[None, :])  # padded queries must not see nothing
        cosine, sine = self._turn(cached + size, state.keys)
        mine = slice(cached - held, cached - held + size)
        heard = (query >= (late - state.fill)[:, None])[:, :, None] if held else None
        return Look((cosine[mine], sine[mine]), (cosine, sine), mask[:, None], heard)

    def _turn(self, length: int, like: Tensor) -> Turn:
        return _rotation(length, self.width // self.config.heads, like)


def _context_of(state: AttentionState, features: int, context: Context | None) -> Context:
    """The context of this step, checked against the state's shapes."""
    held, cached, new = 0 if state.held is None else state.held.shape[2], state.keys.shape[2], features // FACTOR
    if context is None:
        if held:
            raise ValueError("a stream that looks ahead of its chunks needs its context in every step")
        return Context(new, cached)
    if context.chunk_frames is None or new % context.chunk_frames or features % FACTOR:
        raise ValueError(f"{features} features are not whole chunks of {context}")
    if context.held_frames != held or (context.left_frames is not None and context.left_frames + held != cached):
        raise ValueError(f"the state was made for another context than {context}")
    return context


def _layer_memory(state: AttentionState, index: int) -> Memory:
    conv, held = (part if part is None else part[:, index] for part in (state.conv, state.held))
    return Memory(state.keys[:, index], state.values[:, index], conv, held)


def _stacked(parts: list[Tensor | None], size: int) -> Tensor | None:
    """All layers' memories without their ``size`` oldest frames."""
    there = [part[:, size:] for part in parts if part is not None]
    return torch.stack(there, 1) if there else None


def _ready(x: Tensor, first: Tensor, end: Tensor) -> tuple[Tensor, Tensor]:
    """Frames ``first`` to ``end`` (B,) of each row moved to the front of (B,m,D), and their counts."""
    size = x.shape[1]
    place = torch.clamp(torch.arange(size, device=x.device)[None, :] + first[:, None], max=size - 1)
    return x.gather(1, place[:, :, None].expand(-1, -1, x.shape[2])), torch.clamp(end - first, min=0)


def _rotation(length: int, size: int, like: Tensor) -> Turn:
    """Cosines and sines (length, size) of rotary positions 0 .. length-1, in the precision of ``like`` (fp32 at
    least)."""
    kind = torch.float64 if like.dtype == torch.float64 else torch.float32
    rates = 10000.0 ** (-torch.arange(0, size, 2, dtype=kind, device=like.device) / size)
    angles = torch.arange(length, dtype=kind, device=like.device)[:, None] * rates[None, :]
    angles = torch.cat([angles, angles], 1)
    return angles.cos(), angles.sin()


def _rotate(x: Tensor, turn: Turn) -> Tensor:
    half = x.shape[-1] // 2
    turned = torch.cat([-x[..., half:], x[..., :half]], -1)
    return x * turn[0].to(x.dtype) + turned * turn[1].to(x.dtype)
