"""Prediction networks of the transducer. The stateless one (Ghodsi et al. 2020) sees only the last few labels, so that
hypotheses with equal recent labels merge exactly."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from sayso.core.config import Config


class StatelessConfig(Config):
    """Embedding and a convolution over ``context`` labels."""

    kind: Literal["stateless"] = "stateless"
    width: int = 256
    context: int = 2
    dropout: float = 0.1

    def build(self, vocab: int) -> StatelessPredictor:
        """Predictor over ``vocab`` labels; label 0 (blank) stands for "nothing yet"."""
        return StatelessPredictor(self, vocab)


class StatelessPredictor(nn.Module):
    """Labels to prediction states of width J."""

    def __init__(self, config: StatelessConfig, vocab: int) -> None:
        super().__init__()
        self.context, self.width = config.context, config.width
        self.embedding = nn.Embedding(vocab, config.width)
        self.mix = nn.Linear(config.context * config.width, config.width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, targets: Tensor) -> Tensor:
        """(B, U) labels to (B, U+1, J): the state before each label and after the last."""
        padded = nn.functional.pad(targets, (self.context, 0))
        windows = padded.unfold(1, self.context, 1)
        return self.step(windows.reshape(-1, self.context)).view(*windows.shape[:2], -1)

    def step(self, labels: Tensor) -> Tensor:
        """(B, context) last labels to (B, J)."""
        return torch.relu(self.mix(self.dropout(self.embedding(labels)).flatten(1)))


PREDICTORS = {"stateless": StatelessConfig}
PredictorConfig = StatelessConfig
