"""How hard a clip is: how long, how noisy, or what it costs the model as it is.

Noise is judged blindly, by how far loud frames stand out of quiet ones, so that it works for recordings that nobody
measured and for copies that were mixed. Loss is that of the network itself when a stage begins (bootstrapped; Hacohen
and Weinshall 2019, arXiv:1904.03626).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from sayso.losses import ctc_loss
from sayso.models.assembly import SpeechModel
from sayso.training.batches import Floats, Item, collate
from sayso.training.curriculum import Doubles

_TOGETHER = 16  # clips judged at a time


def lengths(items: Sequence[Item]) -> Doubles:
    """Frames of 10 ms (N,)."""
    return np.asarray([item.frames for item in items], np.float64)


def noisiness(items: Sequence[Item], features: Callable[[Item], Floats]) -> Doubles:
    """(N,): minus the dB by which the loud frames of each clip stand out, its 95th over its 10th percentile."""
    return np.asarray([-contrast_db(features(item)) for item in items], np.float64)


def contrast_db(log_mel: Floats) -> float:
    """How far the loud frames of natural-log energies (T,F) stand out of the quiet ones."""
    power = np.log10(np.exp(log_mel.astype(np.float64)).mean(1))
    loud, quiet = np.percentile(power, (95, 10))
    return float(10 * (loud - quiet))


@torch.no_grad()
def clip_losses(model: SpeechModel, items: Sequence[Item], features: Callable[[Item], Floats]) -> Doubles:
    """CTC loss per label (N,) of every clip in the model's streaming context, without augmentation; a clip whose labels
    do not fit is the hardest there is."""
    model.eval()
    found = np.empty(len(items))
    order = sorted(range(len(items)), key=lambda i: items[i].frames)
    for start in range(0, len(order), _TOGETHER):
        rows = order[start : start + _TOGETHER]
        batch = collate([features(items[i]) for i in rows], [items[i] for i in rows])
        batch = batch.to(next(model.parameters()).device)
        encoded, frames = model.encoder(batch.features, batch.lengths)
        sizes = (batch.targets, frames * model.ctc.rate, batch.target_lengths)
        losses = ctc_loss(model.ctc(encoded), *sizes, reduction="none", zero_infinity=False)
        found[rows] = (losses / batch.target_lengths.clamp(min=1)).double().cpu().numpy()
    return found
