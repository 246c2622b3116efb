"""The exact RNN-T loss (Graves 2012) of all logits at once; see ``lattice`` for the recursion and its gradient.

With occupancies ``g`` of blank and label at each lattice point,
``dL/dlogits = (g_blank + g_label) softmax - g_blank e_blank - g_label e_label``; it is exactly zero at padding.

Shapes: ``B`` batch, ``T`` frames, ``U`` labels, ``V`` vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from sayso.losses.ctc import Reduction, reduce
from sayso.losses.lattice import lattice_loss, point_scores


def transducer_loss(
    logits: Tensor,
    targets: Tensor,
    logit_lengths: Tensor,
    target_lengths: Tensor,
    blank: int = 0,
    reduction: Reduction = "mean",
    fastemit_lambda: float = 0.0,
    allowed: Tensor | None = None,
) -> Tensor:
    """Negative log-likelihood of unnormalised logits (B,T,U+1,V) and targets (B,U); ``mean`` is over B.

    Lengths are (B,), 1 <= logit_lengths <= T, 0 <= target_lengths <= U. The lattice runs in fp32 or wider whatever
    the input. A target that has probability zero gives infinite loss and zero gradient. ``fastemit_lambda`` (Yu et al.
    2021) multiplies the gradient that reaches label log-probabilities by ``1 + lambda``; the value stays the
    likelihood's. ``allowed`` (B,T,U), boolean, restricts paths to those that say label u at a frame t where it is true
    (alignment-restricted RNN-T; Mahadeokar et al. 2021, arXiv:2011.03072; ``alignment.alignment_band`` makes it).
    ValueError on shapes that do not fit.
    """
    if logits.dim() != 4:
        raise ValueError(f"logits must be (B,T,U+1,V); got {list(logits.shape)}")
    check_lattice(logits.shape[:3], targets, logit_lengths, target_lengths)
    check_labels(logits.shape[3], targets, target_lengths, blank)
    scores = point_scores(logits, next_labels(targets)[:, None].expand(logits.shape[:3]), blank)
    if allowed is not None:
        if allowed.shape != (*logits.shape[:2], targets.shape[1]):
            raise ValueError(
                f"allowed must be (B,T,U) = {[*logits.shape[:2], targets.shape[1]]}; got {[*allowed.shape]}"
            )
        label = torch.where(functional.pad(allowed, (0, 1), value=True), scores[..., 1], -torch.inf)
        scores = torch.stack([scores[..., 0], label], -1)
    loss, _ = lattice_loss(scores, logit_lengths, target_lengths, fastemit_lambda)
    return reduce(loss, reduction)


def next_labels(targets: Tensor) -> Tensor:
    """(B,U) to (B,U+1): the label that leads on from each position; after the last there is none, and any will do."""
    return functional.pad(targets, (0, 1))


def check_lattice(shape: torch.Size, targets: Tensor, logit_lengths: Tensor, target_lengths: Tensor) -> None:
    """ValueError unless targets and lengths fit a lattice of shape (B,T,U+1)."""
    batch, frames, positions = shape
    if targets.shape != (batch, positions - 1):
        raise ValueError(f"targets must be (B,U) = {[batch, positions - 1]} here; got {list(targets.shape)}")
    if logit_lengths.shape != (batch,) or target_lengths.shape != (batch,):
        raise ValueError(f"lengths must be (B,) = [{batch}]")
    if bool(((logit_lengths < 1) | (logit_lengths > frames)).any()):
        raise ValueError(f"logit_lengths must lie in 1..{frames}; got {logit_lengths.tolist()}")
    if bool(((target_lengths < 0) | (target_lengths >= positions)).any()):
        raise ValueError(f"target_lengths must lie in 0..{positions - 1}; got {target_lengths.tolist()}")


def check_labels(vocab: int, targets: Tensor, target_lengths: Tensor, blank: int) -> None:
    """ValueError unless ``blank`` and the targets (B,U) are of a vocabulary of that size, and apart."""
    if not 0 <= blank < vocab:
        raise ValueError(f"blank {blank} is outside the vocabulary of {vocab}")
    inside = torch.arange(targets.shape[1], device=targets.device)[None] < target_lengths[:, None].to(targets.device)
    if bool((inside & ((targets < 0) | (targets >= vocab) | (targets == blank))).any()):
        raise ValueError(f"targets must be labels of 0..{vocab - 1} other than the blank {blank}")
