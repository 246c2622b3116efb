"""LSTM decoder with location-aware attention (Chorowski et al. 2015): what a label listens to depends on what is in the
frames and on where the one before it listened.

What was heard goes into the next step of the LSTM, so labels are written one after the other in training too. Without
location (``location = 0``) attention is by content alone (Bahdanau et al. 2015) and works over any piece of the frames:
the streaming decoders are made of that.

Shape letters: ``B`` batch, ``T`` encoder frames, ``E`` their width, ``U`` labels, ``D`` width, ``L`` layers, ``A``
width of the attention, ``V`` vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from sayso.models.decoders.base import Decoder, DecoderSettings, Memory, masked_softmax
from sayso.models.encoders.lstm import LstmLayer
from sayso.models.masks import length_mask
from sayso.models.streaming import State


class LstmCoreSettings(DecoderSettings):
    """What LSTM decoders share: ``attention`` is the width in which frames and labels are compared."""

    width: int = Field(default=256, gt=0)
    layers: int = Field(default=1, ge=1)
    attention: int = Field(default=128, ge=1)
    dropout: float = Field(default=0.1, ge=0, lt=1)


class LstmDecoderConfig(LstmCoreSettings):
    """``location`` is the number of filters over the attention before, ``kernel`` how many frames one sees."""

    kind: Literal["lstm"] = "lstm"
    location: int = Field(default=10, ge=0)
    kernel: int = Field(default=15, ge=1)

    @model_validator(mode="after")
    def _centred(self) -> Self:
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel = {self.kernel} must be odd, so that it has a middle")
        return self

    def build(self, encoder_width: int, vocab: int) -> LstmDecoder:
        """Decoder of ``vocab`` labels over frames of this width."""
        return LstmDecoder(self, encoder_width, vocab)


@dataclass
class LstmDecoderState(State):
    """What the layers remember and what was heard last. ``attended`` are the last weights, ``covered`` their sum over
    all labels."""

    hidden: Tensor  # (B, L, D)
    cell: Tensor  # (B, L, D)
    context: Tensor  # (B, E)
    attended: Tensor | None = None  # (B, T)
    covered: Tensor | None = None  # (B, T)


class LstmCore(nn.Module):
    """Last label and what was heard to a query, and from there to logits."""

    def __init__(self, c: LstmCoreSettings, encoder_width: int, vocab: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab, c.width)
        self.layers = nn.ModuleList(
            LstmLayer(c.width + (0 if index else encoder_width), c.width, c.width) for index in range(c.layers)
        )
        self.dropout = nn.Dropout(c.dropout)
        self.mix = nn.Linear(c.width + encoder_width, c.width)
        self.out = nn.Linear(c.width, vocab)

    def query(self, labels: Tensor, context: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Labels (B,), context (B,E) and memories (B,L,D) to the query (B,D) and the next memories."""
        x = self.dropout(torch.cat([self.embedding(labels), context], -1))[:, None]
        hs, cs = [], []
        for index, layer in enumerate(self.layers):
            x, h, c = layer(x, hidden[:, index], cell[:, index])
            hs.append(h)
            cs.append(c)
        return x[:, 0], torch.stack(hs, 1), torch.stack(cs, 1)

    def logits(self, query: Tensor, context: Tensor) -> Tensor:
        """(B,D) and (B,E) to (B,V)."""
        said: Tensor = self.out(self.dropout(torch.tanh(self.mix(torch.cat([query, context], -1)))))
        return said


class LstmDecoder(Decoder[LstmDecoderState]):
    """See the module."""

    config: LstmDecoderConfig

    def __init__(self, config: LstmDecoderConfig, encoder_width: int, vocab: int) -> None:
        super().__init__()
        self.config, self.width = config, config.width
        self.core = LstmCore(config, encoder_width, vocab)
        self.key = nn.Linear(encoder_width, config.attention, bias=False)
        self.asked = nn.Linear(config.width, config.attention)
        self.energy = nn.Linear(config.attention, 1, bias=False)
        if config.location:
            self.filters = nn.Conv1d(1, config.location, config.kernel, padding=config.kernel // 2, bias=False)
            self.place = nn.Linear(config.location, config.attention, bias=False)

    @property
    def out(self) -> nn.Linear:
        """The last layer."""
        return self.core.out

    def attended(
        self, labels: Tensor, encoded: Tensor, lengths: Tensor, seen: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """As the contract says."""
        memory = self.memory(encoded, lengths)
        state = self.init_state(encoded.shape[0], encoded.shape[1] if self.config.location else None)
        said, listened = [], []
        for place, label in enumerate(nn.functional.pad(labels, (1, 0)).unbind(1)):
            heard = memory.heard if seen is None else memory.heard & seen[:, place]
            logits, weights, state = self._written(label, state, memory, heard)
            said.append(logits)
            listened.append(weights)
        return torch.stack(said, 1), torch.stack(listened, 1)

    def memory(self, encoded: Tensor, lengths: Tensor) -> Memory:
        """Keys, and the frames themselves."""
        return Memory(self.key(encoded)[:, None], encoded[:, None], length_mask(lengths, encoded.shape[1]))

    def init_state(self, batch: int, frames: int | None = None) -> LstmDecoderState:
        """As the contract says; attention that knows places needs ``frames``."""
        c, like = self.config, self.key.weight
        if c.location and frames is None:
            raise ValueError("attention that knows places needs frames that stay; set location = 0 for any others")
        known = None if frames is None else like.new_zeros(batch, frames)
        return LstmDecoderState(
            hidden=like.new_zeros(batch, c.layers, c.width),
            cell=like.new_zeros(batch, c.layers, c.width),
            context=like.new_zeros(batch, self.key.in_features),
            attended=known if c.location else None,
            covered=None if known is None else known.clone(),
        )

    def step(self, labels: Tensor, state: LstmDecoderState, memory: Memory) -> tuple[Tensor, LstmDecoderState]:
        """As the contract says."""
        logits, _, following = self._written(labels, state, memory, memory.heard)
        return logits, following

    def _written(
        self, labels: Tensor, state: LstmDecoderState, memory: Memory, heard: Tensor
    ) -> tuple[Tensor, Tensor, LstmDecoderState]:
        """Logits (B,V), weights (B,T), the next state."""
        query, hidden, cell = self.core.query(labels, state.context, state.hidden, state.cell)
        compared = memory.keys[:, 0] + self.asked(query)[:, None]
        if state.attended is not None:
            compared = compared + self.place(self.filters(state.attended[:, None]).transpose(1, 2))
        weights = masked_softmax(self.energy(torch.tanh(compared))[:, :, 0], heard)
        context = torch.matmul(weights[:, None].to(memory.values.dtype), memory.values[:, 0])[:, 0]
        covered = None if state.covered is None else state.covered + weights
        attended = None if state.attended is None else weights
        following = LstmDecoderState(hidden, cell, context, attended, covered)
        return self.core.logits(query, context), weights, following
