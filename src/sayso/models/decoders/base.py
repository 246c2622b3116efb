"""The contract of every attention decoder: labels so far and encoder frames to what comes next.

``forward`` sees whole label sequences, ``step`` writes one label after the other with a state; in eval mode both give
the same numbers. ``lesson`` is what one batch teaches. Label 0 stands for "nothing yet".

Shape letters: ``B`` batch, ``T`` encoder frames, ``E`` their width, ``U`` labels, ``S`` places of a lesson, ``N`` kinds
of keys (layers, for example), ``A`` their width, ``V`` vocabulary.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor, nn

from sayso.core.config import Config
from sayso.models.streaming import State

S = TypeVar("S", bound=State)


class DecoderSettings(Config):
    """What every decoder is asked."""

    kind: str

    def build(self, encoder_width: int, vocab: int) -> Decoder[Any]:
        """Decoder of ``vocab`` labels over frames of this width; every kind says which."""
        raise NotImplementedError


@dataclass
class Memory(State):
    """What is kept of the frames, each by itself, so that pieces of a stream can be joined along T; padding is False in
    ``heard``."""

    keys: Tensor  # (B, N, T, A)
    values: Tensor  # (B, N or 1, T, A or E)
    heard: Tensor  # (B, T) boolean


@dataclass(frozen=True)
class Lesson:
    """Logits (B,S,V) and what they should say, targets (B,S) of which ``lengths`` (B,) are real, none in rows that
    teach
    nothing. ``attention`` (B,S,T) says where each place listened."""

    logits: Tensor
    targets: Tensor
    lengths: Tensor
    attention: Tensor


class Decoder(nn.Module, ABC, Generic[S]):
    """See the module. ``streams``: it writes while it hears, and a search of its own name decodes it; ``aligned``: its
    lessons need to know when every label was said."""

    config: DecoderSettings
    streams: ClassVar[bool] = False
    aligned: ClassVar[bool] = False

    @property
    def longest(self) -> int | None:
        """How many labels ``step`` can write, the end included; None: no limit."""
        return None

    @property
    def sight(self) -> dict[str, int | None]:
        """How many frames it hears at a time, by the names that the search of its kind has for them."""
        return {name: value for name, value in dict(self.config).items() if name.endswith("_frames")}

    def forward(self, labels: Tensor, encoded: Tensor, lengths: Tensor, seen: Tensor | None = None) -> Tensor:
        """Labels (B,U), frames (B,T,E) of which ``lengths`` (B,) are real, to logits (B,U+1,V): before each label and
        after the last. No label sees a later one, so padding needs no mask. ``seen`` (B,U+1,T) says which frames each
        place may hear; None: all."""
        return self.attended(labels, encoded, lengths, seen)[0]

    @abstractmethod
    def attended(
        self, labels: Tensor, encoded: Tensor, lengths: Tensor, seen: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """As ``forward``, and how much each place listened to each frame (B,U+1,T)."""

    @abstractmethod
    def memory(self, encoded: Tensor, lengths: Tensor) -> Memory:
        """What ``step`` needs of frames (B,T,E) of which ``lengths`` (B,) are real."""

    @abstractmethod
    def init_state(self, batch: int, frames: int | None = None) -> S:
        """Nothing written, all zeros; ``frames`` is T of the memory where it is one and the same in all steps, which is
        what some attention remembers by."""

    @abstractmethod
    def step(self, labels: Tensor, state: S, memory: Memory) -> tuple[Tensor, S]:
        """The last label (B,), 0 at first, to logits (B,V) of the next one, and the next state. At most ``longest``
        steps; rows may be at different ones."""

    def lesson(
        self, labels: Tensor, counts: Tensor, encoded: Tensor, lengths: Tensor, end: int, times: Tensor | None = None
    ) -> Lesson:
        """What labels (B,U) of which ``counts`` (B,) are real teach, and then the token ``end``; ``times`` (B,U) are
        the
        frames in which they were said, -1 where nobody knows."""
        logits, attention = self.attended(labels, encoded, lengths)
        return Lesson(logits, ended(labels, counts, end), counts + 1, attention)


def ended(labels: Tensor, counts: Tensor, end: int) -> Tensor:
    """Labels (B,U) of which ``counts`` are real, and the end: (B,U+1)."""
    return nn.functional.pad(labels, (0, 1)).scatter(1, counts[:, None], end)


def masked_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Weights over the last axis; finite where nothing may be seen, so that such a row is no NaN, and exactly zero
    beside anything that may."""
    return torch.softmax(scores.masked_fill(~mask, -1e9), dim=-1)
