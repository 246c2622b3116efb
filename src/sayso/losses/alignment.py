"""Forced alignment: the best CTC path through known labels (Viterbi), batched."""

from __future__ import annotations

import torch
from torch import Tensor


@torch.no_grad()
def ctc_emission_frames(log_probs: Tensor, targets: Tensor, lengths: Tensor, target_lengths: Tensor) -> Tensor:
    """Frame (B,U) at which the best path of log_probs (B,T,V) first emits each label of targets (B,U); blank is 0.

    Entries beyond a row's target length, and rows whose target does not fit their frames, are 0.
    """
    batch, frames, _ = log_probs.shape
    states = 2 * targets.shape[1] + 1
    labels = targets.new_zeros(batch, states)
    labels[:, 1::2] = targets
    emission = log_probs.float().gather(2, labels[:, None].expand(-1, frames, -1))  # (B,T,S)
    jump = torch.zeros_like(labels, dtype=torch.bool)  # may skip the blank between different labels
    jump[:, 3::2] = labels[:, 3::2] != labels[:, 1:-2:2]
    low = torch.finfo(torch.float32).min / 4
    score = emission.new_full((batch, states), low)
    score[:, :2] = emission[:, 0, :2]
    back = torch.zeros(batch, frames, states, dtype=torch.int64, device=log_probs.device)
    for t in range(1, frames):
        one = torch.nn.functional.pad(score[:, :-1], (1, 0), value=low)
        two = torch.nn.functional.pad(score[:, :-2], (2, 0), value=low)[:, :states].masked_fill(~jump, low)
        best, step = torch.stack([score, one, two]).max(0)
        back[:, t] = step
        score = torch.where((t < lengths)[:, None], best + emission[:, t], score)
    rows = torch.arange(batch, device=log_probs.device)
    ends = torch.stack([2 * target_lengths, (2 * target_lengths - 1).clamp(min=0)], 1)
    state = ends[rows, score.gather(1, ends).argmax(1)]
    result = torch.zeros_like(targets)
    for t in range(frames - 1, -1, -1):
        live = t < lengths
        odd = live & (state % 2 == 1)
        result[rows[odd], state[odd] // 2] = t  # overwritten until the first frame of the label
        state = torch.where(live, state - back[rows, t, state], state).clamp(min=0)
    return result
