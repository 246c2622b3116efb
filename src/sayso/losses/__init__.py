"""Losses: tensors, lengths and pure functions in, a number out. They never see models."""

from sayso.losses.consistency import consistency_loss
from sayso.losses.cross_entropy import cross_entropy_loss
from sayso.losses.ctc import ctc_loss, ctc_loss_lattice
from sayso.losses.distillation import distillation_loss, lattice_distillation_loss
from sayso.losses.guided import guided_attention_loss
from sayso.losses.labels import label_loss
from sayso.losses.lean import transducer_loss_lean
from sayso.losses.masked import masked_prediction_loss
from sayso.losses.pruned import transducer_loss_pruned, transducer_loss_simple
from sayso.losses.sequence import expected_errors_loss
from sayso.losses.transducer import transducer_loss

LOSSES = {
    "cross_entropy": cross_entropy_loss,
    "ctc": ctc_loss,
    "ctc_lattice": ctc_loss_lattice,
    "transducer": transducer_loss,
    "transducer_lean": transducer_loss_lean,
    "transducer_pruned": transducer_loss_pruned,
    "transducer_simple": transducer_loss_simple,
}

__all__ = [
    "LOSSES",
    "consistency_loss",
    "cross_entropy_loss",
    "ctc_loss",
    "ctc_loss_lattice",
    "distillation_loss",
    "expected_errors_loss",
    "guided_attention_loss",
    "label_loss",
    "lattice_distillation_loss",
    "masked_prediction_loss",
    "transducer_loss",
    "transducer_loss_lean",
    "transducer_loss_pruned",
    "transducer_loss_simple",
]
