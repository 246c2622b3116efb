"""What one batch costs: CTC, transducer, intent, slot and decoder losses on one pass of the shared encoder, and their
weighted sum."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from sayso.data.phones import PHONES
from sayso.losses import (
    consistency_loss,
    cross_entropy_loss,
    ctc_loss,
    distillation_loss,
    guided_attention_loss,
    label_loss,
    lattice_distillation_loss,
)
from sayso.losses.alignment import ctc_alignment, ctc_emission_frames, first_said
from sayso.models.assembly import SpeechModel
from sayso.models.masks import length_mask
from sayso.models.streaming import Context
from sayso.training.batches import PHONES_PER_FRAME, Batch
from sayso.training.lattice import FullConfig, FullLoss, TransducerConfig, TransducerLoss
from sayso.training.masking import MaskedConfig, MaskedPrediction
from sayso.training.recipe import LossWeights
from sayso.training.sequence import Heard, SequenceConfig, SequenceLoss
from sayso.training.weighting import FixedConfig, WeightingConfig


@dataclass(frozen=True)
class Aids:
    """What losses need beside the model. ``members`` (L,C) are the classes that each intent label may mean (None: a
    label is a class), ``smoothing`` is that of intents and slots. ``masked`` hides speech and asks for it.

    ``phones`` maps (B,T,D) of the middle layer to (B,T,PHONES_PER_FRAME x phones), ``teacher`` that of the layer below
    the last to a teacher's features; ``lender`` is a teacher whose encoded frames the batches hold. ``transducer`` is
    the full one where none is given.
    """

    sequence: SequenceLoss | None = None
    members: Tensor | None = None
    smoothing: float = 0.0
    phones: nn.Module | None = None
    teacher: nn.Module | None = None
    lender: SpeechModel | None = None
    transducer: TransducerLoss | None = None
    masked: MaskedPrediction | None = None


class Objective(nn.Module):
    """The losses as a module, which has parameters of its own beside the model's."""

    def __init__(
        self,
        model: SpeechModel,
        weights: LossWeights,
        transducer: TransducerConfig | None = None,
        teacher_width: int = 0,
        weighting: WeightingConfig | None = None,
        aids: Aids | None = None,
        masked: MaskedConfig | None = None,
    ) -> None:
        super().__init__()
        self.aids = aids or Aids()
        self.model, self.weights = model, weights
        # none is a part of the model: they teach it and are left behind
        self.masked = (masked or MaskedConfig()).build(model.encoder) if weights.masked > 0 else None
        self.transducer = (transducer or FullConfig()).build(model)
        count = PHONES_PER_FRAME * len(PHONES)
        self.phones = nn.Linear(model.encoder.width, count) if weights.phones > 0 else None
        taught = weights.teacher > 0 and teacher_width > 0
        self.teacher = nn.Linear(model.encoder.width, teacher_width) if taught else None
        self.weighting = (weighting or FixedConfig()).build(weights.by_loss())

    def enter(self, weights: LossWeights) -> None:
        """From now on these are the weights; none that was 0 when this was made."""
        self.weights = weights
        self.weighting.enter(weights.by_loss())

    def forward(self, batch: Batch, context: tuple[int, int], share: float = 0.0) -> dict[str, Tensor]:
        """Losses by name; ``context`` is (chunk frames, left frames), chunk 0: everything visible; ``share`` is how
        much of the run is done."""
        chunk, left = context
        visible = Context(chunk, left) if chunk else Context()
        aids = replace(
            self.aids,
            phones=self.phones if self.weights.phones > 0 else None,
            teacher=self.teacher if self.weights.teacher > 0 else None,
            transducer=self.transducer,
            masked=self.masked if self.weights.masked > 0 else None,
        )
        losses = objective(self.model, batch, visible, self.weights, aids)
        shared = [weight for weight in self.model.encoder.parameters() if weight.dim() > 1][-1]
        losses["total"] = self.weighting(losses, shared, share)
        return losses | self.weighting.told(losses, share)


