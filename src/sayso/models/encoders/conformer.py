"""Streaming Conformer (Gulati et al. 2020): half a feed-forward part, attention, causal convolution with a cache, the
other half, a norm.

LayerNorm replaces BatchNorm in the convolution module because a stream has no batch statistics. Without its convolution
(``convolution = false``) it is the ablation of Gulati et al., section 3.4.

Shapes: ``B`` batch, ``n`` new frames, ``D`` width, ``k`` kernel.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from sayso.models.encoders.attention import (
    Attention,
    AttentionEncoder,
    AttentionLayer,
    AttentionSettings,
    FeedForward,
    Look,
    Memory,
)


class ConformerConfig(AttentionSettings):
    """Settings; ``kernel`` is that of the depthwise convolution, in frames of 80 ms."""

    kind: Literal["conformer"] = "conformer"
    kernel: int = 9
    convolution: bool = True

    def build(self) -> Conformer:
        """Randomly initialised encoder."""
        return Conformer(self)


class _Convolution(nn.Module):
    """Pointwise GLU, causal depthwise convolution, LayerNorm, SiLU, pointwise."""

    def __init__(self, c: ConformerConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(c.width)
        self.expand = nn.Linear(c.width, 2 * c.width)
        self.depthwise = nn.Conv1d(c.width, c.width, c.kernel, groups=c.width)
        self.middle = nn.LayerNorm(c.width)
        self.out = nn.Linear(c.width, c.width)
        self.dropout = nn.Dropout(c.dropout)

    def forward(self, x: Tensor, cache: Tensor | None, real: Tensor | None) -> tuple[Tensor, Tensor]:
        """x (B,n,D), cache (B,k-1,D): the inputs just before, None: silence; returns out (B,n,D) and the extended
        input. Frames that are not ``real`` (B,n,1) count as silence."""
        x = functional.glu(self.expand(self.norm(x)), dim=-1)
        x = x if real is None else x * real
        if cache is None:
            x = functional.pad(x, (0, 0, self.depthwise.kernel_size[0] - 1, 0))
        else:
            x = torch.cat([cache.to(x.dtype), x], 1)
        # as an image of height one: the same to torch, and a quarter of the time in onnxruntime, which has a kernel for
        # depthwise convolutions of images only
        weight, bias = self.depthwise.weight[:, :, None], self.depthwise.bias
        y = functional.conv2d(x.transpose(1, 2)[:, :, None], weight, bias, groups=x.shape[2])
        y = y.squeeze(2).transpose(1, 2)
        return self.dropout(self.out(functional.silu(self.middle(y)))), x


class _Layer(AttentionLayer):
    def __init__(self, c: ConformerConfig) -> None:
        super().__init__()
        self.first, self.second = FeedForward(c), FeedForward(c)
        self.attention = Attention(c)
        self.convolution = _Convolution(c) if c.convolution else None
        self.dropout, self.norm = nn.Dropout(c.dropout), nn.LayerNorm(c.width)

    def forward(self, x: Tensor, look: Look, memory: Memory | None) -> tuple[Tensor, Memory]:
        x, seen, kept = self.attention(x + 0.5 * self.first(x), look, memory)
        x = x + self.dropout(seen)
        if self.convolution is not None and x.shape[1]:
            convolved, kept.conv = self.convolution(x, None if memory is None else memory.conv, look.real)
            x = x + convolved
        x = x + 0.5 * self.second(x)
        return self.norm(x), kept

    def ends(self) -> list[nn.Linear]:
        names = ["first.3", "second.3", "attention.out"] + ["convolution.out"] * (self.convolution is not None)
        return [part for part in map(self.get_submodule, names) if isinstance(part, nn.Linear)]

    @torch.no_grad()
    def become_identity(self) -> None:
        """The norm behind the branches takes over the scale that the copied layer's gave."""
        super().become_identity()
        norm = self.norm
        center = norm.bias.mean()
        spread = (norm.weight.square().mean() + norm.bias.square().mean() - center.square()).sqrt()
        norm.weight.copy_(spread.expand_as(norm.weight))
        norm.bias.copy_(center.expand_as(norm.bias))


class Conformer(AttentionEncoder):
    """Streaming Conformer encoder; ``forward`` for training and offline, ``step`` for streams."""

    def __init__(self, config: ConformerConfig) -> None:
        layers: list[AttentionLayer] = [_Layer(config) for _ in range(config.layers)]
        super().__init__(config, layers, config.kernel - 1 if config.convolution else 0)
