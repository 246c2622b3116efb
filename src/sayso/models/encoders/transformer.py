"""Streaming Transformer (Vaswani et al. 2017; as a speech encoder Zhang et al. 2020): pre-norm, rotary relative
positions, nothing but attention and feed-forward parts behind the shared subsampling.

Shapes: ``B`` batch, ``n`` new frames, ``D`` width.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from sayso.models.encoders.attention import (
    Attention,
    AttentionEncoder,
    AttentionLayer,
    AttentionSettings,
    FeedForward,
    Look,
    Memory,
)


class TransformerConfig(AttentionSettings):
    """Settings; the default is about as large as a Conformer of eight layers."""

    kind: Literal["transformer"] = "transformer"
    layers: int = 12
    feedforward: int = 1024

    def build(self) -> Transformer:
        """Randomly initialised encoder."""
        return Transformer(self)


class _Layer(AttentionLayer):
    def __init__(self, c: TransformerConfig) -> None:
        super().__init__()
        self.attention, self.feedforward = Attention(c), FeedForward(c)
        self.dropout = nn.Dropout(c.dropout)

    def forward(self, x: Tensor, look: Look, memory: Memory | None) -> tuple[Tensor, Memory]:
        x, seen, kept = self.attention(x, look, memory)
        x = x + self.dropout(seen)
        return x + self.feedforward(x), kept

    def ends(self) -> list[nn.Linear]:
        last = self.feedforward[3]
        assert isinstance(last, nn.Linear)
        return [self.attention.out, last]


class Transformer(AttentionEncoder):
    """Streaming Transformer encoder; one norm behind the stack, for what is passed on the way too."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__(config, [_Layer(config) for _ in range(config.layers)])
        self.norm = nn.LayerNorm(config.width)

    def finish(self, x: Tensor) -> Tensor:
        """Normalises: the residual stream of a pre-norm stack is on no scale of its own."""
        out: Tensor = self.norm(x)
        return out
