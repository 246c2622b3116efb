"""Minimum expected errors (MWER; Prabhavalkar et al. 2018, arXiv:1712.01818, section 3.2): hypotheses with fewer errors
than the list has on average become likelier, the others less likely.

Shapes: ``B`` batch, ``N`` hypotheses.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sayso.losses.ctc import Reduction, reduce


def expected_errors_loss(
    scores: Tensor, errors: Tensor, counts: Tensor | None = None, reduction: Reduction = "mean"
) -> Tensor:
    """Sum over a row's hypotheses of their probability times how many errors they have above the list's mean: (B,).

    ``scores`` (B,N) are log-likelihoods, made probabilities among the first ``counts`` (B,) hypotheses of the row
    (None: all N); ``errors`` (B,N) get no gradient. A row without hypotheses, or with scores of -inf alone, costs
    nothing.
    """
    if scores.dim() != 2 or scores.shape != errors.shape:
        raise ValueError(f"scores and errors must be (B,N) both; got {list(scores.shape)} and {list(errors.shape)}")
    wide = scores if scores.dtype == torch.float64 else scores.float()
    counts = scores.new_full((len(scores),), scores.shape[1], dtype=torch.int64) if counts is None else counts
    there = torch.arange(scores.shape[1], device=scores.device)[None] < counts[:, None]
    # a finite floor: a hypothesis of probability zero, or a row of them, must not give NaN
    floor = torch.finfo(wide.dtype).min / 4
    possible = there & (wide.detach() > floor)
    weight = torch.softmax(torch.where(possible, wide, floor), 1) * possible
    errors = errors.to(wide.dtype).detach()
    mean = torch.where(there, errors, 0.0).sum(1, keepdim=True) / counts.clamp(min=1)[:, None]
    return reduce((weight * torch.where(there, errors - mean, 0.0)).sum(1), reduction)
