"""Cross-entropy of label sequences with label smoothing (Szegedy et al. 2016), for decoders that write one label at a
time.

Shapes: ``B`` batch, ``U`` labels, ``V`` vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sayso.losses.ctc import Reduction, reduce


def cross_entropy_loss(
    logits: Tensor, targets: Tensor, target_lengths: Tensor, smoothing: float = 0.0, reduction: Reduction = "mean"
) -> Tensor:
    """Sum over the labels of each row, in fp32 or wider, of the cross-entropy between the target and ``logits``
    (B,U,V); ``mean`` is over B.

    The target is 1 - ``smoothing`` for the label of targets (B,U) and ``smoothing`` / V for every label, that one
    included. What lies beyond a row's target length is no target and gets no gradient.
    """
    if not 0 <= smoothing < 1:
        raise ValueError(f"smoothing ({smoothing}) must be at least 0 and less than 1")
    wide = logits if logits.dtype == torch.float64 else logits.float()
    real = torch.arange(targets.shape[1], device=targets.device)[None] < target_lengths[:, None]
    log_probs = torch.log_softmax(wide.masked_fill(~real[:, :, None], 0.0), -1)
    said = log_probs.gather(2, targets.clamp(0, logits.shape[2] - 1)[:, :, None])[:, :, 0]
    each = (1 - smoothing) * said + smoothing * log_probs.mean(-1)
    return reduce(-each.masked_fill(~real, 0.0).sum(1), reduction)
