"""CTC (Graves et al. 2006) over torch's kernel, with the conventions of our other losses."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Reduction = Literal["none", "sum", "mean"]


def ctc_loss(
    log_probs: Tensor,
    targets: Tensor,
    lengths: Tensor,
    target_lengths: Tensor,
    blank: int = 0,
    reduction: Reduction = "mean",
) -> Tensor:
    """Negative log-likelihood in fp32 or wider of log_probs (B,T,V) and targets (B,U); ``mean`` is over B.

    A row whose target cannot fit its frames (T < U + repeats) has loss 0 and gradient 0: it teaches nothing.
    """
    wide = log_probs if log_probs.dtype == torch.float64 else log_probs.float()
    losses = torch.nn.functional.ctc_loss(
        wide.transpose(0, 1), targets, lengths, target_lengths, blank=blank, reduction="none", zero_infinity=True
    )
    return reduce(losses, reduction)


def reduce(losses: Tensor, reduction: Reduction) -> Tensor:
    """(B,) losses as they are, summed, or averaged over B."""
    if reduction == "none":
        return losses
    if reduction in ("sum", "mean"):
        return losses.sum() if reduction == "sum" else losses.mean()
    raise ValueError(f"reduction '{reduction}' is not one of none, sum, mean")
