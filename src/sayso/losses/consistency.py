"""Consistency between two augmented views of the same speech (CR-CTC; Yao et al. 2025, arXiv:2410.05101).

Each view is taught what the other one hears: masked frames must be guessed from what is around them, and peaks become
less sharp, so that a small corpus is memorised later.
"""

from __future__ import annotations

import torch
from torch import Tensor


def consistency_loss(first: Tensor, second: Tensor, lengths: Tensor) -> Tensor:
    """Half of KL(second || first) + KL(first || second) over the frames of each clip, in nats and fp32 or wider: (B,).

    ``first`` and ``second`` are log-probabilities (B,T,V) of the same frames, ``lengths`` (B,) how many of them are
    real. The left side of each divergence is a target and gets no gradient.
    """
    if first.shape != second.shape:
        raise ValueError(f"two views of one batch have one shape, not {tuple(first.shape)} and {tuple(second.shape)}")
    first, second = (x if x.dtype == torch.float64 else x.float() for x in (first, second))
    frames = _divergence(second.detach(), first) + _divergence(first.detach(), second)
    real = lengths.new_ones(frames.shape).cumsum(1) <= lengths[:, None]
    return 0.5 * frames.masked_fill(~real, 0.0).sum(1)


def _divergence(target: Tensor, heard: Tensor) -> Tensor:
    """KL(target || heard) of every frame, (B,T)."""
    return (target.exp() * (target - heard).masked_fill(target == -torch.inf, 0.0)).sum(2)
