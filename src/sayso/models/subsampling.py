"""Time reduction by causal strided convolutions over time (Whisper's stem, once deeper): eightfold in three stages.

Each stage halves time with kernel 3, one frame of left padding and none on the right: output frame ``j`` of the whole
needs exactly the features ``8j - 7 .. 8j + 7``, so a chunk of ``8n`` features gives ``n`` frames with no look-ahead
beyond the chunk, and the state of a stage is one frame. Frames beyond a row's length are zero at every stage, so that a
padded batch, a whole recording and a stream see the same zeros. Mel bins are channels here, not a second image axis:
on a processor the two-dimensional stem moves six times the memory for the same arithmetic.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sayso.models.masks import length_mask

FACTOR = 8  # features to an encoder frame, in every encoder
STAGES = 3


class Subsampling(nn.Module):
    """(B, T, F) features, T a multiple of ``factor``, to (B, T/factor, D)."""

    def __init__(self, mels: int, channels: int, width: int, stages: int = STAGES) -> None:
        super().__init__()
        outputs = (channels, *[width] * (stages - 1))
        self.sizes = (mels, *outputs[:-1])  # channels at the input of each stage
        self.factor = 2**stages
        self.stages = nn.ModuleList(
            nn.Conv1d(inside, outside, 3, stride=2) for inside, outside in zip(self.sizes, outputs, strict=True)
        )
        self.out = nn.Linear(outputs[-1], width)
        # unit scale into the residual stream: what small random filters leave of the signal drowns there otherwise
        self.norm = nn.LayerNorm(width)
        for part in (*self.stages, self.out):
            nn.init.zeros_(part.bias)

    def init_state(self, batch: int, like: Tensor) -> Tensor:
        """One zero frame before each stage, side by side: (B, sum of channels)."""
        return like.new_zeros(batch, sum(self.sizes))

    def forward(self, x: Tensor, lengths: Tensor, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns (B, T/factor, D), frame counts ceil(lengths / factor), and the next state; of no features no frames,
        and the state as it was."""
        if not x.shape[1]:  # no convolution takes nothing
            return x.new_zeros(x.shape[0], 0, self.out.out_features), torch.zeros_like(lengths), state
        x = x * length_mask(lengths, x.shape[1])[:, :, None]
        following: list[Tensor] = []
        for before, stage in zip(torch.split(state, list(self.sizes), 1), self.stages, strict=True):
            following.append(x[:, -1])
            x = stage(torch.cat([before[:, None].to(x.dtype), x], dim=1).transpose(1, 2)).transpose(1, 2)
            lengths = (lengths + 1) // 2
            x = nn.functional.gelu(x) * length_mask(lengths, x.shape[1])[:, :, None]
        return self.norm(self.out(x)), lengths, torch.cat(following, 1)
