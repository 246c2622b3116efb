"""The RNN-T lattice (Graves 2012) that the exact, the lean and the pruned loss share.

A lattice point (t,u) is left by a blank, to (t+1,u), or by the next label, to (t,u+1). Forward and backward variables
obey the same recursion, one of them on the lattice read from its end, so both run as one wavefront over anti-diagonals
``t + u = n``: T + U vectorised steps, no cumulative sums, hence no cancellation and no NaN from -inf entries. The
gradient is analytic: what a step's log-probability earns is how often the paths take it, its occupancy. FastEmit (Yu et
al. 2021) multiplies what label steps earn by ``1 + lambda``.

Shapes: ``B`` batch, ``T`` frames, ``U`` labels, ``P`` = U + 1 positions, ``V`` vocabulary. ``scores`` (...,2) are
log-probabilities of the blank and of the next label.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional


def lattice_loss(scores: Tensor, frames: Tensor, labels: Tensor, fastemit_lambda: float = 0.0) -> tuple[Tensor, Tensor]:
    """Negative log-likelihoods (B,) of scores (B,T,P,2), and the occupancies (B,T,P,2), which carry no gradient.

    ``frames`` and ``labels`` (B,) are the rows' own sizes; scores outside may be anything and get zero gradient. A row
    of probability zero has infinite loss and zero gradient.
    """
    result: tuple[Tensor, Tensor] = _Lattice.apply(  # type: ignore[no-untyped-call]
        scores, frames, labels, fastemit_lambda
    )
    return result


def point_scores(logits: Tensor, labels: Tensor, blank: int) -> Tensor:
    """Scores (...,2) of unnormalised logits (...,V): log-probabilities of ``blank`` and of ``labels`` (...).

    In fp32 or wider. Keeps no more than the logits for its gradient; points whose scores get none may hold NaN.
    """
    result: Tensor = _PointScores.apply(logits, labels, blank)  # type: ignore[no-untyped-call]
    return result


def inside_lattice(frames: Tensor, labels: Tensor, size: int, positions: int) -> Tensor:
    """Boolean (B,T,P): the points of each row's own lattice."""
    t = torch.arange(size, device=frames.device)[None, :, None]
    u = torch.arange(positions, device=frames.device)[None, None, :]
    return (t < frames[:, None, None]) & (u <= labels[:, None, None])


def solve_lattice(scores: Tensor, frames: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """What ``lattice_loss`` returns, without a gradient."""
    batch, size, positions, _ = scores.shape
    inside = inside_lattice(frames, labels, size, positions)
    # steps that leave the row's own lattice are impossible, but for the last blank
    blank = torch.where(inside, scores[..., 0], -torch.inf)
    label = functional.pad(torch.where(inside[:, :, 1:], scores[:, :, :-1, 1], -torch.inf), (0, 1), value=-torch.inf)
    rows = torch.arange(batch, device=scores.device)
    mirror = _Mirror(frames, labels, size, positions)
    # what arrives at each point of (T+1,P), from the frame before and from the label before
    stay = torch.cat([functional.pad(blank, (0, 0, 1, 0), value=-torch.inf), mirror(blank)])
    move = torch.cat([functional.pad(label, (1, -1, 0, 1), value=-torch.inf), mirror(label)])
    reached = _sweep(stay, move)
    alpha, beta = reached[:batch], mirror(reached[batch:])
    likelihood = alpha[rows, frames, labels]
    end = torch.where(torch.isfinite(likelihood), likelihood, torch.inf)[:, None, None]
    after = functional.pad(beta[:, :size, 1:], (0, 1), value=-torch.inf)
    taken = torch.stack([blank + beta[:, 1:], label + after], -1)
    return -likelihood, torch.exp((alpha[:, :size] - end)[..., None] + taken)


def score_gradient(loss: Tensor, occupancy: Tensor, gradient: Tensor, fastemit_lambda: float) -> Tensor:
    """Gradient (B,T,P,2) of the scores, given that (B,) of the losses."""
    # what is done with an infinite loss may give an infinite gradient, and zero occupancy does not silence that
    gradient = torch.where(torch.isfinite(loss), gradient, 0.0)
    earned = occupancy * -gradient[:, None, None, None]
    earned[..., 1] *= 1 + fastemit_lambda
    return earned


def logit_gradient(logits: Tensor, labels: Tensor, earned: Tensor, blank: int) -> Tensor:
    """Gradient of logits (...,V), given that (...,2) of their point scores; exactly zero where that is zero."""
    gradient = torch.softmax(wide(logits), -1)
    either = earned.sum(-1, keepdim=True)
    gradient *= -either
    gradient[(either[..., 0] == 0).nonzero(as_tuple=True)] = 0.0  # padding may hold anything, NaN too
    gradient[..., blank] += earned[..., 0]
    gradient.scatter_add_(-1, _index(labels, logits), earned[..., 1:])
    return gradient.to(logits.dtype)


class _PointScores(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor, blank: int) -> Tensor:
        scored = wide(logits.detach())
        ctx.save_for_backward(logits, labels)
        ctx.blank = blank
        log_probs = torch.log_softmax(scored, -1)
        scores = torch.cat([log_probs[..., blank : blank + 1], log_probs.gather(-1, _index(labels, scored))], -1)
        # a point without any outcome: impossible, not NaN
        return scores.masked_fill((scored.amax(-1) == -torch.inf)[..., None], -torch.inf)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, earned: Tensor) -> tuple[Tensor, None, None]:
        logits, labels = ctx.saved_tensors
        return logit_gradient(logits, labels, earned, ctx.blank), None, None


