"""Prediction networks of the transducer. The stateless one (Ghodsi et al. 2020) sees only the last few labels, so that
hypotheses with equal recent labels merge exactly; the LSTM (Graves 2012) remembers all of them.

A predictor has ``width`` J, ``context`` (labels that a step reads), ``forward`` over whole label sequences and, for
searches, ``init_state`` and ``advance`` from one label to the next. Label 0 (blank) stands for "nothing yet".

Shape letters: ``B`` batch, ``U`` labels, ``J`` width, ``L`` layers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field, Tag
from torch import Tensor, nn

from sayso.core.config import Config, one_of
from sayso.models.streaming import State


class StatelessConfig(Config):
    """Embedding and a convolution over ``context`` labels."""

    kind: Literal["stateless"] = "stateless"
    width: int = 256
    context: int = 2
    dropout: float = 0.1

    def build(self, vocab: int) -> StatelessPredictor:
        """Predictor over ``vocab`` labels."""
        return StatelessPredictor(self, vocab)


class LstmConfig(Config):
    """Embedding and ``layers`` of LSTM."""

    kind: Literal["lstm"] = "lstm"
    width: int = Field(default=256, gt=0)
    layers: int = Field(default=1, gt=0)
    dropout: float = Field(default=0.1, ge=0, lt=1)

    def build(self, vocab: int) -> LstmPredictor:
        """Predictor over ``vocab`` labels."""
        return LstmPredictor(self, vocab)


@dataclass
class StatelessState(State):
    """Nothing: the last labels, which a caller holds anyway, are all there is."""


@dataclass
class LstmState(State):
    """What the layers remember."""

    hidden: Tensor  # (B, L, J)
    cell: Tensor  # (B, L, J)


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

    def init_state(self, batch: int) -> StatelessState:
        """Before any label."""
        return StatelessState()

    def advance(self, labels: Tensor, state: StatelessState) -> tuple[Tensor, StatelessState]:
        """(B, context) last labels, zeros before the first, to (B, J)."""
        return self.step(labels), state

    def step(self, labels: Tensor) -> Tensor:
        """(B, context) last labels to (B, J)."""
        return torch.relu(self.mix(self.dropout(self.embedding(labels)).flatten(1)))


class LstmPredictor(nn.Module):
    """Labels to prediction states of width J, with memory."""

    context = 1

    def __init__(self, config: LstmConfig, vocab: int) -> None:
        super().__init__()
        self.width, self.layers = config.width, config.layers
        self.embedding = nn.Embedding(vocab, config.width)
        self.dropout = nn.Dropout(config.dropout)
        self.lstm = nn.LSTM(config.width, config.width, config.layers, batch_first=True)

    def forward(self, targets: Tensor) -> Tensor:
        """(B, U) labels to (B, U+1, J): the state before each label and after the last."""
        out: Tensor = self.lstm(self.dropout(self.embedding(nn.functional.pad(targets, (1, 0)))))[0]
        return out

    def init_state(self, batch: int) -> LstmState:
        """Before any label; step 0 is fed label 0."""
        zeros = self.embedding.weight.new_zeros(batch, self.layers, self.width)
        return LstmState(hidden=zeros, cell=zeros.clone())

    def advance(self, labels: Tensor, state: LstmState) -> tuple[Tensor, LstmState]:
        """(B, 1) last label, 0 at first, to (B, J) and the next state."""
        x = self.dropout(self.embedding(labels[:, 0]))
        hidden, cell = [], []
        for layer, (from_input, from_hidden, bias, other) in enumerate(self.lstm.all_weights):
            # the cell by hand: one step must be plain products for the exporter, and is not worth a kernel
            gates = x @ from_input.T + bias + state.hidden[:, layer] @ from_hidden.T + other
            enter, forget, value, out = gates.chunk(4, 1)
            kept = torch.sigmoid(forget) * state.cell[:, layer] + torch.sigmoid(enter) * torch.tanh(value)
            x = torch.sigmoid(out) * torch.tanh(kept)
            hidden.append(x)
            cell.append(kept)
        return x, LstmState(hidden=torch.stack(hidden, 1), cell=torch.stack(cell, 1))

    def step(self, labels: Tensor) -> Tensor:
        """(B, 1) labels to (B, J) with nothing remembered: the first step of ``advance``."""
        return self.advance(labels, self.init_state(labels.shape[0]))[0]


PREDICTORS = {"stateless": StatelessConfig, "lstm": LstmConfig}
PredictorConfig = Annotated[
    Annotated[StatelessConfig, Tag("stateless")] | Annotated[LstmConfig, Tag("lstm")], one_of("stateless")
]
Predictor = StatelessPredictor | LstmPredictor
