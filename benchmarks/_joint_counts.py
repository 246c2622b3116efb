"""What the tables of ``joint.py`` count: numerators and denominators of every figure, by recording."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sayso.evaluation import metrics
from sayso.evaluation.bootstrap import Estimate, general
from sayso.evaluation.evaluate import Pair
from sayso.text.normalise import normalise

Doubles = NDArray[np.float64]
Counts = dict[str, tuple[Doubles, Doubles]]  # by metric, numerators and denominators (N,) of the recordings


def added(seeds: Sequence[Sequence[Pair]]) -> Counts:
    """Counts of all seeds, added up by recording."""
    found: Counts = {}
    for pairs in seeds:
        for metric, (top, bottom) in counted(pairs).items():
            before = found.get(metric, (0.0, 0.0))
            found[metric] = before[0] + top, before[1] + bottom
    return found


def counted(pairs: Sequence[Pair]) -> Counts:
    """Numerators and denominators of every figure by recording; figures of words only where both sides have any."""
    one = np.ones(len(pairs))
    rows: dict[str, list[tuple[float, float]]] = {"slot_f1": [], "slu_f1": [], "wer": []}
    for example, result in pairs:
        slots = metrics.understood(result)[1]
        for name, count in (("slot_f1", metrics.slot_counts), ("slu_f1", metrics.slu_counts)):
            f = count(example.slots or (), slots)
            rows[name].append((2 * f.tp, 2 * f.tp + f.fp + f.fn))
        edits = metrics.word_errors(normalise(example.text or ""), normalise(result.text))
        rows["wer"].append((edits.errors, edits.length))
    found: Counts = {
        "command_acceptance": (np.array([metrics.command_right(*pair) for pair in pairs], float), one),
        "intent_accuracy": (np.array([metrics.intent_right(*pair) for pair in pairs], float), one),
    }
    for name, each in rows.items():
        if name != "wer" or any(result.text and example.text for example, result in pairs):
            found[name] = np.array([top for top, _ in each], float), np.array([bottom for _, bottom in each], float)
    return found


def quotient(one: tuple[Doubles, Doubles], other: tuple[Doubles, Doubles]) -> Estimate | None:
    """A figure over another's, both ratios of sums over the same recordings; None where the other is 0."""

    def statistic(index: NDArray[np.int64]) -> float:
        sums = [float(counts[index].sum()) for counts in (*one, *other)]
        return sums[0] / sums[1] / (sums[2] / sums[3]) if sums[1] and sums[2] and sums[3] else float("nan")

    return general(statistic, len(one[0]))
