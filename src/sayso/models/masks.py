"""Attention masks: one builder for every way of looking (Chen et al., ICASSP 2021, "attention mask is all you need").

``m[t, s]`` is True where query frame ``t`` may see key frame ``s``. A chunk mask lets a frame see its own chunk and
``left`` frames before the chunk's start: look-ahead is bounded by the chunk and does not accumulate with depth.
"""

from __future__ import annotations

import torch
from torch import Tensor


def chunk_mask(length: int, chunk: int | None, left: int | None, device: torch.device | None = None) -> Tensor:
    """Boolean (T, T). ``chunk`` None: everything; ``left`` None: all history."""
    if chunk is None:
        return torch.ones(length, length, dtype=torch.bool, device=device)
    frame = torch.arange(length, device=device)
    start = frame // chunk * chunk
    mask = frame[None, :] < (start + chunk)[:, None]
    if left is not None:
        mask &= frame[None, :] >= (start - left)[:, None]
    return mask


def length_mask(lengths: Tensor, size: int) -> Tensor:
    """Boolean (B, size): True where the position is within the row's length."""
    return torch.arange(size, device=lengths.device)[None, :] < lengths[:, None]
