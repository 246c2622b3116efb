"""Cross-entropy against labels that may be coarse, with label smoothing.

A coarse label says that one of several classes is meant and not which: what it costs is minus the log of their summed
probability (partial labels, marginalised over; Cour et al. 2011). Smoothing (Szegedy et al. 2016, arXiv:1512.00567,
section 7) mixes every target with the uniform distribution.

Shapes: ``N`` examples, ``C`` classes, ``L`` labels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sayso.losses.ctc import Reduction, reduce


def label_loss(
    log_probs: Tensor,
    labels: Tensor,
    members: Tensor | None = None,
    *,
    smoothing: float = 0.0,
    ignore_index: int = -1,
    reduction: Reduction = "mean",
) -> Tensor:
    """-(1 - e) log(sum of the label's classes) - e/C sum of all log_probs (N,C), for labels (N,) and ``smoothing`` e.

    ``members`` (L,C), boolean, says which classes each label may mean; None: labels are classes. ``mean`` is over the
    labels that are not ``ignore_index``; those are 0 and get no gradient, and the mean of none is 0. In fp32 or wider.
    ValueError for a label that there is not, or that has no class.
    """
    if not 0 <= smoothing < 1:
        raise ValueError(f"smoothing is a share of the target, 0 <= e < 1; got {smoothing}")
    wide = log_probs if log_probs.dtype == torch.float64 else log_probs.float()
    known = labels != ignore_index
    count = wide.shape[1] if members is None else len(members)
    if bool((known & ((labels < 0) | (labels >= count))).any()):
        raise ValueError(f"labels must lie in 0..{count - 1} or be {ignore_index}; got {sorted(set(labels.tolist()))}")
    place = torch.where(known, labels, 0)
    if members is None:
        said = wide.gather(1, place[:, None])[:, 0]
    else:
        if members.shape[1] != wide.shape[1] or not bool(members.any(1).all()):
            raise ValueError(f"members must be (L,C) with C = {wide.shape[1]} and a class for every label")
        said = wide.masked_fill(~members.to(wide.device)[place], -torch.inf).logsumexp(1)
    losses = -(1 - smoothing) * said
    if smoothing:
        losses = losses - smoothing * wide.mean(1)
    losses = torch.where(known, losses, 0.0)
    return losses.sum() / known.sum().clamp(min=1) if reduction == "mean" else reduce(losses, reduction)
