"""A student's distribution over tokens in every frame, and its teacher's (Hinton et al. 2015, arXiv:1503.02531)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def distillation_loss(log_probs: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """``temperature``^2 KL(teacher || student) at that temperature, in nats and fp32: the mean over known frames.

    ``log_probs`` and ``teacher`` are log-probabilities (B,T,V) of the same frames; a frame whose teacher is NaN is
    unknown. The teacher gets no gradient. CTC says a token in one frame of many, so that both have to say it in the
    same one: the teacher should hear as the student will (a chunk at a time), or have begun as the same network
    (Kurata and Audhkhasi 2018). 0 where no frame is known.
    """
    if log_probs.shape != teacher.shape:
        raise ValueError(f"student {tuple(log_probs.shape)} and teacher {tuple(teacher.shape)} need one shape")
    known = ~teacher[:, :, 0].isnan()
    heard, told = ((x[known].float() / temperature).log_softmax(-1) for x in (log_probs, teacher.detach()))
    total = functional.kl_div(heard, told, reduction="sum", log_target=True)
    return temperature**2 * total / known.sum().clamp(min=1)
