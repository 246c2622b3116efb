"""What decisions cost, per utterance: as they were taken, had all been accepted, and at every threshold.

The units are those of ``nlu.calibration.Costs`` (Chow 1970): doing the wrong thing, refusing what was understood
rightly, asking back. A command of which nothing was guessed counts as refused, however one decides; refusing a guess
that is wrong costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sayso.evaluation.evaluate import Pair, confidences, guessed, judged_of
from sayso.nlu.calibration import Costs

Doubles = NDArray[np.float64]


class Priced(NamedTuple):
    """One threshold: what is at least this sure is answered, ``coverage`` of all, the rest refused; ``cost`` is the
    mean."""

    coverage: float
    cost: float
    confidence: float


def decided(pairs: Sequence[Pair], costs: Costs) -> Doubles:
    """The cost (N,) of every pair with an expectation, as it was decided."""
    accept, refuse = _both(pairs, costs)
    made = [result.decision for _, result in judged_of(pairs)]
    asked = np.array([decision == "clarify" for decision in made], dtype=bool)
    refused = np.array([decision == "reject" for decision in made], dtype=bool)
    return np.where(asked, costs.clarify, np.where(refused, refuse, accept))


def accepted(pairs: Sequence[Pair], costs: Costs) -> Doubles:
    """The cost (N,) of every pair with an expectation, had each guess been accepted."""
    return _both(pairs, costs)[0]


def cost_coverage(pairs: Sequence[Pair], costs: Costs) -> list[Priced]:
    """Mean costs by falling threshold, one row for each confidence, from nothing answered on; empty where the model is
    not calibrated."""
    scores = confidences(pairs)[0]
    if not scores.size:
        return []
    accept, refuse = _both(pairs, costs)
    levels, place = np.unique(-scores, return_inverse=True)
    counts = np.cumsum(np.bincount(place))
    totals = refuse.sum() + np.cumsum(np.bincount(place, accept - refuse))
    rows = zip(counts / scores.size, totals / scores.size, -levels, strict=True)
    return [Priced(0.0, float(refuse.mean()), 1.0), *(Priced(*map(float, row)) for row in rows)]


def _both(pairs: Sequence[Pair], costs: Costs) -> tuple[Doubles, Doubles]:
    """What accepting and what refusing costs (N,)."""
    judged = judged_of(pairs)
    made = np.array([r.intent is not None or bool(r.alternatives) for _, r in judged], dtype=bool)
    right = np.array([not example.negative and guessed(example, result) for example, result in judged], dtype=bool)
    lost = np.array([not example.negative for example, _ in judged], dtype=bool) & ~made
    refuse = np.where(right | lost, costs.false_reject, 0.0)
    return np.where(made, np.where(right, 0.0, costs.false_accept), refuse), refuse
