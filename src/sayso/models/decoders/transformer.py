"""Transformer decoder (Vaswani et al. 2017), pre-norm: causal self-attention over what was written,
cross-attention over what was heard.

``step`` keeps keys and values of earlier labels in caches of a fixed shape with a fill count for each row, those of the
frames in a ``Memory`` that is made once.

Shape letters: ``B`` batch, ``T`` encoder frames, ``E`` their width, ``U`` labels, ``D`` width, ``N`` layers, ``K``
labels that a cache holds, ``V`` vocabulary.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from sayso.models.decoders.base import Decoder, DecoderSettings, Memory, masked_softmax
from sayso.models.masks import length_mask
from sayso.models.streaming import State


class TransformerDecoderConfig(DecoderSettings):
    """Settings; ``longest`` is how many labels ``step`` can write, the end included."""

    kind: Literal["transformer"] = "transformer"
    width: int = Field(default=256, gt=0)
    layers: int = Field(default=3, ge=1)
    heads: int = Field(default=4, ge=1)
    feedforward: int = Field(default=1024, ge=1)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    longest: int = Field(default=96, ge=1)

    @model_validator(mode="after")
    def _divisible(self) -> Self:
        if self.width % self.heads or self.width % 2:
            raise ValueError(f"width {self.width} must be even and a multiple of heads ({self.heads})")
        return self

    def build(self, encoder_width: int, vocab: int) -> TransformerDecoder:
        """Decoder of ``vocab`` labels over frames of this width."""
        return TransformerDecoder(self, encoder_width, vocab)


@dataclass
class TransformerDecoderState(State):
    """Caches of what was written; ``fill`` (B,) counts it. ``covered`` sums over labels how much each frame was
    listened
    to, on average over layers and heads."""

    keys: Tensor  # (B, N, K, D)
    values: Tensor  # (B, N, K, D)
    fill: Tensor  # (B,) int64
    covered: Tensor | None = None  # (B, T)


class TransformerDecoder(Decoder[TransformerDecoderState]):
    """Labels and frames to logits of the next label."""

    config: TransformerDecoderConfig

    def __init__(self, config: TransformerDecoderConfig, encoder_width: int, vocab: int) -> None:
        super().__init__()
        self.config, self.width = config, config.width
        self.embedding = nn.Embedding(vocab, config.width)
        nn.init.normal_(self.embedding.weight, std=config.width**-0.5)
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(_Layer(config, encoder_width) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width)
        self.out = nn.Linear(config.width, vocab)

    @property
    def longest(self) -> int | None:
        """As many as the caches hold."""
        return self.config.longest

    def attended(
        self, labels: Tensor, encoded: Tensor, lengths: Tensor, seen: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """As the contract says; attention is the mean over layers and heads."""
        x = self._embedded(nn.functional.pad(labels, (1, 0)), torch.arange(labels.shape[1] + 1, device=labels.device))
        causal = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).tril()
        heard = length_mask(lengths, encoded.shape[1])[:, None, None]
        if seen is not None:
            heard = heard & seen[:, None]
        listened = []
        for layer in self._layers():
            keys, values = layer.written.remembered(layer.written.norm(x))
            x, weights = layer(x, (keys, values), causal, layer.heard.remembered(encoded), heard)
            listened.append(weights.mean(1))
        return self.out(self.norm(x)), torch.stack(listened).mean(0)

    def memory(self, encoded: Tensor, lengths: Tensor) -> Memory:
        """Keys and values of every layer."""
        pairs = [layer.heard.remembered(encoded) for layer in self._layers()]
        keys, values = (torch.stack(part, 1) for part in zip(*pairs, strict=True))
        return Memory(keys, values, length_mask(lengths, encoded.shape[1]))

    def init_state(self, batch: int, frames: int | None = None) -> TransformerDecoderState:
        """As the contract says; with ``frames`` it knows what was covered."""
        zeros = self.out.weight.new_zeros(batch, self.config.layers, self.config.longest, self.width)
        fill = torch.zeros(batch, dtype=torch.int64, device=zeros.device)
        covered = None if frames is None else zeros.new_zeros(batch, frames)
        return TransformerDecoderState(zeros, zeros.clone(), fill, covered)

    def step(
        self, labels: Tensor, state: TransformerDecoderState, memory: Memory
    ) -> tuple[Tensor, TransformerDecoderState]:
        """As the contract says."""
        places = torch.arange(self.config.longest, device=labels.device)
        here = (places == state.fill[:, None])[:, :, None]  # where the new label's keys go
        seen = (places <= state.fill[:, None])[:, None, None]
        x = self._embedded(labels[:, None], state.fill[:, None])
        keys, values, listened = [], [], []
        for index, layer in enumerate(self._layers()):
            key, value = layer.written.remembered(layer.written.norm(x))
            keys.append(torch.where(here, key, state.keys[:, index]))
            values.append(torch.where(here, value, state.values[:, index]))
            heard = memory.keys[:, index], memory.values[:, index]
            x, weights = layer(x, (keys[-1], values[-1]), seen, heard, memory.heard[:, None, None])
            listened.append(weights.mean((1, 2)))
        covered = None if state.covered is None else state.covered + torch.stack(listened).mean(0)
        following = TransformerDecoderState(torch.stack(keys, 1), torch.stack(values, 1), state.fill + 1, covered)
        return self.out(self.norm(x[:, 0])), following

    def _embedded(self, labels: Tensor, places: Tensor) -> Tensor:
        x = self.embedding(labels) * math.sqrt(self.width)
        out: Tensor = self.dropout(x + _sinusoids(places, self.width).to(x.dtype))
        return out

    def _layers(self) -> list[_Layer]:
        return [layer for layer in self.layers if isinstance(layer, _Layer)]


class _Layer(nn.Module):
    def __init__(self, c: TransformerDecoderConfig, encoder_width: int) -> None:
        super().__init__()
        self.written = _Attention(c, c.width)
        self.heard = _Attention(c, encoder_width)
        self.feedforward = nn.Sequential(
            nn.LayerNorm(c.width), nn.Linear(c.width, c.feedforward), nn.SiLU(), nn.Dropout(c.dropout),
            nn.Linear(c.feedforward, c.width), nn.Dropout(c.dropout),
        )  # fmt: skip
        self.dropout = nn.Dropout(c.dropout)

    def forward(
        self, x: Tensor, written: tuple[Tensor, Tensor], seen: Tensor, heard: tuple[Tensor, Tensor], real: Tensor
    ) -> tuple[Tensor, Tensor]:
        """x (B,n,D); keys and values written (B,m,D) and heard (B,T,D), and masks that broadcast to (B,H,n,m|T). The
        new x, and weights (B,H,n,T) of what was heard."""
        x = x + self.dropout(self.written(x, *written, seen)[0])
        found, weights = self.heard(x, *heard, real)
        x = x + self.dropout(found)
        return x + self.feedforward(x), weights


class _Attention(nn.Module):
    """Multi-head attention over keys and values that someone else keeps."""

    def __init__(self, c: TransformerDecoderConfig, source: int) -> None:
        super().__init__()
        self.heads, self.size = c.heads, c.width // c.heads
        self.norm = nn.LayerNorm(c.width)
        self.query = nn.Linear(c.width, c.width)
        self.key = nn.Linear(source, c.width, bias=False)
        self.value = nn.Linear(source, c.width)
        self.out = nn.Linear(c.width, c.width)

    def remembered(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (B,n,D)."""
        return self.key(x), self.value(x)

    def forward(self, x: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """What x (B,n,D) sees in keys and values (B,m,D): (B,n,D), and its weights (B,H,n,m)."""
        q, k, v = (self._split(part) for part in (self.query(self.norm(x)), keys, values))
        scores = torch.matmul(q, k.transpose(2, 3)) * self.size**-0.5
        weights = masked_softmax(scores, mask)
        return self.out(torch.matmul(weights.to(v.dtype), v).transpose(1, 2).flatten(2)), weights

    def _split(self, x: Tensor) -> Tensor:
        return x.reshape(*x.shape[:2], self.heads, self.size).transpose(1, 2)


def _sinusoids(places: Tensor, width: int) -> Tensor:
    """(..., width): sines, then cosines, of every place at wavelengths from 2 pi to 20000 pi."""
    rates = torch.exp(torch.arange(width // 2, device=places.device) * (-math.log(10000.0) / (width // 2)))
    angles = places[..., None] * rates
    return torch.cat([angles.sin(), angles.cos()], -1)
