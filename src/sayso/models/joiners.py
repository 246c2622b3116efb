"""Joiners of the transducer: encoder frame and prediction state to label logits (Graves 2012)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from sayso.core.config import Config


class AdditiveConfig(Config):
    """``W tanh(enc + pred)``."""

    kind: Literal["additive"] = "additive"
    width: int = 256

    def build(self, encoder_width: int, predictor_width: int, vocab: int) -> AdditiveJoiner:
        """Joiner between parts of these widths."""
        return AdditiveJoiner(self, encoder_width, predictor_width, vocab)


class AdditiveJoiner(nn.Module):
    """Additive joiner; ``project`` runs once per frame, the rest once per lattice point."""

    def __init__(self, config: AdditiveConfig, encoder_width: int, predictor_width: int, vocab: int) -> None:
        super().__init__()
        self.encoder = nn.Linear(encoder_width, config.width)
        self.predictor = nn.Linear(predictor_width, config.width, bias=False)
        self.out = nn.Linear(config.width, vocab)

    def forward(self, encoded: Tensor, predicted: Tensor) -> Tensor:
        """(B,T,D) and (B,U+1,J) to logits (B,T,U+1,V)."""
        joined = self.encoder(encoded)[:, :, None] + self.predictor(predicted)[:, None]
        logits: Tensor = self.out(torch.tanh(joined))
        return logits

    def step(self, encoded: Tensor, predicted: Tensor) -> Tensor:
        """(B,D) and (B,J) to logits (B,V)."""
        logits: Tensor = self.out(torch.tanh(self.encoder(encoded) + self.predictor(predicted)))
        return logits


JOINERS = {"additive": AdditiveConfig}
JoinerConfig = AdditiveConfig
