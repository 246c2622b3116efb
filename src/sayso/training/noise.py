"""Variational weight noise (Graves 2011; in transducers Graves et al. 2013): the gradient of a step is that at weights
moved by Gaussian noise, and is applied to the weights as they are.

Weights that such noise does not harm need few bits to write down, hence the name; it works against learning a small
corpus by heart.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from pydantic import Field
from torch import Tensor

from sayso.core.config import Config


class WeightNoiseConfig(Config):
    """Noise of standard deviation ``std`` (0: none; 0.075 in the paper) from step ``after`` on, anew for every step, on
    the learning parameters whose names begin with one of ``only`` (none named: all)."""

    std: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    after: int = Field(default=0, ge=0)
    only: tuple[str, ...] = ()


@contextmanager
def noisy(parameters: Sequence[Tensor], std: float, seed: int) -> Iterator[None]:
    """Inside the block the ``parameters`` carry Gaussian noise, a function of ``seed``; after it they are, bit for bit,
    what they were. Gradients that are computed inside stay."""
    generator = torch.Generator().manual_seed(seed)
    own = [parameter.detach().clone() for parameter in parameters]
    try:
        with torch.no_grad():
            for parameter in parameters:
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.add_(noise.to(parameter), alpha=std)
        yield
    finally:
        with torch.no_grad():
            for parameter, value in zip(parameters, own, strict=True):
                parameter.copy_(value)
