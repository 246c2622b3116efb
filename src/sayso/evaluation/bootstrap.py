"""Percentile bootstrap intervals over utterances (Efron 1979; for WER Bisani & Ney 2004).

Every error rate here is a ratio of two sums over utterances (errors over words, right over asked, 2 TP over 2 TP + FP
+ FN), so a resample costs two sums and no second look at the text; statistics that are no such ratio (AUROC, ECE) take
the general way. Utterances are resampled whole because words within one are not independent. ``N`` utterances, ``R``
resamples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sayso.core.config import Config

Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]
_BLOCK = 2_000_000  # indices drawn at once: bounds memory, and is part of what the seed means


class Estimate(TypedDict):
    """A figure and its interval, as ``evaluate --json`` prints it."""

    value: float
    low: float
    high: float


class BootstrapConfig(Config):
    """``level`` of the two-sided interval; the same ``seed`` gives the same interval."""

    resamples: int = 1000
    level: float = 0.95
    seed: int = 0


def ratio(numerators: ArrayLike, denominators: ArrayLike, config: BootstrapConfig | None = None) -> Estimate | None:
    """sum(numerators) / sum(denominators) over utterances, both (N,); None when nothing was counted."""
    top, bottom = np.asarray(numerators, dtype=np.float64), np.asarray(denominators, dtype=np.float64)
    if top.shape != bottom.shape or top.ndim != 1:
        raise ValueError(f"expected two arrays of one shape (N,), got {top.shape} and {bottom.shape}")
    if top.size == 0 or bottom.sum() <= 0.0:
        return None
    settings = config or BootstrapConfig()
    values = np.concatenate(
        [_quotient(top[index].sum(1), bottom[index].sum(1)) for index in _draws(top.size, settings)]
    )
    return _estimate(float(top.sum() / bottom.sum()), values, settings)


def general(statistic: Callable[[Ints], float], n: int, config: BootstrapConfig | None = None) -> Estimate | None:
    """``statistic`` of utterance indices (N,), repeats included; NaN means undefined there. None when undefined as a
    whole.
    """
    value = statistic(np.arange(n)) if n else float("nan")
    if np.isnan(value):
        return None
    settings = config or BootstrapConfig()
    values = np.array([statistic(row) for index in _draws(n, settings) for row in index])
    return _estimate(float(value), values, settings)


def rate(events: int, exposure: float, level: float = 0.95) -> Estimate | None:
    """``events`` in ``exposure`` (hours, say) with the exact Poisson interval (Garwood 1936); None without exposure.

    No event in an hour does not say that there are none: a bootstrap of zeros would, this gives 0 to 3.7.
    """
    if exposure <= 0.0:
        return None
    tail = (1.0 - level) / 2.0
    low = 0.0 if events == 0 else _poisson_mean(events - 1, 1.0 - tail)
    return {
        "value": events / exposure,
        "low": low / exposure,
        "high": _poisson_mean(events, tail) / exposure,
    }


def _poisson_mean(most: int, chance: float) -> float:
    """The mean at which ``most`` events or fewer have this ``chance``, by bisection: the chance falls as it grows."""
    low, high = 0.0, most + 10.0 * (most + 10.0) ** 0.5
    counts = np.arange(most + 1)
    logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, most + 1)))])
    for _ in range(100):
        middle = (low + high) / 2.0
        enough = float(np.exp(counts * np.log(middle) - middle - logs).sum()) > chance
        low, high = (middle, high) if enough else (low, middle)
    return (low + high) / 2.0


def _draws(n: int, config: BootstrapConfig) -> Iterator[Ints]:
    """Blocks of (r, N) indices drawn with replacement, R rows in all."""
    rng, left, rows = np.random.default_rng(config.seed), config.resamples, max(1, _BLOCK // n)
    while left > 0:
        yield rng.integers(0, n, (min(rows, left), n))
        left -= rows


def _quotient(top: Doubles, bottom: Doubles) -> Doubles:
    result: Doubles = np.full(top.shape, np.nan)
    np.divide(top, bottom, out=result, where=bottom > 0.0)
    return result


def _estimate(value: float, resampled: Doubles, config: BootstrapConfig) -> Estimate:
    tail = (1.0 - config.level) / 2.0
    known = resampled[~np.isnan(resampled)]
    low, high = np.quantile(known, [tail, 1.0 - tail]) if known.size else (value, value)
    return {"value": value, "low": float(low), "high": float(high)}
