"""Forced alignment: the best CTC path through known labels (Viterbi), batched, and the band around it that restricts
other lattices."""

from __future__ import annotations

import torch
from torch import Tensor

from sayso.losses.ctc import may_skip, with_blanks


@torch.no_grad()
def ctc_alignment(
    log_probs: Tensor, targets: Tensor, lengths: Tensor, target_lengths: Tensor, blank: int = 0
) -> Tensor:
    """Place in targets (B,U) of the label that each frame (B,T) of the best path of log_probs (B,T,V) says.

    It is -1 at blanks, at padding, and throughout a row whose target does not fit its frames.
    """
    batch, frames, _ = log_probs.shape
    labels = with_blanks(targets, blank)
    emission = log_probs.float().gather(2, labels[:, None].expand(-1, frames, -1))  # (B,T,S)
    barred = ~may_skip(labels)
    low = torch.finfo(torch.float32).min / 4
    score = emission.new_full((batch, labels.shape[1]), low)
    score[:, :2] = emission[:, 0, :2]
    back = torch.zeros_like(emission, dtype=torch.int64)
    for t in range(1, frames):
        one = torch.nn.functional.pad(score[:, :-1], (1, 0), value=low)
        two = torch.nn.functional.pad(score[:, :-2], (2, 0), value=low)[:, : labels.shape[1]].masked_fill(barred, low)
        best, step = torch.stack([score, one, two]).max(0)
        back[:, t] = step
        score = torch.where((t < lengths)[:, None], best + emission[:, t], score)
    rows = torch.arange(batch, device=log_probs.device)
    ends = torch.stack([2 * target_lengths, (2 * target_lengths - 1).clamp(min=0)], 1)
    final, which = score.gather(1, ends).max(1)
    state = ends[rows, which]
    path = torch.full_like(back[:, :, 0], -1)
    for t in range(frames - 1, -1, -1):
        live = t < lengths
        path[:, t] = torch.where(live & (state % 2 == 1), state // 2, -1)
        state = torch.where(live, state - back[rows, t, state], state).clamp(min=0)
    return path.masked_fill((final < low / 2)[:, None], -1)


def ctc_emission_frames(log_probs: Tensor, targets: Tensor, lengths: Tensor, target_lengths: Tensor) -> Tensor:
    """Frame (B,U) at which the best path of log_probs (B,T,V) first emits each label of targets (B,U); blank is 0.

    Entries beyond a row's target length, and rows whose target does not fit their frames, are 0.
    """
    path = ctc_alignment(log_probs, targets, lengths, target_lengths)
    return first_said(path, targets.shape[1]).clamp(min=0)


def first_said(path: Tensor, labels: int) -> Tensor:
    """First frame (B,U) at which ``path`` (B,T), of places in targets, says each of the ``labels``; -1 where never."""
    says = path[:, :, None] == torch.arange(labels, device=path.device)
    return torch.where(says.any(1), says.int().argmax(1), -1)


def alignment_band(times: Tensor, frames: int, before: int | None, after: int | None) -> Tensor:
    """Boolean (B,T,U), T = ``frames``: from ``before`` frames before a label's time (B,U) to ``after`` frames behind.

    None is without end. A label of unknown time, -1, is allowed everywhere.
    """
    frame, at = torch.arange(frames, device=times.device)[None, :, None], times[:, None, :]
    inside = torch.ones(len(times), frames, times.shape[1], dtype=torch.bool, device=times.device)
    if before is not None:
        inside &= frame >= at - before
    if after is not None:
        inside &= frame <= at + after
    return inside | (at < 0)
