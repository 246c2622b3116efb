"""Guided attention (Tachibana et al. 2018, arXiv:1710.08969, section 4.1): where one sequence attends to another that
runs along with it, attention is near the diagonal, and what strays from there costs.

Shapes: ``B`` batch, ``U`` outputs, ``T`` inputs.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sayso.losses.ctc import Reduction, reduce


def guided_attention_loss(
    attention: Tensor,
    output_lengths: Tensor,
    input_lengths: Tensor,
    sharpness: float = 0.2,
    reduction: Reduction = "mean",
) -> Tensor:
    """Mean over each row's own outputs and inputs of attention (B,U,T) times 1 - exp(-(u/U - t/T)^2 / (2 g^2)), with
    its own U and T (B,) and g the ``sharpness``; a row without outputs or inputs costs nothing."""
    if attention.dim() != 3 or not output_lengths.shape == input_lengths.shape == (len(attention),):
        raise ValueError(f"attention must be (B,U,T) and lengths (B,); got {list(attention.shape)}")
    if not sharpness > 0:
        raise ValueError(f"sharpness is a width in shares of the sequence, above 0; got {sharpness}")
    wide = attention if attention.dtype == torch.float64 else attention.float()
    outputs, inputs = (n.clamp(min=1)[:, None].to(wide.dtype) for n in (output_lengths, input_lengths))
    u = torch.arange(wide.shape[1], device=wide.device)[None]
    t = torch.arange(wide.shape[2], device=wide.device)[None]
    apart = (u / outputs)[:, :, None] - (t / inputs)[:, None, :]
    cost = 1 - torch.exp(-apart.square() / (2 * sharpness**2))
    inside = (u < output_lengths[:, None])[:, :, None] & (t < input_lengths[:, None])[:, None, :]
    losses = torch.where(inside, wide * cost, 0.0).sum((1, 2)) / (outputs * inputs)[:, 0]
    return reduce(losses, reduction)
