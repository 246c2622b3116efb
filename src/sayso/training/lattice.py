"""Which transducer loss a recipe trains with: all logits at once, tile by tile, or a band of the lattice, which a
simple joiner finds or an alignment gives.

The first two have the same value and gradient; the lean one takes a tenth of the memory and needs no more time. The
pruned one (Kuang et al. 2022) runs the joiner on the few labels a frame where a simple joiner, one linear layer on
either side, says the paths are. That one is trained beside and left behind: a checkpoint does not know how it was
trained. The aligned one (Mahadeokar et al. 2021) allows a label near the frame where the model's own CTC hears it.
FastEmit (Yu et al. 2021) works on all.

Shape letters: ``B`` batch, ``T`` frames, ``U`` labels, ``D`` encoder width, ``J`` predictor width.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, Tag
from torch import Tensor, nn

from sayso.core.config import Config, one_of
from sayso.losses import transducer_loss, transducer_loss_lean, transducer_loss_pruned
from sayso.losses.alignment import alignment_band, ctc_alignment, first_said
from sayso.models.assembly import SpeechModel


class _LossConfig(Config):
    fastemit: float = Field(default=0.0, ge=0, allow_inf_nan=False)  # lambda: labels earn 1 + lambda times what is due


class FullConfig(_LossConfig):
    """Exact, all logits at once."""

    kind: Literal["full"] = "full"

    def build(self, model: SpeechModel) -> FullLoss:
        """The loss for ``model``."""
        return FullLoss(self)


class LeanConfig(_LossConfig):
    """Exact, tile by tile."""

    kind: Literal["lean"] = "lean"

    def build(self, model: SpeechModel) -> LeanLoss:
        """The loss for ``model``."""
        return LeanLoss(self)


class PrunedConfig(_LossConfig):
    """Within ``band`` labels a frame; ``simple`` times the simple joiner's own loss is added."""

    kind: Literal["pruned"] = "pruned"
    band: int = Field(default=5, ge=2)
    simple: float = Field(default=0.5, gt=0, allow_inf_nan=False)

    def build(self, model: SpeechModel) -> PrunedLoss:
        """The loss for ``model``, with a simple joiner of its widths."""
        return PrunedLoss(self, model)


class AlignedConfig(_LossConfig):
    """Exact, over the paths that say each label at most ``before`` frames before CTC's best path does and at most
    ``after`` frames behind it (of 80 ms; None: without end). CTC must have learnt to hear already."""

    kind: Literal["aligned"] = "aligned"
    before: int | None = Field(default=2, ge=0)
    after: int | None = Field(default=4, ge=0)

    def build(self, model: SpeechModel) -> AlignedLoss:
        """The loss for ``model``."""
        return AlignedLoss(self)


class FullLoss(nn.Module):
    """``transducer_loss`` of the model's joiner."""

    def __init__(self, config: FullConfig) -> None:
        super().__init__()
        self.config = config

    def forward(self, model: SpeechModel, encoded: Tensor, targets: Tensor, frames: Tensor, labels: Tensor) -> Tensor:
        """Losses (B,) of encoder frames (B,T,D) and targets (B,U), whose real sizes are ``frames`` and ``labels``."""
        logits = model.joiner(encoded, model.predictor(targets))
        return transducer_loss(logits, targets, frames, labels, reduction="none", fastemit_lambda=self.config.fastemit)


class AlignedLoss(nn.Module):
    """``transducer_loss`` of the model's joiner within a band around the alignment by the model's CTC head."""

    def __init__(self, config: AlignedConfig) -> None:
        super().__init__()
        self.config = config

    def forward(self, model: SpeechModel, encoded: Tensor, targets: Tensor, frames: Tensor, labels: Tensor) -> Tensor:
        """Losses (B,), as ``FullLoss``; clips that CTC cannot align are not restricted."""
        c, rate = self.config, model.ctc.rate
        path = ctc_alignment(model.ctc(encoded.detach()), targets, frames * rate, labels)
        times = first_said(path, targets.shape[1]).div(rate, rounding_mode="floor")  # -1 stays -1
        allowed = alignment_band(times, encoded.shape[1], c.before, c.after)
        logits = model.joiner(encoded, model.predictor(targets))
        return transducer_loss(
            logits, targets, frames, labels, reduction="none", fastemit_lambda=c.fastemit, allowed=allowed
        )


class LeanLoss(nn.Module):
    """``transducer_loss_lean`` of the model's joiner."""

    def __init__(self, config: LeanConfig) -> None:
        super().__init__()
        self.config = config

    def forward(self, model: SpeechModel, encoded: Tensor, targets: Tensor, frames: Tensor, labels: Tensor) -> Tensor:
        """Losses (B,), as ``FullLoss``."""
        joiner = model.joiner
        return transducer_loss_lean(
            joiner.project_encoder(encoded),
            joiner.project_predictor(model.predictor(targets)),
            joiner.combine,
            targets,
            frames,
            labels,
            reduction="none",
            fastemit_lambda=self.config.fastemit,
        )


class PrunedLoss(nn.Module):
    """``transducer_loss_pruned`` of the model's joiner, and the simple joiner that shows it where to look."""

    def __init__(self, config: PrunedConfig, model: SpeechModel) -> None:
        super().__init__()
        self.config, vocab = config, model.config.vocab
        self.heard = nn.Linear(model.encoder.width, vocab)
        self.expected = nn.Linear(model.predictor.width, vocab)

    def forward(self, model: SpeechModel, encoded: Tensor, targets: Tensor, frames: Tensor, labels: Tensor) -> Tensor:
        """Losses (B,), as ``FullLoss``, the simple joiner's share included."""
        joiner, predicted = model.joiner, model.predictor(targets)
        return transducer_loss_pruned(
            joiner.project_encoder(encoded),
            joiner.project_predictor(predicted),
            joiner.combine,
            targets,
            frames,
            labels,
            self.config.band,
            reduction="none",
            fastemit_lambda=self.config.fastemit,
            simple=(self.heard(encoded), self.expected(predicted)),
            simple_scale=self.config.simple,
        )


TRANSDUCER_LOSSES = {"full": FullConfig, "lean": LeanConfig, "pruned": PrunedConfig, "aligned": AlignedConfig}
TransducerConfig = Annotated[
    Annotated[FullConfig, Tag("full")]
    | Annotated[LeanConfig, Tag("lean")]
    | Annotated[PrunedConfig, Tag("pruned")]
    | Annotated[AlignedConfig, Tag("aligned")],
    one_of("full"),
]
TransducerLoss = FullLoss | LeanLoss | PrunedLoss | AlignedLoss
