"""LSTM encoder (Hochreiter and Schmidhuber 1997) as in streaming transducers (He et al. 2019): layer-normalised cells
(Ba et al. 2016), a projection of the output that is also what recurs (Sak et al. 2014), time reduction inside.

It sees no future and remembers without a window, so it streams under every context, always with the same numbers. With
``fast_layers`` the subsampling stops at 40 ms, so many layers run there, and the others on pairs of their frames.

Shapes: ``B`` batch, ``T`` frames, ``D`` width, ``H`` hidden cells, ``N`` layers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from sayso.models.encoders.base import Encoder, EncoderSettings
from sayso.models.masks import length_mask
from sayso.models.streaming import Context, State
from sayso.models.subsampling import STAGES


class LstmConfig(EncoderSettings):
    """Settings; ``chunk_frames`` is only how much a stream gives at once, and there is no window of history."""

    kind: Literal["lstm"] = "lstm"
    layers: int = Field(default=5, ge=1)
    hidden: int = 640
    layer_norm: bool = True
    fast_layers: int = Field(default=1, ge=0)
    left_frames: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _some_are_slow(self) -> Self:
        if self.fast_layers >= self.layers:
            raise ValueError(f"fast_layers = {self.fast_layers} must be fewer than layers = {self.layers}")
        return self

    def build(self) -> Lstm:
        """Randomly initialised encoder."""
        return Lstm(self)


@dataclass
class LstmState(State):
    """What the cells carry."""

    sub: Tensor  # (B, S) of the subsampling
    hidden: Tensor  # (B, N, D) projected outputs
    cell: Tensor  # (B, N, H)


class LstmLayer(nn.Module):
    """One layer of cells: gates i, f, g, o; ``c = f c + i g``; ``h = P (o tanh c)``.

    Layer norm on what comes in, on what recurs and on the cell (Ba et al. 2016, equations 20 to 22). Without it the
    numbers are those of ``torch.nn.LSTM`` with ``proj_size``.
    """

    def __init__(self, inputs: int, hidden: int, width: int, layer_norm: bool = True) -> None:
        super().__init__()
        self.input = nn.Linear(inputs, 4 * hidden, bias=not layer_norm)
        self.recurrent = nn.Linear(width, 4 * hidden, bias=False)
        self.project = nn.Linear(hidden, width, bias=False)
        self.input_norm = nn.LayerNorm(4 * hidden) if layer_norm else nn.Identity()
        self.recurrent_norm = nn.LayerNorm(4 * hidden, bias=False) if layer_norm else nn.Identity()
        self.cell_norm = nn.LayerNorm(hidden) if layer_norm else nn.Identity()
        bias = self.input_norm.bias if isinstance(self.input_norm, nn.LayerNorm) else self.input.bias
        nn.init.zeros_(bias)
        nn.init.ones_(bias[hidden : 2 * hidden])  # cells that forget at first learn nothing long

    def forward(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x (B,T,inputs), h (B,D), c (B,H); returns outputs (B,T,D) and the last h and c."""
        if not x.shape[1]:
            return x.new_zeros(x.shape[0], 0, self.project.out_features), h, c
        out = []
        for coming in self.input_norm(self.input(x)).unbind(1):
            i, f, g, o = (coming + self.recurrent_norm(self.recurrent(h))).chunk(4, -1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = self.project(torch.sigmoid(o) * torch.tanh(self.cell_norm(c)))
            out.append(h)
        return torch.stack(out, 1), h, c


class Lstm(Encoder[LstmState]):
    """LSTM encoder; every output on the way is (B,T,D) because projections have the encoder's width."""

    config: LstmConfig

    def __init__(self, config: LstmConfig) -> None:
        fast, width = config.fast_layers, config.width
        super().__init__(config, STAGES - 1 if fast else STAGES)
        self.layers = nn.ModuleList(
            LstmLayer(2 * width if fast and index == fast else width, config.hidden, width, config.layer_norm)
            for index in range(config.layers)
        )
        self.dropout = nn.Dropout(config.dropout)

    def lookahead_ms(self, context: Context | None = None) -> float | None:
        """None beyond the frame itself, whatever the context."""
        return 0.0

    def receptive_field_ms(self, context: Context | None = None) -> float | None:
        """Everything before: without a bound."""
        return None

    def forward(
        self, x: Tensor, lengths: Tensor, context: Context | None = None, passed: list[Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """As the contract says; only layers behind the time reduction are passed on."""
        x, frames, _ = self._run(x, lengths, self.init_state(x.shape[0]), passed)
        return x, frames

    def init_state(self, batch: int, context: Context | None = None) -> LstmState:
        """As the contract says; the same for every context."""
        layers, like = len(self.layers), self.mean
        return LstmState(
            sub=self.subsampling.init_state(batch, like),
            hidden=like.new_zeros(batch, layers, self.width),
            cell=like.new_zeros(batch, layers, self.config.hidden),
        )

    def step(
        self, x: Tensor, lengths: Tensor, state: LstmState, context: Context | None = None, final: bool = False
    ) -> tuple[Tensor, Tensor, LstmState]:
        """As the contract says; nothing is held back, so ``final`` changes nothing."""
        return self._run(x, lengths, state, None)

    def _run(
        self, x: Tensor, lengths: Tensor, state: LstmState, passed: list[Tensor] | None
    ) -> tuple[Tensor, Tensor, LstmState]:
        x, frames, sub = self.reduced(x, lengths, state.sub)
        hidden, cell = [], []
        for index, layer in enumerate(self.layers):
            if self.config.fast_layers and index == self.config.fast_layers:
                x = x * length_mask(frames, x.shape[1])[:, :, None]
                x = x.reshape(x.shape[0], x.shape[1] // 2, 2 * x.shape[2])
                frames = (frames + 1) // 2
            x, h, c = layer(self.dropout(x), state.hidden[:, index], state.cell[:, index])
            hidden.append(h)
            cell.append(c)
            if passed is not None and index >= self.config.fast_layers:
                passed.append(x * length_mask(frames, x.shape[1])[:, :, None])
        following = LstmState(sub=sub, hidden=torch.stack(hidden, 1), cell=torch.stack(cell, 1))
        return x * length_mask(frames, x.shape[1])[:, :, None], frames, following
