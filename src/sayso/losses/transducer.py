"""The exact RNN-T loss (Graves 2012): forward-backward over the (T, U+1) lattice, in plain PyTorch.

Both recursions run as wavefronts over anti-diagonals ``t + u = n``: T + U vectorised steps, no cumulative sums, hence
no cancellation and no NaN from -inf entries. The gradient is analytic: with occupancies ``g`` of blank and label at
each lattice point, ``dL/dlogits = (g_blank + g_label) softmax - g_blank e_blank - g_label e_label``; it is exactly
zero at padding.

Shapes: ``B`` batch, ``T`` frames, ``U`` labels, ``V`` vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sayso.losses.ctc import Reduction, reduce


def transducer_loss(
    logits: Tensor,
    targets: Tensor,
    logit_lengths: Tensor,
    target_lengths: Tensor,
    blank: int = 0,
    reduction: Reduction = "mean",
) -> Tensor:
    """Negative log-likelihood of unnormalised logits (B,T,U+1,V) and targets (B,U); ``mean`` is over B.

    Lengths are (B,), 1 <= logit_lengths <= T, 0 <= target_lengths <= U. The lattice runs in fp32 or wider whatever
    the input. A target that has probability zero gives infinite loss and zero gradient. ValueError on shapes that do
    not fit.
    """
    _check(logits, targets, logit_lengths, target_lengths, blank)
    losses: Tensor = _Transducer.apply(  # type: ignore[no-untyped-call]
        logits, targets, logit_lengths, target_lengths, blank
    )
    return reduce(losses, reduction)


def _check(logits: Tensor, targets: Tensor, logit_lengths: Tensor, target_lengths: Tensor, blank: int) -> None:
    if logits.dim() != 4 or targets.dim() != 2:
        raise ValueError(
            f"logits must be (B,T,U+1,V) and targets (B,U); got {list(logits.shape)}, {list(targets.shape)}"
        )
    batch, frames, positions, vocab = logits.shape
    if targets.shape != (batch, positions - 1):
        raise ValueError(
            f"targets must be (B,U) = {[batch, positions - 1]} for these logits; got {list(targets.shape)}"
        )
    if logit_lengths.shape != (batch,) or target_lengths.shape != (batch,):
        raise ValueError(f"lengths must be (B,) = [{batch}]")
    if not 0 <= blank < vocab:
        raise ValueError(f"blank {blank} is outside the vocabulary of {vocab}")
    if bool(((logit_lengths < 1) | (logit_lengths > frames)).any()):
        raise ValueError(f"logit_lengths must lie in 1..{frames}; got {logit_lengths.tolist()}")
    if bool(((target_lengths < 0) | (target_lengths >= positions)).any()):
        raise ValueError(f"target_lengths must lie in 0..{positions - 1}; got {target_lengths.tolist()}")
    inside = torch.arange(positions - 1, device=targets.device)[None] < target_lengths[:, None].to(targets.device)
    if bool((inside & ((targets < 0) | (targets >= vocab) | (targets == blank))).any()):
        raise ValueError(f"targets must be labels of 0..{vocab - 1} other than the blank {blank}")


class _Transducer(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor, frames: Tensor, labels: Tensor, blank: int) -> Tensor:
        wide = logits.detach()
        wide = wide if wide.dtype == torch.float64 else wide.float()
        total = torch.logsumexp(wide, -1)
        safe = torch.where(torch.isfinite(total), total, torch.zeros_like(total))
        index = targets.clamp(0, logits.shape[3] - 1)
        emit = wide[:, :, :-1].gather(3, index[:, None, :, None].expand(-1, logits.shape[1], -1, 1))[..., 0]
        inside = _inside(logits, frames, labels)
        # steps that leave the row's own lattice are impossible
        skip = torch.where(inside, wide[..., blank] - safe, -torch.inf)  # (B,T,U+1)
        emit = torch.where(inside[:, :, 1:], emit - safe[:, :, :-1], -torch.inf)  # (B,T,U)
        alpha = _forward(skip, emit)
        rows = torch.arange(len(frames), device=logits.device)
        last = (rows, frames - 1, labels)
        loss = -(alpha[last] + skip[last])
        ctx.save_for_backward(logits, index, frames, labels, safe, skip, emit, alpha, loss)
        ctx.blank = blank
        return loss

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        logits, index, frames, labels, safe, skip, emit, alpha, loss = ctx.saved_tensors
        beta = _backward(skip, emit, frames, labels)  # (B,T+1,U+2), -inf outside
        scale = torch.where(torch.isfinite(loss), gradients[0].to(loss.dtype), torch.zeros_like(loss))[:, None, None]
        ends = torch.where(torch.isfinite(loss), loss, torch.zeros_like(loss))[:, None, None]
        skipped = torch.exp(alpha + skip + beta[:, 1:, :-1] + ends) * scale
        emitted = torch.exp(alpha[:, :, :-1] + emit + beta[:, :-1, 1:-1] + ends) * scale
        either = skipped.clone()
        either[:, :, :-1] += emitted
        gradient = torch.exp(logits.to(safe.dtype) - safe[..., None])
        gradient *= either[..., None]
        gradient.masked_fill_(~_inside(logits, frames, labels)[..., None], 0.0)  # padding may hold anything, NaN too
        gradient[..., ctx.blank] -= skipped
        where = index[:, None, :, None].expand(-1, logits.shape[1], -1, 1)
        gradient[:, :, :-1].scatter_add_(3, where, -emitted[..., None])
        return gradient.to(logits.dtype), None, None, None, None


def _inside(logits: Tensor, frames: Tensor, labels: Tensor) -> Tensor:
    """Boolean (B,T,U+1): lattice points of each row."""
    t = torch.arange(logits.shape[1], device=logits.device)[None, :, None]
    u = torch.arange(logits.shape[2], device=logits.device)[None, None, :]
    return (t < frames[:, None, None]) & (u <= labels[:, None, None])


def _forward(skip: Tensor, emit: Tensor) -> Tensor:
    """alpha (B,T,U+1): log-probability of all paths that reach each point."""
    batch, frames, positions = skip.shape
    # a diagonal of the lattice is a column of the skewed lattice: row u shifted right by u
    alpha = skip.new_full((batch, frames + positions, positions), -torch.inf)
    skip_skewed, emit_skewed = _skew(skip), _skew(emit)
    alpha[:, 0, 0] = 0.0
    for n in range(1, frames + positions - 1):
        stay = alpha[:, n - 1] + skip_skewed[:, n - 1]
        move = torch.full_like(stay, -torch.inf)
        move[:, 1:] = alpha[:, n - 1, :-1] + emit_skewed[:, n - 1]
        alpha[:, n] = torch.logaddexp(stay, move)
    return _unskew(alpha, frames)


def _backward(skip: Tensor, emit: Tensor, frames: Tensor, labels: Tensor) -> Tensor:
    """beta (B,T+1,U+2): log-probability of all ways from each point to the end; the end itself is point (T_b, U_b)."""
    batch, size, positions = skip.shape
    beta = skip.new_full((batch, size + 1 + positions + 1, positions + 1), -torch.inf)
    skip_skewed, emit_skewed = _skew(skip), _skew(emit)
    rows = torch.arange(batch, device=skip.device)
    beta[rows, frames + labels, labels] = 0.0
    for n in range(size + positions - 2, -1, -1):
        value = beta[:, n + 1, :-1] + skip_skewed[:, n]
        move = torch.full_like(value, -torch.inf)
        move[:, :-1] = beta[:, n + 1, 1:-1] + emit_skewed[:, n]
        # the end point keeps its zero; everything else is its two ways on
        beta[:, n, :-1] = torch.logaddexp(torch.logaddexp(value, move), beta[:, n, :-1])
    return _unskew(beta, size + 1)


def _skew(x: Tensor) -> Tensor:
    """(B,T,U) to (B,T+U,U) with entry (t,u) at (t+u,u); -inf elsewhere."""
    batch, frames, positions = x.shape
    skewed = x.new_full((batch, frames + positions, positions), -torch.inf)
    t = torch.arange(frames, device=x.device)[:, None]
    u = torch.arange(positions, device=x.device)[None, :]
    skewed[:, t + u, u.expand(frames, -1)] = x
    return skewed


def _unskew(x: Tensor, frames: int) -> Tensor:
    """Inverse of ``_skew`` for the first ``frames`` rows."""
    positions = x.shape[2]
    t = torch.arange(frames, device=x.device)[:, None]
    u = torch.arange(positions, device=x.device)[None, :]
    return x[:, t + u, u.expand(frames, -1)]
