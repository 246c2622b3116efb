"""Attention masks: one builder for every way of looking (Chen et al., ICASSP 2021, "attention mask is all you need").

``m[t, s]`` is True where query frame ``t`` may see key frame ``s``. All are one rule over a ``Context``: a frame sees
from ``left_frames`` before the start of its chunk to ``right_frames`` after the chunk's end.

| way of looking | ``Context`` | look-ahead of N layers, in frames |
|---|---|---|
| offline | ``Context()`` | everything |
| none ahead, full history | ``Context(1)`` | 0 |
| none ahead, limited history | ``Context(1, left)`` | 0 |
| sliding window | ``Context(1, left, right)`` | ``N * right``: it accumulates with depth |
| chunk | ``Context(chunk, left)`` | ``chunk - 1``: it does not |
"""

from __future__ import annotations

import torch
from torch import Tensor

from sayso.models.streaming import Context


def attention_mask(queries: Tensor, keys: Tensor, context: Context) -> Tensor:
    """Boolean (Q, K) for frames of these numbers (Q,), (K,); numbers may be negative, chunks begin at multiples of
    ``chunk_frames``."""
    chunk, left = context.chunk_frames, context.left_frames
    if chunk is None:
        return torch.ones(len(queries), len(keys), dtype=torch.bool, device=queries.device)
    start = torch.div(queries, chunk, rounding_mode="floor")[:, None] * chunk
    mask = keys[None, :] < start + (chunk + context.right_frames)
    return mask if left is None else mask & (keys[None, :] >= start - left)


def length_mask(lengths: Tensor, size: int) -> Tensor:
    """Boolean (B, size): True where the position is within the row's length."""
    return torch.arange(size, device=lengths.device)[None, :] < lengths[:, None]


def dependence(context: Context, layers: int, before: int = 0) -> list[tuple[int | None, int | None]]:
    """How far back and how far ahead a frame depends on others through ``layers`` masked layers, in frames; for a frame
    at each place of its chunk. None: on all there is.

    ``before``: frames of history that a layer adds behind its attention (a causal convolution of ``before + 1``).
    """
    chunk, left = context.chunk_frames, context.left_frames
    if chunk is None:
        return [(None, None)]
    found: list[tuple[int | None, int | None]] = []
    for place in range(chunk):
        first = last = place
        for _ in range(layers):
            first = (first - before) // chunk * chunk - (left or 0)
            last = last // chunk * chunk + chunk - 1 + context.right_frames
        found.append((None if left is None else place - first, last - place))
    return found
