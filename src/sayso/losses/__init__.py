"""Losses: tensors, lengths and pure functions in, a number out. They never see models."""

from sayso.losses.ctc import ctc_loss
from sayso.losses.transducer import transducer_loss

LOSSES = {"ctc": ctc_loss, "transducer": transducer_loss}

__all__ = ["LOSSES", "ctc_loss", "transducer_loss"]