class _Lattice(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, scores: Tensor, frames: Tensor, labels: Tensor, fastemit_lambda: float
    ) -> tuple[Tensor, Tensor]:
        loss, occupancy = solve_lattice(scores, frames, labels)
        ctx.save_for_backward(loss, occupancy)
        ctx.fastemit_lambda = fastemit_lambda
        ctx.mark_non_differentiable(occupancy)
        return loss, occupancy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor, None, None, None]:
        loss, occupancy = ctx.saved_tensors
        return score_gradient(loss, occupancy, gradient, ctx.fastemit_lambda), None, None, None


def wide(x: Tensor) -> Tensor:
    """In fp32, or in fp64 where it is."""
    return x if x.dtype == torch.float64 else x.float()


def _index(labels: Tensor, logits: Tensor) -> Tensor:
    return labels[..., None].clamp(0, logits.shape[-1] - 1)


class _Mirror:
    """Reads (B,T or T+1,P) from each row's own end: entry (t,u) becomes that of (frames - t, labels - u), else -inf."""

    def __init__(self, frames: Tensor, labels: Tensor, size: int, positions: int) -> None:
        self.size = size
        self.rows = torch.arange(len(frames), device=frames.device)[:, None, None]
        t = frames[:, None] - torch.arange(size + 1, device=frames.device)
        u = labels[:, None] - torch.arange(positions, device=frames.device)
        self.t = torch.where(t < 0, size + 1, t)[:, :, None]
        self.u = torch.where(u < 0, positions, u)[:, None, :]

    def __call__(self, x: Tensor) -> Tensor:
        padded = functional.pad(x, (0, 1, 0, self.size + 2 - x.shape[1]), value=-torch.inf)
        return padded[self.rows, self.t, self.u]


def _sweep(stay: Tensor, move: Tensor) -> Tensor:
    """Log-sum over all paths from (0,0) to each point of (B,T+1,P), given what each step into a point scores."""
    batch, size, positions = stay.shape
    stays, moves = _skew(stay).unbind(0), _skew(move).unbind(0)
    reached = stay.new_full((size + positions - 1, batch, positions + 1), -torch.inf)  # column 0 stays impossible
    reached[0, :, 1] = 0.0
    here, left = reached[:, :, 1:].unbind(0), reached[:, :, :-1].unbind(0)
    one, two = torch.empty_like(stays[0]), torch.empty_like(stays[0])
    for n in range(1, len(here)):
        torch.add(here[n - 1], stays[n], out=one)
        torch.add(left[n - 1], moves[n], out=two)
        torch.logaddexp(one, two, out=here[n])
    # undo the skew: a longer row length moves row u by u to the left
    turned = functional.pad(reached[:, :, 1:].permute(1, 2, 0).flatten(1), (0, positions))
    return turned.view(batch, positions, -1)[:, :, :size].transpose(1, 2)


def _skew(x: Tensor) -> Tensor:
    """(B,T,P) to (T+P-1,B,P) with entry (t,u) at (t+u,u); -inf elsewhere."""
    batch, _, positions = x.shape
    turned = functional.pad(x.transpose(1, 2), (0, positions), value=-torch.inf).flatten(1)
    # cutting P off the end makes each row one shorter, which moves row u by u to the right
    return turned[:, :-positions].reshape(batch, positions, -1).permute(2, 0, 1).contiguous()
