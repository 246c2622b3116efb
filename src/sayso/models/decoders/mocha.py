"""Monotonic chunkwise attention (Chiu and Raffel 2018; monotonic attention Raffel et al. 2017): a label chooses one
frame, never before that of the label before it, and listens softly to the ``chunk_frames`` that end there.

In training the choice is its expectation over all ways to choose, with noise on its energies so that they learn to be
clear; otherwise a frame is chosen where the energy is positive, and frames before it are never looked at again.

Shape letters: ``B`` batch, ``T`` encoder frames, ``E`` their width, ``U`` labels, ``D`` width, ``L`` layers, ``A``
width of the attention, ``W`` frames of a chunk, ``V`` vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from sayso.models.decoders.base import Decoder, Memory
from sayso.models.decoders.lstm import LstmCore, LstmCoreSettings
from sayso.models.masks import length_mask
from sayso.models.streaming import State

_NEVER = -1e30  # a log probability that leaves sums and their gradients finite


class MochaDecoderConfig(LstmCoreSettings):
    """``noise`` is the standard deviation of what is added to energies in training, ``bias`` their offset at first:
    below
    zero, so that attention begins by moving on."""

    kind: Literal["mocha"] = "mocha"
    chunk_frames: int = Field(default=4, ge=1)
    noise: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    bias: float = Field(default=-1.0, lt=0, allow_inf_nan=False)

    def build(self, encoder_width: int, vocab: int) -> MochaDecoder:
        """Decoder of ``vocab`` labels over frames of this width."""
        return MochaDecoder(self, encoder_width, vocab)


@dataclass
class MochaDecoderState(State):
    """What the layers remember, what was heard last, and the frame where it was chosen: there the next choice begins.
    It
    is T once nothing was chosen, and then nothing is chosen any more."""

    hidden: Tensor  # (B, L, D)
    cell: Tensor  # (B, L, D)
    context: Tensor  # (B, E)
    at: Tensor  # (B,) int64


class MonotonicEnergy(nn.Module):
    """``g v / |v| tanh(W q + k + b) + r`` of a query and keys; ``g`` begins at one over the root of the width."""

    def __init__(self, width: int, attention: int, bias: float) -> None:
        super().__init__()
        self.asked = nn.Linear(width, attention)
        self.direction = nn.Parameter(torch.randn(attention) * attention**-0.5)
        self.scale = nn.Parameter(torch.tensor(attention**-0.5))
        self.offset = nn.Parameter(torch.tensor(float(bias)))

    def forward(self, query: Tensor, keys: Tensor) -> Tensor:
        """(B,D) and (B,T,A) to (B,T)."""
        direction = self.scale * self.direction / self.direction.norm()
        energy: Tensor = torch.tanh(keys + self.asked(query)[:, None]) @ direction + self.offset
        return energy


class MochaDecoder(Decoder[MochaDecoderState]):
    """See the module."""

    config: MochaDecoderConfig
    streams = True

    def __init__(self, config: MochaDecoderConfig, encoder_width: int, vocab: int) -> None:
        super().__init__()
        self.config, self.width = config, config.width
        self.core = LstmCore(config, encoder_width, vocab)
        self.keys = nn.Linear(encoder_width, 2 * config.attention, bias=False)
        self.choice = MonotonicEnergy(config.width, config.attention, config.bias)
        self.asked = nn.Linear(config.width, config.attention)
        self.energy = nn.Linear(config.attention, 1, bias=False)

    @property
    def out(self) -> nn.Linear:
        """The last layer."""
        return self.core.out

    def attended(
        self, labels: Tensor, encoded: Tensor, lengths: Tensor, seen: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """As the contract says: in training the expectation, otherwise what ``step`` does."""
        assert seen is None, "monotonic attention chooses for itself what it hears"
        memory, state = self.memory(encoded, lengths), self.init_state(encoded.shape[0])
        first = torch.arange(encoded.shape[1], device=encoded.device) == 0
        chosen = first.double().expand(encoded.shape[:2])  # all of nothing was chosen at the beginning
        said, listened = [], []
        for label in nn.functional.pad(labels, (1, 0)).unbind(1):
            query, hidden, cell = self.core.query(label, state.context, state.hidden, state.cell)
            energy, at = self.choice(query, memory.keys[:, 0]), state.at
            if self.training:
                energy = energy + self.config.noise * torch.randn_like(energy)
                chosen = expected_alignment(energy, chosen, memory.heard)
            else:
                at, chosen = _chosen(energy, memory.heard, at)
            weights = self._softly(query, memory, chosen.to(encoded.dtype))
            context = torch.matmul(weights[:, None], memory.values[:, 0])[:, 0]
            state = MochaDecoderState(hidden, cell, context, at)
            said.append(self.core.logits(query, context))
            listened.append(weights)
        return torch.stack(said, 1), torch.stack(listened, 1)

    def memory(self, encoded: Tensor, lengths: Tensor) -> Memory:
        """Keys for the choice and for the chunk, and the frames themselves."""
        keys = self.keys(encoded).unflatten(2, (2, -1)).transpose(1, 2)
        return Memory(keys, encoded[:, None], length_mask(lengths, encoded.shape[1]))

    def init_state(self, batch: int, frames: int | None = None) -> MochaDecoderState:
        """As the contract says."""
        c, like = self.config, self.keys.weight
        return MochaDecoderState(
            hidden=like.new_zeros(batch, c.layers, c.width),
            cell=like.new_zeros(batch, c.layers, c.width),
            context=like.new_zeros(batch, self.keys.in_features),
            at=torch.zeros(batch, dtype=torch.int64, device=like.device),
        )

    def step(self, labels: Tensor, state: MochaDecoderState, memory: Memory) -> tuple[Tensor, MochaDecoderState]:
        """As the contract says, chosen hard; where nothing is, nothing is heard."""
        query, hidden, cell = self.core.query(labels, state.context, state.hidden, state.cell)
        at, chosen = _chosen(self.choice(query, memory.keys[:, 0]), memory.heard, state.at)
        weights = self._softly(query, memory, chosen.to(query.dtype))
        context = torch.matmul(weights[:, None], memory.values[:, 0])[:, 0]
        return self.core.logits(query, context), MochaDecoderState(hidden, cell, context, at)

    def _softly(self, query: Tensor, memory: Memory, chosen: Tensor) -> Tensor:
        """Weights (B,T) where frames are ``chosen`` (B,T), by whatever share, as ends of chunks."""
        energy = self.energy(torch.tanh(memory.keys[:, 1] + self.asked(query)[:, None]))[:, :, 0]
        return chunk_weights(energy, chosen, memory.heard, self.config.chunk_frames)


def expected_alignment(energy: Tensor, before: Tensor, heard: Tensor) -> Tensor:
    """Probability (B,T), in float64, that each frame is chosen where the label before chose by ``before`` (B,T).

    The recursion is ``a_j = p_j ((1 - p_{j-1}) a_{j-1} / p_{j-1} + before_j)`` with p the sigmoid of ``energy`` (B,T);
    its
    sums and products are done for all frames at once, as logarithms, where nothing under- or overflows. A sum of a
    thousand logarithms is off by 1e-4 in float32, hence the width. Frames not ``heard`` are never chosen.
    """
    wide = energy.double()
    choose = nn.functional.logsigmoid(wide).masked_fill(~heard, _NEVER)
    refuse = nn.functional.logsigmoid(-wide).masked_fill(~heard, 0.0)
    passed = nn.functional.pad(refuse.cumsum(1), (1, 0))[:, :-1]  # log of having refused all frames before
    known = before > 0
    start = torch.where(known, before.double().clamp(min=1e-300).log(), _NEVER)
    found: Tensor = torch.exp(choose + passed + torch.logcumsumexp(start - passed, 1))
    return found


def chunk_weights(energy: Tensor, chosen: Tensor, heard: Tensor, frames: int) -> Tensor:
    """Weights (B,T): each frame's share in ``chosen`` (B,T) goes to it and the ``frames`` - 1 before it, by the softmax
    of their ``energy`` (B,T)."""
    open_ = torch.where(heard, energy, -1e9)
    windows = torch.stack(
        [nn.functional.pad(open_, (back, 0), value=-1e9)[:, : energy.shape[1]] for back in range(frames)]
    )
    shares = torch.softmax(windows, 0) * chosen  # (W,B,T): of the frame ``w`` before each
    found = torch.zeros_like(energy)
    for back, share in enumerate(shares.unbind(0)):
        found = found + nn.functional.pad(share, (0, back))[:, back:]
    return found


def _chosen(energy: Tensor, heard: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
    """The first frame (B,) from ``at`` (B,) on with a positive energy (B,T), T where there is none; and (B,T) where it
    is."""
    frame = torch.arange(energy.shape[1], device=energy.device)
    good = heard & (energy > 0) & (frame >= at[:, None])
    first = torch.where(good, frame, energy.shape[1]).amin(1)
    return first, frame == first[:, None]
