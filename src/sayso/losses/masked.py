"""Masked prediction (Hsu et al. 2021, HuBERT; Chiu et al. 2022, BEST-RQ): the codes of frames that were hidden.

Shapes: ``B`` batch, ``T`` frames, ``V`` codes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sayso.losses.ctc import Reduction, reduce


def masked_prediction_loss(
    logits: Tensor, targets: Tensor, lengths: Tensor, masked: Tensor, reduction: Reduction = "mean"
) -> Tensor:
    """Sum over the ``masked`` (B,T) frames of each row, in fp32 or wider, of the cross-entropy between ``targets``
    (B,T) and ``logits`` (B,T,V); ``mean`` is over B. Frames that were heard, or lie beyond a row's length, get no
    gradient; a row without a masked frame costs nothing."""
    wide = logits if logits.dtype == torch.float64 else logits.float()
    real = masked & (torch.arange(targets.shape[1], device=targets.device)[None] < lengths[:, None])
    log_probs = torch.log_softmax(wide.masked_fill(~real[:, :, None], 0.0), -1)
    said = log_probs.gather(2, targets[:, :, None])[:, :, 0]
    return reduce(-said.masked_fill(~real, 0.0).sum(1), reduction)
