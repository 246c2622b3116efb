"""Eightfold time reduction by three causal strided convolutions over time (Whisper's stem, once deeper).

Each stage halves time with kernel 3, one frame of left padding and none on the right: output frame ``j`` of the whole
needs exactly the features ``8j .. 8j+7`` and older ones, so a chunk of ``8n`` features gives ``n`` frames with no
look-ahead beyond the chunk, and the state of a stage is one frame. Frames beyond a row's length are zero at every
stage, so that a padded batch, a whole recording and a stream see the same zeros. Mel bins are channels here, not a
second image axis: on a processor the two-dimensional stem moves six times the memory for the same arithmetic.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sayso.models.masks import length_mask

FACTOR = 8


class Subsampling(nn.Module):
    """(B, T, F) features, T a multiple of 8, to (B, T/8, D)."""

    def __init__(self, mels: int, channels: int, width: int) -> None:
        super().__init__()
        self.sizes = (mels, channels, width)  # channels at the input of each stage
        self.stages = nn.ModuleList(
            nn.Conv1d(inside, outside, 3, stride=2)
            for inside, outside in zip(self.sizes, (channels, width, width), strict=True)
        )
        self.out = nn.Linear(width, width)
        # unit scale into the residual stream: what small random filters leave of the signal drowns there otherwise
        self.norm = nn.LayerNorm(width)
        for part in (*self.stages, self.out):
            nn.init.zeros_(part.bias)

    def init_state(self, batch: int, like: Tensor) -> list[Tensor]:
        """One zero frame before each stage: (B, 1, channels)."""
        return [like.new_zeros(batch, 1, size) for size in self.sizes]

    def forward(self, x: Tensor, lengths: Tensor, state: list[Tensor]) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Returns (B, T/8, D), frame counts ceil(lengths / 8), and the next state."""
        x = x * length_mask(lengths, x.shape[1])[:, :, None]
        following: list[Tensor] = []
        for before, stage in zip(state, self.stages, strict=True):
            following.append(x[:, -1:])
            x = stage(torch.cat([before.to(x.dtype), x], dim=1).transpose(1, 2)).transpose(1, 2)
            lengths = (lengths + 1) // 2
            x = nn.functional.gelu(x) * length_mask(lengths, x.shape[1])[:, :, None]
        return self.norm(self.out(x)), lengths, following
