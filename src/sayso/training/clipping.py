"""Gradients of bearable size: a limit on the global norm (Pascanu et al. 2013), and AutoClip.

AutoClip (Seetharaman et al. 2020, arXiv:2007.14469) takes as a limit a percentile of all norms that the run has seen,
the present one included, so that it follows the loss down; the fixed limit stays above it. A gradient that is not
finite is not clipped: that step is to be left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Clipped:
    """What a gradient's norm was, what it was allowed to be, and whether it was finite."""

    norm: float
    limit: float
    finite: bool

    @property
    def cut(self) -> bool:
        """Whether the gradient was made shorter."""
        return self.finite and self.norm > self.limit


class Clipper:
    """Clips to the norm ``limit``, and to the ``percentile`` (0 to 100) of the norms so far where one is given.

    ``history`` is all that it remembers: the finite norms, in order; a step that learns nothing has none.
    """

    def __init__(self, limit: float, percentile: float | None = None) -> None:
        self.limit, self.percentile = limit, percentile
        self.history: list[float] = []

    def __call__(self, parameters: Iterable[Tensor]) -> Clipped:
        """Shorten the gradients of ``parameters`` in place; those without one do not count."""
        learning = [parameter for parameter in parameters if parameter.grad is not None]
        total = torch.nn.utils.get_total_norm([parameter.grad for parameter in learning if parameter.grad is not None])
        norm, limit = float(total), self.limit
        if not np.isfinite(norm):
            return Clipped(norm, limit, False)
        if self.percentile is not None and norm > 0:
            self.history.append(norm)
            limit = min(limit, float(np.percentile(self.history, self.percentile)))
        torch.nn.utils.clip_grads_with_norm_(learning, limit, total)
        return Clipped(norm, limit, True)