def objective(
    model: SpeechModel, batch: Batch, context: Context, weights: LossWeights, aids: Aids | None = None
) -> dict[str, Tensor]:
    """Losses by name, not yet weighted. Sequence losses are per label: long clips must not dominate.

    With a weight of consistency rows 2i and 2i+1 of ``batch`` are two views of one clip.
    """
    aids = aids or Aids()
    losses = {} if aids.masked is None else aids.masked(model.encoder, batch.features, batch.lengths, context)
    if losses and not _hears(model, weights):
        return losses
    phones, teacher = aids.phones, aids.teacher
    inside = weights.intermediate > 0 or phones is not None or teacher is not None
    passed: list[Tensor] | None = [] if inside else None
    encoded, frames = model.encoder(batch.features, batch.lengths, context, passed)
    log_probs, rows = model.ctc(encoded), frames * model.ctc.rate
    losses["ctc"] = _ctc(log_probs, batch.targets, batch.target_lengths, rows)
    if weights.consistency > 0:
        losses["consistency"] = _consistency(log_probs, batch.target_lengths, rows)
    if weights.phone_ctc > 0 and model.phones is not None:
        heard, sounds = model.phones(encoded), batch.pronounced_lengths
        losses["phone_ctc"] = _ctc(heard, batch.pronounced, sounds, rows)
        if weights.consistency > 0:
            losses["consistency"] = losses["consistency"] + _consistency(heard, sounds, rows)
    middle = passed[(len(passed) - 1) // 2] if passed else encoded
    if weights.intermediate > 0:
        losses["intermediate"] = _ctc(model.ctc(middle), batch.targets, batch.target_lengths, rows)
        if weights.phone_ctc > 0 and model.phones is not None:
            sounds = batch.pronounced_lengths
            losses["intermediate"] = losses["intermediate"] + _ctc(model.phones(middle), batch.pronounced, sounds, rows)
    if phones is not None and bool((batch.phones >= 0).any()):
        logits = phones(middle).float().unflatten(2, (PHONES_PER_FRAME, -1))
        losses["phones"] = functional.cross_entropy(logits.flatten(0, 2), batch.phones.flatten(), ignore_index=-100)
    if teacher is not None and batch.teacher is not None:
        losses["teacher"] = _taught(teacher(passed[-2:][0] if passed else encoded), batch.teacher)
    if weights.distil > 0 and batch.teacher is not None:
        told = batch.teacher.reshape(len(batch.teacher), -1, model.config.vocab)
        losses["distil"] = distillation_loss(log_probs, told, weights.distil_temperature)
    lender = aids.lender if weights.distil_transducer > 0 and batch.teacher is not None else None
    if (weights.transducer > 0 or lender is not None) and bool((batch.target_lengths > 0).any()):
        chosen = _share(batch, weights.transducer_share)
        if weights.transducer > 0:
            loss = aids.transducer or FullLoss(FullConfig())
            losses["transducer"] = _transducer(model, batch, encoded, frames, chosen, loss)
        if lender is not None:
            losses |= _distilled(model, batch, encoded, frames, chosen, lender)
    if weights.sequence > 0:
        told = batch.target_lengths > 0  # the others say nothing of what was said, which is not silence
        heard = Heard(log_probs[told], rows[told], encoded[told], frames[told])
        judge = aids.sequence or SequenceLoss(SequenceConfig())
        if bool(told.any()):
            losses["sequence"] = judge(model, heard, batch.targets[told], batch.target_lengths[told])
    losses |= _heads(model, batch, encoded, frames, log_probs, aids)
    if weights.decoder > 0 and bool((batch.tree_lengths > 0).any()):
        losses |= decoder_losses(model, batch, encoded, frames, weights)
    return losses


def _heads(
    model: SpeechModel, batch: Batch, encoded: Tensor, frames: Tensor, log_probs: Tensor, aids: Aids
) -> dict[str, Tensor]:
    """Intent and slots, over the rows whose meaning is known; slots where CTC first says their tokens."""
    losses: dict[str, Tensor] = {}
    meant = model.intent is not None and bool((batch.intent >= 0).any())
    tagged = model.slots is not None and bool((batch.tags >= 0).any())
    states, tokens, counts = None, batch.targets, batch.target_lengths
    if model.fusion is not None and (meant or tagged):
        tokens, counts = model.fusion.spoilt(tokens, counts)
        states = model.fusion(tokens, batch.target_lengths, encoded, frames)
    if model.intent is not None and meant:
        heard, pool = model.intent.step(encoded, frames, model.intent.init_state(len(frames)))
        said = heard if states is None else model.intent.read(pool, states, counts)
        losses["intent"] = label_loss(said, batch.intent, aids.members, smoothing=aids.smoothing)
    if model.slots is not None and tagged:
        rate = model.ctc.rate
        at = ctc_emission_frames(log_probs, batch.targets, frames * rate, batch.target_lengths) // rate
        spoken = encoded.gather(1, at[:, :, None].expand(-1, -1, encoded.shape[2]))
        tags = model.slots(spoken, tokens, batch.target_lengths, states)
        each = (tags.float().flatten(0, 1), batch.tags.flatten())
        losses["slots"] = functional.cross_entropy(*each, ignore_index=-100, label_smoothing=aids.smoothing)
    return losses


def _hears(model: SpeechModel, weights: LossWeights) -> bool:
    """Whether any loss wants to hear the speech as it is."""
    absent = {"intent": model.intent is None, "slots": model.slots is None, "masked": True}
    return any(weight > 0 and not absent.get(name, False) for name, weight in weights.by_loss().items())


def _ctc(log_probs: Tensor, targets: Tensor, lengths: Tensor, frames: Tensor) -> Tensor:
    """Per label, over the rows that say something."""
    loss = ctc_loss(log_probs, targets, frames, lengths, reduction="none")
    spoken = (lengths > 0).float()
    return (loss / lengths.clamp(min=1) * spoken).sum() / spoken.sum().clamp(min=1)


def _taught(heard: Tensor, features: Tensor) -> Tensor:
    """Mean squared error of what is ``heard`` (B,T,D) against a teacher's ``features``, each of its D numbers
    standardised over the batch: 1 is what the mean alone would get, 0 is everything."""
    known = ~features[:, :, 0].isnan()
    target = functional.batch_norm(features[known], None, None, training=True)
    return functional.mse_loss(heard[known].float(), target)


def _consistency(log_probs: Tensor, lengths: Tensor, frames: Tensor) -> Tensor:
    """Per label, over pairs of rows that say something."""
    loss = consistency_loss(log_probs[::2], log_probs[1::2], frames[::2])
    spoken = (lengths[::2] > 0).float()
    return (loss / lengths[::2].clamp(min=1) * spoken).sum() / spoken.sum().clamp(min=1)


def decoder_losses(
    model: SpeechModel, batch: Batch, encoded: Tensor, frames: Tensor, weights: LossWeights
) -> dict[str, Tensor]:
    """Per token, ends included, over the rows whose tree is known and that teach something."""
    assert model.decoder is not None, "a weight for a decoder that the model does not have"
    known, end = batch.tree_lengths > 0, model.config.vocab
    trees, counts, heard, lengths = batch.trees[known], batch.tree_lengths[known], encoded[known], frames[known]
    times = _times(model, heard, lengths, trees, counts) if model.decoder.aligned else None
    lesson = model.decoder.lesson(trees, counts, heard, lengths, end, times)
    per, taught = lesson.lengths.clamp(min=1), (lesson.lengths > 0).sum().clamp(min=1)
    loss = cross_entropy_loss(
        lesson.logits, lesson.targets, lesson.lengths, weights.decoder_smoothing, reduction="none"
    )
    found = {"decoder": (loss / per).sum() / taught}
    if weights.guided > 0:
        found["guided"] = guided_attention_loss(lesson.attention, lesson.lengths, lengths, reduction="sum") / taught
    if weights.quantity > 0:
        real = length_mask(lesson.lengths, lesson.targets.shape[1])
        missing = (1 - lesson.attention.float().sum(2)).masked_fill(~real, 0.0).sum(1)
        found["quantity"] = (missing / per).sum() / taught
    return found


@torch.no_grad()
def _times(model: SpeechModel, encoded: Tensor, frames: Tensor, labels: Tensor, counts: Tensor) -> Tensor:
    """The frame (B,U) in which the model's own CTC first says each label; -1 where it cannot say them all."""
    rate = model.ctc.rate
    path = ctc_alignment(model.ctc(encoded), labels, frames * rate, counts)
    return first_said(path, labels.shape[1]).div(rate, rounding_mode="floor")


def _share(batch: Batch, share: float) -> Tensor:
    """Which rows: a share of those with a transcript (they come in random order), one at least."""
    told = batch.target_lengths > 0
    rows = torch.nonzero((torch.rand(len(told)) < share).to(told.device) & told)[:, 0]
    return rows if len(rows) else torch.nonzero(told)[:1, 0]


def _transducer(
    model: SpeechModel, batch: Batch, encoded: Tensor, frames: Tensor, rows: Tensor, loss: TransducerLoss
) -> Tensor:
    """The transducer loss on these rows, trimmed to their own longest."""
    most_t, most_u = int(frames[rows].max()), max(1, int(batch.target_lengths[rows].max()))
    lengths = batch.target_lengths[rows]
    found: Tensor = loss(model, encoded[rows, :most_t], batch.targets[rows, :most_u], frames[rows], lengths)
    return (found / lengths.clamp(min=1)).mean()


def _distilled(
    model: SpeechModel, batch: Batch, encoded: Tensor, frames: Tensor, rows: Tensor, lender: SpeechModel
) -> dict[str, Tensor]:
    """How far the transducer is from that of ``lender`` on those of these rows whose encoded frames it lent: per label,
    summed over the lattice. No loss where it lent none."""
    assert batch.teacher is not None
    rows = rows[~batch.teacher[rows, 0, 0].isnan()]
    if not len(rows):
        return {}
    most_t, most_u = int(frames[rows].max()), int(batch.target_lengths[rows].max())
    targets, lengths = batch.targets[rows, :most_u], batch.target_lengths[rows]
    with torch.no_grad():
        told = lender.joiner(batch.teacher[rows, :most_t], lender.predictor(targets))
    heard = model.joiner(encoded[rows, :most_t], model.predictor(targets))
    found = lattice_distillation_loss(heard, told, targets, frames[rows], lengths, reduction="none")
    return {"distil_transducer": (found / lengths).mean()}
