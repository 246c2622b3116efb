"""CTC (Graves et al. 2006): torch's kernel behind the conventions of our other losses, and our own beside it.

``ctc_loss`` is what training uses: torch's is compiled. ``ctc_loss_lattice`` is the same in plain PyTorch, where every
step can be read and changed: states are the labels with blanks around them, forward and backward variables obey one
recursion, the second on the row read from its end, so both run in one loop over frames. Its gradient is analytic: that
of a log-probability is minus the occupancy of its label at that frame.

Shapes: ``B`` batch, ``T`` frames, ``U`` labels, ``S`` = 2U + 1 states, ``V`` vocabulary.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from sayso.losses.lattice import wide

Reduction = Literal["none", "sum", "mean"]


def ctc_loss(
    log_probs: Tensor,
    targets: Tensor,
    lengths: Tensor,
    target_lengths: Tensor,
    blank: int = 0,
    reduction: Reduction = "mean",
    zero_infinity: bool = True,
) -> Tensor:
    """Negative log-likelihood in fp32 or wider of log_probs (B,T,V) and targets (B,U); ``mean`` is over B.

    A row whose target cannot fit its frames (T < U + repeats), or has probability zero otherwise, has gradient 0: it
    teaches nothing. Its loss is 0, or infinite without ``zero_infinity``.
    """
    rows = wide(log_probs).transpose(0, 1)
    sizes = (targets, lengths, target_lengths, blank, "none")
    losses = functional.ctc_loss(rows, *sizes, zero_infinity=True)
    if not zero_infinity:  # torch's own infinite losses come with NaN gradients
        losses = losses.masked_fill(functional.ctc_loss(rows.detach(), *sizes) == torch.inf, torch.inf)
    return reduce(losses, reduction)


def ctc_loss_lattice(
    log_probs: Tensor,
    targets: Tensor,
    lengths: Tensor,
    target_lengths: Tensor,
    blank: int = 0,
    reduction: Reduction = "mean",
    zero_infinity: bool = True,
) -> Tensor:
    """``ctc_loss``, ours. The gradient is that of free log_probs; torch's adds their softmax, which log_softmax undoes.

    Rows of length 0 have no path but for an empty target, which they say surely.
    """
    losses: Tensor = _Ctc.apply(  # type: ignore[no-untyped-call]
        log_probs, with_blanks(targets, blank), lengths, target_lengths
    )
    if zero_infinity:
        losses = losses.masked_fill(losses == torch.inf, 0.0)
    return reduce(losses, reduction)


def with_blanks(targets: Tensor, blank: int) -> Tensor:
    """(B,U) to (B,2U+1): the states of the CTC lattice, a blank before, between and after the labels."""
    states = targets.new_full((targets.shape[0], 2 * targets.shape[1] + 1), blank)
    states[:, 1::2] = targets
    return states


def may_skip(states: Tensor) -> Tensor:
    """Boolean (B,S): the states (B,S) that may follow the label before them at once, because they differ from it."""
    skip = torch.zeros_like(states, dtype=torch.bool)
    skip[:, 3::2] = states[:, 3::2] != states[:, 1:-2:2]
    return skip


def reduce(losses: Tensor, reduction: Reduction) -> Tensor:
    """(B,) losses as they are, summed, or averaged over B."""
    if reduction == "none":
        return losses
    if reduction in ("sum", "mean"):
        return losses.sum() if reduction == "sum" else losses.mean()
    raise ValueError(f"reduction '{reduction}' is not one of none, sum, mean")


class _Ctc(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, log_probs: Tensor, states: Tensor, lengths: Tensor, labels: Tensor) -> Tensor:
        batch, frames, vocab = log_probs.shape
        index = states.clamp(0, vocab - 1)[:, None].expand(-1, frames, -1)
        said = wide(log_probs.detach()).gather(2, index)  # (B,T,S)
        mirror = _mirrored(lengths, labels, frames, states.shape[1])
        both = torch.cat([said, said[mirror]])
        skip = torch.cat([may_skip(states), may_skip(states[mirror[0][:, 0], mirror[2][:, 0]])])
        reached = _sweep(both, skip)
        alpha, beta = reached[:batch], reached[batch:][mirror]
        rows = torch.arange(batch, device=log_probs.device)
        ends = torch.stack([2 * labels, (2 * labels - 1).clamp(min=0)], 1)
        final = alpha[rows[:, None], (lengths - 1).clamp(min=0)[:, None], ends]
        final[:, 1].masked_fill_(labels == 0, -torch.inf)
        likelihood = final.logsumexp(1)
        likelihood = torch.where(lengths > 0, likelihood, torch.where(labels > 0, -torch.inf, 0.0))
        end = torch.where(torch.isfinite(likelihood), likelihood, torch.inf)[:, None, None]
        inside = _inside(lengths, labels, frames, states.shape[1])
        # a state's own emission is in both directions
        occupancy = torch.where(inside & (said > -torch.inf), torch.exp(alpha + beta - said - end), 0.0)
        ctx.save_for_backward(occupancy, index, torch.isfinite(likelihood))
        ctx.like = log_probs.shape, log_probs.dtype
        return -likelihood

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        occupancy, index, possible = ctx.saved_tensors
        shape, dtype = ctx.like
        gradient = torch.where(possible, gradient, 0.0)  # what is done with an infinite loss may give an infinite one
        total = occupancy.new_zeros(shape)
        total.scatter_add_(2, index, occupancy * -gradient[:, None, None])
        return total.to(dtype), None, None, None


def _sweep(said: Tensor, skip: Tensor) -> Tensor:
    """Log-sum over all paths from the start that end in each state of each frame (B,T,S), its emission included."""
    batch, frames, states = said.shape
    reached = said.new_full((batch, frames, states + 2), -torch.inf)  # columns 0 and 1 stay impossible
    reached[:, :1, 2:4] = said[:, :1, :2]
    barred = torch.where(skip, 0.0, -torch.inf).to(said.dtype)
    for t in range(1, frames):
        before = reached[:, t - 1]
        near = torch.logaddexp(before[:, 2:], before[:, 1:-1])
        reached[:, t, 2:] = torch.logaddexp(near, before[:, :-2] + barred) + said[:, t]
    return reached[:, :, 2:]


def _mirrored(lengths: Tensor, labels: Tensor, frames: int, states: int) -> tuple[Tensor, Tensor, Tensor]:
    """Index that reads (B,T,S) from each row's own end; beyond its beginning, it repeats that."""
    rows = torch.arange(len(lengths), device=lengths.device)[:, None, None]
    t = (lengths[:, None] - 1 - torch.arange(frames, device=lengths.device)).clamp(min=0)
    s = (2 * labels[:, None] - torch.arange(states, device=labels.device)).clamp(min=0)
    return rows, t[:, :, None], s[:, None, :]


def _inside(lengths: Tensor, labels: Tensor, frames: int, states: int) -> Tensor:
    t = torch.arange(frames, device=lengths.device)[None, :, None]
    s = torch.arange(states, device=lengths.device)[None, None, :]
    return (t < lengths[:, None, None]) & (s <= 2 * labels[:, None, None])
