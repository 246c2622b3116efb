"""Joiners of the transducer: encoder frame and prediction state to label logits.

Each is three parts, so that a loss may tile the lattice and a search may keep what it knows: ``project_encoder`` once
per frame, ``project_predictor`` once per label, and ``combine`` at a lattice point, which broadcasts.

Shape letters: ``B`` batch, ``T`` frames, ``U`` labels, ``D`` encoder width, ``J`` predictor width, ``P`` projected
width, ``V`` vocabulary.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field, Tag
from torch import Tensor, nn

from sayso.core.config import Config, one_of


class AdditiveConfig(Config):
    """``W tanh(enc + pred)`` (Graves et al. 2013)."""

    kind: Literal["additive"] = "additive"
    width: int = 256

    def build(self, encoder_width: int, predictor_width: int, vocab: int) -> AdditiveJoiner:
        """Joiner between parts of these widths."""
        return AdditiveJoiner(self, encoder_width, predictor_width, vocab)


class GatedConfig(Config):
    """``W (g tanh(enc) + (1 - g) tanh(pred))`` with a gate ``g`` from both (Zhang et al. 2022): where the sound is
    clear, listen; where it is not, expect."""

    kind: Literal["gated"] = "gated"
    width: int = Field(default=256, gt=0)

    def build(self, encoder_width: int, predictor_width: int, vocab: int) -> GatedJoiner:
        """Joiner between parts of these widths."""
        return GatedJoiner(self, encoder_width, predictor_width, vocab)


class _Joiner(nn.Module):
    """Two projections of ``projected`` columns, whatever ``combine`` makes of them, and an output layer."""

    def __init__(self, widths: tuple[int, int], projected: int, width: int, vocab: int) -> None:
        super().__init__()
        self.encoder = nn.Linear(widths[0], projected)
        self.predictor = nn.Linear(widths[1], projected, bias=False)
        self.out = nn.Linear(width, vocab)

    def project_encoder(self, encoded: Tensor) -> Tensor:
        """(..., D) to (..., P)."""
        result: Tensor = self.encoder(encoded)
        return result

    def project_predictor(self, predicted: Tensor) -> Tensor:
        """(..., J) to (..., P)."""
        result: Tensor = self.predictor(predicted)
        return result

    def combine(self, encoded: Tensor, predicted: Tensor) -> Tensor:
        """Projections (..., P) that broadcast to logits (..., V)."""
        raise NotImplementedError

    def forward(self, encoded: Tensor, predicted: Tensor) -> Tensor:
        """(B,T,D) and (B,U+1,J) to logits (B,T,U+1,V)."""
        return self.combine(self.project_encoder(encoded)[:, :, None], self.project_predictor(predicted)[:, None])

    def step(self, encoded: Tensor, predicted: Tensor) -> Tensor:
        """(B,D) and (B,J) to logits (B,V)."""
        return self.combine(self.project_encoder(encoded), self.project_predictor(predicted))


class AdditiveJoiner(_Joiner):
    """Additive joiner; P is its width."""

    def __init__(self, config: AdditiveConfig, encoder_width: int, predictor_width: int, vocab: int) -> None:
        super().__init__((encoder_width, predictor_width), config.width, config.width, vocab)

    def combine(self, encoded: Tensor, predicted: Tensor) -> Tensor:
        """Projections (..., P) that broadcast to logits (..., V)."""
        logits: Tensor = self.out(torch.tanh(encoded + predicted))
        return logits


class GatedJoiner(_Joiner):
    """Gated joiner; P is twice its width: what to say, and the gate's share."""

    def __init__(self, config: GatedConfig, encoder_width: int, predictor_width: int, vocab: int) -> None:
        super().__init__((encoder_width, predictor_width), 2 * config.width, config.width, vocab)

    def combine(self, encoded: Tensor, predicted: Tensor) -> Tensor:
        """Projections (..., P) that broadcast to logits (..., V)."""
        (heard, first), (expected, second) = encoded.chunk(2, -1), predicted.chunk(2, -1)
        gate = torch.sigmoid(first + second)
        logits: Tensor = self.out(gate * torch.tanh(heard) + (1 - gate) * torch.tanh(expected))
        return logits


JOINERS = {"additive": AdditiveConfig, "gated": GatedConfig}
JoinerConfig = Annotated[
    Annotated[AdditiveConfig, Tag("additive")] | Annotated[GatedConfig, Tag("gated")], one_of("additive")
]
Joiner = AdditiveJoiner | GatedJoiner
