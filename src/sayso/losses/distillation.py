"""A student's distribution over tokens, and its teacher's (Hinton et al. 2015, arXiv:1503.02531): of CTC in every
frame, of a transducer in every point of its lattice (Panchapagesan et al. 2021, arXiv:2011.06110).

Shapes: ``B`` batch, ``T`` frames, ``U`` labels, ``V`` vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from sayso.losses.ctc import Reduction, reduce
from sayso.losses.lattice import inside_lattice, wide
from sayso.losses.transducer import check_labels, check_lattice, next_labels


def distillation_loss(log_probs: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """``temperature``^2 KL(teacher || student) at that temperature, in nats and fp32: the mean over known frames.

    ``log_probs`` and ``teacher`` are log-probabilities (B,T,V) of the same frames; a frame whose teacher is NaN is
    unknown. The teacher gets no gradient. CTC says a token in one frame of many, so that both have to say it in the
    same one: the teacher should hear as the student will (a chunk at a time), or have begun as the same network
    (Kurata and Audhkhasi 2018). 0 where no frame is known.
    """
    if log_probs.shape != teacher.shape:
        raise ValueError(f"student {tuple(log_probs.shape)} and teacher {tuple(teacher.shape)} need one shape")
    known = ~teacher[:, :, 0].isnan()
    heard, told = ((x[known].float() / temperature).log_softmax(-1) for x in (log_probs, teacher.detach()))
    total = functional.kl_div(heard, told, reduction="sum", log_target=True)
    return temperature**2 * total / known.sum().clamp(min=1)


def lattice_distillation_loss(
    logits: Tensor,
    teacher: Tensor,
    targets: Tensor,
    logit_lengths: Tensor,
    target_lengths: Tensor,
    blank: int = 0,
    reduction: Reduction = "mean",
) -> Tensor:
    """KL(teacher || student) of what may follow in every point of the lattice, in nats, in fp32 or wider: the sum over
    each row's own points; ``mean`` is over B.

    ``logits`` and ``teacher`` are unnormalised (B,T,U+1,V), the targets (B,U), lengths (B,) as of ``transducer_loss``;
    padding may hold anything. Three things may follow: the blank, the next label, anything else; after the last label
    two. The teacher gets no gradient. ValueError on shapes that do not fit.
    """
    if logits.dim() != 4 or logits.shape != teacher.shape or logits.shape[3] < 3:
        raise ValueError(
            f"logits and teacher must both be (B,T,U+1,V) with V > 2; got {[*logits.shape]} and {[*teacher.shape]}"
        )
    check_lattice(logits.shape[:3], targets, logit_lengths, target_lengths)
    check_labels(logits.shape[3], targets, target_lengths, blank)
    position = torch.arange(logits.shape[2], device=logits.device)
    leads_on = position < target_lengths[:, None]  # (B,U+1)
    following = torch.where(leads_on, next_labels(targets), blank)[:, None].expand(logits.shape[:3])
    inside = inside_lattice(logit_lengths, target_lengths, *logits.shape[1:3])
    # before anything is computed of it: what is multiplied by zero later may be NaN
    own = [x.masked_fill(~inside[..., None], 0.0) for x in (logits, teacher.detach())]
    heard, told = (_outcomes(x, following, blank) for x in own)
    apart = told.exp() * (told - heard)
    apart = apart[..., 0] + torch.where(leads_on[:, None], apart[..., 1], 0.0) + apart[..., 2]
    return reduce(torch.where(inside, apart, 0.0).sum((1, 2)), reduction)


def _outcomes(logits: Tensor, following: Tensor, blank: int) -> Tensor:
    """Log-probabilities (...,3) of the blank, of the label ``following`` (...) and of all others, of logits (...,V)."""
    log_probs = wide(logits).log_softmax(-1)
    label = following[..., None]
    named = torch.zeros_like(log_probs, dtype=torch.bool).scatter(-1, label, True)
    named[..., blank] = True
    others = log_probs.masked_fill(named, -torch.inf).logsumexp(-1, keepdim=True)
    return torch.cat([log_probs[..., blank : blank + 1], log_probs.gather(-1, label), others], -1)
