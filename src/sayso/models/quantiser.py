"""The random-projection quantiser of BEST-RQ (Chiu et al. 2022): what stands in for phones where nobody wrote any.

Features are projected by a matrix that is drawn once and never learnt, and the nearest of as many random codes, all at
length one, is their label. Shape letters: ``B`` batch, ``n`` frames, ``F`` features of a frame, ``C`` codes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class RandomQuantiser(nn.Module):
    """``inputs`` features to one of ``codes`` codes of ``width``; the same ``seed`` draws the same."""

    projection: Tensor  # (F, width)
    codebook: Tensor  # (C, width), every row of length one

    def __init__(self, inputs: int, width: int, codes: int, seed: int) -> None:
        super().__init__()
        generator, bound = torch.Generator().manual_seed(seed), (6.0 / (inputs + width)) ** 0.5
        projection = (torch.rand(inputs, width, generator=generator) * 2 - 1) * bound
        codebook = nn.functional.normalize(torch.randn(codes, width, generator=generator), dim=1)
        self.register_buffer("projection", projection)
        self.register_buffer("codebook", codebook)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """(B,n,F) to codes (B,n): of vectors of length one the nearest has the largest product."""
        projected = nn.functional.normalize(x @ self.projection, dim=-1)
        return (projected @ self.codebook.T).argmax(-1)
