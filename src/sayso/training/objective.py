"""What one batch costs: the weighted sum of CTC, transducer, intent and slot losses on one pass of the shared
encoder."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from sayso.losses import ctc_loss, transducer_loss
from sayso.losses.alignment import ctc_emission_frames
from sayso.models.assembly import SpeechModel
from sayso.models.streaming import Context
from sayso.training.batches import Batch
from sayso.training.recipe import LossWeights


class Objective(nn.Module):
    """The losses as a module's forward, which is what Fabric wraps for precision and devices.

    ``teacher_width`` > 0 adds a projection from our frames to a teacher's, which exists in training only.
    """

    def __init__(self, model: SpeechModel, weights: LossWeights, teacher_width: int = 0) -> None:
        super().__init__()
        self.model, self.weights = model, weights
        self.project = nn.Linear(model.encoder.width, teacher_width) if teacher_width else None

    def forward(self, batch: Batch, context: tuple[int, int], flat: bool) -> dict[str, Tensor]:
        """Losses by name; ``context`` is (chunk frames, left frames), chunk 0: everything visible."""
        chunk, left = context
        return objective(self, batch, Context(chunk, left) if chunk else Context(), flat=flat)


def objective(step: Objective, batch: Batch, context: Context, *, flat: bool = False) -> dict[str, Tensor]:
    """Losses by name; ``total`` is their weighted sum. Sequence losses are per label: long clips must not dominate.

    ``flat``: a flat start; the CTC head is told a uniform alignment instead of summing over all.
    """
    model, weights = step.model, step.weights
    encoded, frames = model.encoder(batch.features, batch.lengths, context)
    losses: dict[str, Tensor] = {}
    if step.project is not None and batch.teacher is not None and weights.teacher > 0:
        losses["teacher"] = _follow(step.project(encoded), batch.teacher)
    if flat:
        told = uniform_alignment(batch, encoded.shape[1]).flatten()
        losses["flat"] = functional.nll_loss(model.ctc(encoded).flatten(0, 1), told, ignore_index=-100)
        losses["total"] = torch.stack([getattr(weights, name) * value for name, value in losses.items()]).sum()
        return losses
    labels = batch.target_lengths.clamp(min=1)
    spoken = (batch.target_lengths > 0).float()
    log_probs = model.ctc(encoded)
    ctc = ctc_loss(log_probs, batch.targets, frames, batch.target_lengths, reduction="none")
    losses["ctc"] = (ctc / labels * spoken).sum() / spoken.sum().clamp(min=1)
    if weights.transducer > 0:
        losses["transducer"] = _transducer(model, batch, encoded, frames, weights.transducer_share)
    if model.intent is not None and bool((batch.intent >= 0).any()):
        losses["intent"] = functional.nll_loss(model.intent(encoded, frames), batch.intent, ignore_index=-1)
    if model.slots is not None and bool((batch.tags >= 0).any()):
        at = ctc_emission_frames(log_probs, batch.targets, frames, batch.target_lengths)
        states = encoded.gather(1, at[:, :, None].expand(-1, -1, encoded.shape[2]))
        tags = model.slots(states, batch.targets, batch.target_lengths)
        losses["slots"] = functional.cross_entropy(tags.float().flatten(0, 1), batch.tags.flatten(), ignore_index=-100)
    losses["total"] = torch.stack([getattr(weights, name) * value for name, value in losses.items()]).sum()
    return losses


def _follow(ours: Tensor, teacher: Tensor) -> Tensor:
    """Smooth L1 distance to a teacher's standardised features (B,T',E) where they are known."""
    known = torch.isfinite(teacher[:, :, 0])
    size = min(ours.shape[1], teacher.shape[1])
    known = known[:, :size]
    if not bool(known.any()):
        return ours.sum() * 0.0
    return functional.smooth_l1_loss(ours[:, :size][known].float(), teacher[:, :size][known])


def uniform_alignment(batch: Batch, size: int) -> Tensor:
    """(B, size) a label per encoder frame: the row's labels evenly over its active frames, blank around, -100 beyond.

    Active is what lies between the first and the last frame that is clearly louder than the row's quiet.
    """
    result = torch.full((len(batch.lengths), size), -100, dtype=torch.int64)
    ratio = -(-batch.features.shape[1] // size)
    for row, (length, count) in enumerate(zip(batch.lengths.tolist(), batch.target_lengths.tolist(), strict=True)):
        energy = batch.features[row, :length].mean(1)
        quiet, loud = torch.quantile(energy, torch.tensor([0.05, 0.9], device=energy.device))
        active = torch.nonzero(energy > quiet + 0.3 * (loud - quiet))[:, 0]
        first, last = int(active[0]) // ratio, int(active[-1]) // ratio
        frames = -(-length // ratio)
        result[row, :frames] = 0
        where = torch.arange(first, last + 1) - first
        if count:
            result[row, first : last + 1] = batch.targets[row, where * count // len(where)].cpu()
    return result.to(batch.features.device)


def _transducer(model: SpeechModel, batch: Batch, encoded: Tensor, frames: Tensor, share: float) -> Tensor:
    """The transducer loss on a share of the rows (they come in random order), trimmed to their own longest."""
    size = encoded.shape[0]
    rows = torch.nonzero(torch.rand(size) < share)[:, 0]
    rows = rows if len(rows) else torch.zeros(1, dtype=torch.int64)
    most_t, most_u = int(frames[rows].max()), max(1, int(batch.target_lengths[rows].max()))
    targets = batch.targets[rows, :most_u]
    logits = model.joiner(encoded[rows, :most_t], model.predictor(targets))
    loss = transducer_loss(logits, targets, frames[rows], batch.target_lengths[rows], reduction="none")
    return (loss / batch.target_lengths[rows].clamp(min=1)).mean()
