"""Cross-attention fusion of two streams, what was heard and what was read of it (deliberation; Le et al. 2022,
arXiv:2204.01893): tokens look at all encoder frames and at each other, so that a misread word may still be understood
by its sound.

In training the reading is spoilt: some tokens are unknown, and for some utterances the intent head gets none at all
(hypothesis dropout), because at run time a recogniser errs or writes nothing.

Shape letters: ``B`` batch, ``U`` tokens, ``T`` frames, ``D`` encoder width, ``W`` width of the heads.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from sayso.core.config import Config
from sayso.models.masks import length_mask
from sayso.text.tokenizer import UNKNOWN


class FusionConfig(Config):
    """``unknown`` is the share of tokens that training hides, ``empty`` that of utterances whose intent is learnt from
    the sound alone. ``heads`` must divide the width of the heads."""

    layers: int = Field(default=2, ge=1)
    heads: int = Field(default=4, ge=1)
    unknown: float = Field(default=0.1, ge=0, lt=1)
    empty: float = Field(default=0.3, ge=0, lt=1)

    def build(self, width: int, encoder_width: int, vocab: int, dropout: float) -> Fusion:
        """States of this ``width`` over frames of ``encoder_width``; ``ValueError`` where heads do not divide it."""
        if width % self.heads:
            raise ValueError(f"model.heads.width = {width} must be a multiple of fusion.heads = {self.heads}")
        return Fusion(self, width, encoder_width, vocab, dropout)


class Fusion(nn.Module):
    """Tokens and frames to one state for each token."""

    def __init__(self, config: FusionConfig, width: int, encoder_width: int, vocab: int, dropout: float) -> None:
        super().__init__()
        self.config, self.width = config, width
        self.embedding = nn.Embedding(vocab, width)
        self.frames = nn.Linear(encoder_width, width)
        self.layers = nn.ModuleList(_Layer(width, config.heads, dropout) for _ in range(config.layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor, counts: Tensor, encoded: Tensor, lengths: Tensor) -> Tensor:
        """(B,U) tokens of which ``counts`` (B,) are real, (B,T,D) frames of which ``lengths`` (B,) are, to (B,U,W);
        zero at padding. U may be 0, T not."""
        real = length_mask(counts, tokens.shape[1])
        heard, absent = self.frames(encoded), ~length_mask(lengths, encoded.shape[1])
        # a row without tokens must attend to something, lest its softmax be NaN; its states are masked at the end
        unread = ~(real | (torch.arange(tokens.shape[1], device=tokens.device) == 0))
        x = self.embedding(tokens) + _places(tokens.shape[1], heard)
        for layer in self.layers:
            x = layer(x, unread, heard, absent)
        states: Tensor = self.norm(x) * real[:, :, None].to(x.dtype)
        return states

    def spoilt(self, tokens: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens (B,U) with some unknown, and counts (B,) with some 0, as the config says; untouched in eval mode."""
        if not self.training:
            return tokens, counts
        hidden = torch.rand(tokens.shape, device=tokens.device) < self.config.unknown
        silent = torch.rand(counts.shape, device=counts.device) < self.config.empty
        return torch.where(hidden, torch.full_like(tokens, UNKNOWN), tokens), torch.where(silent, 0, counts)


class _Layer(nn.Module):
    """Pre-norm: what the tokens say to each other, what they hear, a feed-forward part."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.read = nn.MultiheadAttention(width, heads, dropout, batch_first=True)
        self.heard = nn.MultiheadAttention(width, heads, dropout, batch_first=True)
        self.forward_part = nn.Sequential(nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, width))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, unread: Tensor, frames: Tensor, absent: Tensor) -> Tensor:
        """(B,U,W) over (B,T,W); True in ``unread`` (B,U) and ``absent`` (B,T) is not looked at."""
        y = self.norms[0](x)
        x = x + self.dropout(self.read(y, y, y, key_padding_mask=unread, need_weights=False)[0])
        y = self.norms[1](x)
        x = x + self.dropout(self.heard(y, frames, frames, key_padding_mask=absent, need_weights=False)[0])
        out: Tensor = x + self.dropout(self.forward_part(self.norms[2](x)))
        return out


def _places(count: int, like: Tensor) -> Tensor:
    """Sinusoids (U,W) (Vaswani et al. 2017)."""
    width = like.shape[2]
    slow = torch.arange(0, width, 2, device=like.device) / width
    angles = torch.arange(count, device=like.device)[:, None] * 10000.0**-slow
    return torch.stack([angles.sin(), angles.cos()], 2).flatten(1)[:, :width].to(like.dtype)
