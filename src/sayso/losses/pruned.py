"""The RNN-T loss within a band of the lattice (Kuang et al. 2022).

A simple joiner adds an encoder side and a prediction side, each already of the vocabulary's size. Its normaliser is a
matrix product, so its whole lattice costs next to nothing, and its occupancies say which few labels matter at each
frame. The full joiner runs on that band only; within it the loss is exact. Bands never step back, share at least one
label with the next, begin at the first and end behind the last label, so every one holds a path.

Shapes: ``B`` batch, ``T`` frames, ``U`` labels, ``P`` = U + 1 positions, ``V`` vocabulary, ``J`` joiner input.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Unpack

import torch
from torch import Tensor
from torch.nn import functional

from sayso.losses.ctc import Reduction, reduce
from sayso.losses.lattice import inside_lattice, lattice_loss, point_scores
from sayso.losses.lean import FastEmit, Join, check_sides
from sayso.losses.transducer import check_labels, check_lattice, next_labels


class PrunedOptions(FastEmit, total=False):
    """``blank`` (default 0), ``reduction``, ``fastemit_lambda``, and the simple joiner.

    ``simple`` is (am (B,T,V), lm (B,U+1,V)), unnormalised, whose sum are the simple joiner's logits; without it they
    are ``join`` with the other side zero. ``simple_scale`` (default 0) times the simple loss is added to the result,
    which trains the simple joiner; the choice of the bands passes no gradient.
    """

    blank: int
    reduction: Reduction
    simple: tuple[Tensor, Tensor] | None
    simple_scale: float


def transducer_loss_pruned(
    enc: Tensor,
    pred: Tensor,
    join: Join,
    targets: Tensor,
    logit_lengths: Tensor,
    target_lengths: Tensor,
    band: int,
    **options: Unpack[PrunedOptions],
) -> Tensor:
    """``transducer_loss`` of ``join`` over enc (B,T,J) and pred (B,U+1,J), of the paths within a band of labels.

    ``join(enc_tile, pred_tile) -> logits`` gets (B·T,1,1,J) and (B·T,1,band,J) and gives (B·T,1,band,V). At each frame
    ``band`` >= 2 positions are seen, or as many more as the row with the most labels a frame needs; from U + 1 on the
    loss is the exact one. Padding of ``enc`` and ``pred`` is never read. ValueError on shapes that do not fit.
    """
    settings = _Settings(**options)
    check_sides(enc, pred)
    check_lattice(torch.Size([*enc.shape[:2], pred.shape[1]]), targets, logit_lengths, target_lengths)
    if band < 2:
        raise ValueError(f"band must be 2 or more, to hold a label's point and the next; got {band}")
    inside = inside_lattice(logit_lengths, target_lengths, enc.shape[1], pred.shape[1])
    enc, pred = enc.masked_fill(~inside[:, :, :1], 0.0), pred.masked_fill(~inside[:, 0, :, None], 0.0)
    with torch.set_grad_enabled(torch.is_grad_enabled() and settings.simple_scale != 0):
        am, lm = settings.simple or _halves(enc, pred, join)
        _check_simple(am, lm, enc, pred)
        check_labels(am.shape[-1], targets, target_lengths, settings.blank)
        simple, occupancy = _simple(am, lm, targets, logit_lengths, target_lengths, settings.blank)
    starts = pruning_bounds(occupancy.sum(-1), logit_lengths, target_lengths, band)
    scores = _band_scores(enc, pred, join, next_labels(targets), starts, settings.blank)
    loss, _ = lattice_loss(scores, logit_lengths, target_lengths, settings.fastemit_lambda)
    if settings.simple_scale != 0:
        loss = loss + settings.simple_scale * simple
    return reduce(loss, settings.reduction)


def transducer_loss_simple(
    am: Tensor,
    lm: Tensor,
    targets: Tensor,
    logit_lengths: Tensor,
    target_lengths: Tensor,
    blank: int = 0,
    reduction: Reduction = "mean",
) -> Tensor:
    """``transducer_loss`` of the logits am (B,T,V) plus lm (B,U+1,V), which are never formed.

    Where the two sides contradict each other by more than 87 nats in fp32, probabilities come out too small. Padding is
    never read. ValueError on shapes that do not fit.
    """
    _check_simple(am, lm, am, lm)
    check_lattice(torch.Size([*am.shape[:2], lm.shape[1]]), targets, logit_lengths, target_lengths)
    check_labels(am.shape[-1], targets, target_lengths, blank)
    loss, _ = _simple(am, lm, targets, logit_lengths, target_lengths, blank)
    return reduce(loss, reduction)


def pruning_bounds(visits: Tensor, frames: Tensor, labels: Tensor, band: int) -> tuple[Tensor, int]:
    """First position (B,T) of each frame's band, and the band's width, given how often paths visit (B,T,P).

    The band of a frame is where most visits are, moved as far as bands have to be to hang together. Wider than ``band``
    where a row has more than ``band - 1`` labels a frame; never wider than P.
    """
    _, size, positions = visits.shape
    needed = int((labels.div(frames, rounding_mode="floor") + (labels % frames > 0)).max()) + 1
    width = min(max(band, needed), positions)
    best = visits.unfold(2, width, 1).sum(-1).argmax(-1)
    step = width - 1  # bands of neighbouring frames share a position
    t = torch.arange(size, device=visits.device)
    last = (labels + 1 - width).clamp(min=0)[:, None]
    # from the first label on, and in time for the last one
    high = torch.minimum(t * step, last)
    low = (last - (frames[:, None] - 1 - t).clamp(min=0) * step).clamp(min=0)
    starts = torch.minimum(torch.maximum(best, low), high).cummax(1).values
    # a band that would leap from its predecessor pulls that up
    pulled = (starts - t * step).flip(1).cummax(1).values.flip(1) + t * step
    return pulled, width


@dataclass(frozen=True)
class _Settings:
    blank: int = 0
    reduction: Reduction = "mean"
    fastemit_lambda: float = 0.0
    simple: tuple[Tensor, Tensor] | None = None
    simple_scale: float = 0.0


def _check_simple(am: Tensor, lm: Tensor, enc: Tensor, pred: Tensor) -> None:
    sizes = am.shape[:2] == enc.shape[:2] and lm.shape[:2] == pred.shape[:2] and am.shape[0] == lm.shape[0]
    if am.dim() != 3 or lm.dim() != 3 or not sizes or am.shape[2] != lm.shape[2]:
        raise ValueError(f"simple must be (B,T,V) and (B,U+1,V); got {list(am.shape)}, {list(lm.shape)}")


def _halves(enc: Tensor, pred: Tensor, join: Join) -> tuple[Tensor, Tensor]:
    """(B,T,V) and (B,P,V): what ``join`` says to either side alone."""
    sides = []
    for one, e, p in ((enc, enc, torch.zeros_like(pred[:1, :1])), (pred, torch.zeros_like(enc[:1, :1]), pred)):
        rows, columns = e.flatten(0, 1)[:, None, None], p.flatten(0, 1)[:, None, None]
        sides.append(join(rows, columns).reshape(*one.shape[:2], -1))
    return sides[0], sides[1]


def _simple(
    am: Tensor, lm: Tensor, targets: Tensor, frames: Tensor, labels: Tensor, blank: int
) -> tuple[Tensor, Tensor]:
    """Losses (B,) and occupancies (B,T,P,2) of the simple joiner."""
    inside = inside_lattice(frames, labels, am.shape[1], lm.shape[1])
    wide = torch.promote_types(am.dtype, torch.float32)
    am, lm = am.to(wide).masked_fill(~inside[:, :, :1], 0.0), lm.to(wide).masked_fill(~inside[:, 0, :, None], 0.0)
    am, lm = (x - x.detach().amax(-1, keepdim=True) for x in (am, lm))
    mass = torch.matmul(am.exp(), lm.exp().transpose(1, 2))
    total = mass.clamp(min=torch.finfo(wide).tiny).log()
    following = next_labels(targets).clamp(0, am.shape[2] - 1)
    heard = am.gather(2, following[:, None].expand(-1, am.shape[1], -1))
    label = heard + lm.gather(2, following[..., None])[..., 0][:, None]
    silent = am[..., blank, None] + lm[:, None, :, blank]
    return lattice_loss(torch.stack([silent, label], -1) - total[..., None], frames, labels)


def _band_scores(
    enc: Tensor, pred: Tensor, join: Join, labels: Tensor, bounds: tuple[Tensor, int], blank: int
) -> Tensor:
    """Point scores (B,T,P,2) of ``join`` within the bands, -inf outside."""
    starts, width = bounds
    (batch, size), (positions, joiner) = starts.shape, pred.shape[1:]
    at = starts[..., None] + torch.arange(width, device=starts.device)  # (B,T,width)
    row = torch.arange(batch, device=starts.device)[:, None, None] * positions
    columns = functional.embedding(at + row, pred.flatten(0, 1))
    logits = join(enc.reshape(-1, 1, 1, enc.shape[2]), columns.view(-1, 1, width, joiner))
    if logits.numel() != batch * size * width * logits.shape[-1]:
        raise ValueError(
            f"join must turn {[batch * size, 1, 1, enc.shape[2]]} and {[batch * size, 1, width, joiner]} into "
            f"{[batch * size, 1, width, 'V']}; got {list(logits.shape)}"
        )
    following = labels[:, None].expand(-1, size, -1).gather(2, at)
    inner = point_scores(logits.reshape(batch, size, width, -1), following, blank)
    outer = inner.new_full((batch, size, positions, 2), -torch.inf)
    return outer.scatter(2, at[..., None].expand(-1, -1, -1, 2), inner)
