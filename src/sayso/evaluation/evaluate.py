"""All headline figures of one condition: what ``sayso evaluate --json`` prints, in its order.

A figure is None where it does not apply: no transcripts, no negatives, no calibrated confidence. Texts are compared in
the recogniser's own spelling (``text.normalise``), so that "21" and "twenty one" are one thing on both sides.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from sayso.core.result import Example, Result
from sayso.evaluation import metrics
from sayso.evaluation.bootstrap import BootstrapConfig, Estimate, Ints, general, ratio
from sayso.evaluation.talkers import in_company
from sayso.text.normalise import normalise

Pair = tuple[Example, Result]
FIGURES = (
    "wer",
    "cer",
    "intent_accuracy",
    "slot_f1",
    "slu_f1",
    "command_acceptance",
    "ece",
    "rejection_auroc",
    "rtf",
)
Figures = dict[str, int | Estimate | None]


def evaluate(pairs: Sequence[Pair], bootstrap: BootstrapConfig | None = None) -> Figures:
    """``n`` and ``FIGURES``, each with a bootstrap interval over utterances, or None.

    ``command_acceptance`` is over commands (an expected intent), ``intent_accuracy`` over commands and negatives,
    ``slot_f1`` and ``slu_f1`` over both where slots are known. ``ece`` and ``rejection_auroc`` use ``confidence_of``.
    """
    judged = judged_of(pairs)
    figures: Figures = ratios(pairs, bootstrap)
    figures |= {"ece": _ece(judged, bootstrap), "rejection_auroc": _rejection(judged, bootstrap)}
    return {"n": figures["n"]} | {name: figures[name] for name in FIGURES}


def transcribed(pairs: Sequence[Pair]) -> list[Pair]:
    """Those whose text is known. Utterances of recordings in which several talk are not among them: what was heard
    there answers for all of them (``talkers.company_errors``)."""
    company = in_company([example for example, _ in pairs])
    return [pair for pair in pairs if pair[0].text is not None and pair[0].audio not in company]


def compared(example: Example, result: Result) -> tuple[str, str]:
    """What was said and what was heard, in one spelling."""
    return normalise(example.text or ""), normalise(result.text)


def ratios(pairs: Sequence[Pair], bootstrap: BootstrapConfig | None = None) -> Figures:
    """``n`` and those of ``FIGURES`` that are ratios of counts: quick enough for many groups of utterances; beside them
    ``overconfidence``, the mean confidence less the share of right guesses."""
    texts = [compared(*pair) for pair in transcribed(pairs)]
    judged = judged_of(pairs)
    commands = [pair for pair in judged if not pair[0].negative and pair[0].slots is not None]
    slotted = [pair for pair in judged if pair[0].negative or pair[0].slots is not None]
    right = [metrics.intent_right(*pair) for pair in judged]
    accepted = [metrics.command_right(*pair) for pair in commands]
    scores, sure, _ = confidences(pairs)
    timed = [(r.timing.rtf * r.timing.audio_s, r.timing.audio_s) for _, r in pairs if r.timing.rtf is not None]
    return {
        "n": len(pairs),
        "wer": _errors([metrics.word_errors(*text) for text in texts], bootstrap),
        "cer": _errors([metrics.char_errors(*text) for text in texts], bootstrap),
        "intent_accuracy": ratio(right, np.ones(len(right)), bootstrap),
        "slot_f1": _f1(slotted, metrics.slot_counts, bootstrap),
        "slu_f1": _f1(slotted, metrics.slu_counts, bootstrap),
        "command_acceptance": ratio(accepted, np.ones(len(accepted)), bootstrap),
        "rtf": ratio([item[0] for item in timed], [item[1] for item in timed], bootstrap),
        "overconfidence": ratio(scores - sure, np.ones(scores.size), bootstrap),
    }


def judged_of(pairs: Sequence[Pair]) -> list[Pair]:
    """Those with an expectation: commands and negatives."""
    return [pair for pair in pairs if pair[0].negative or pair[0].intent is not None]


def f1(counts: Sequence[metrics.F1Counts], bootstrap: BootstrapConfig | None = None) -> Estimate | None:
    """Micro F1 of counts (N,), one each utterance: 2 TP over 2 TP + FP + FN; None when nothing was counted."""
    return ratio([2 * item.tp for item in counts], [2 * item.tp + item.fp + item.fn for item in counts], bootstrap)


def confidence_of(result: Result) -> float | None:
    """The calibrated confidence of the best guess, also of one that was rejected; None when uncalibrated.

    A rejected result carries its guess as first alternative, whose ``score`` is the natural log of its confidence.
    Without a guess (silence) the confidence is 0.
    """
    if result.intent is not None:
        return result.intent.confidence
    if result.decision == "reject":
        return math.exp(min(0.0, result.alternatives[0].score)) if result.alternatives else 0.0
    return None


def confidences(pairs: Sequence[Pair]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For every pair with an expectation: confidence (N,), whether the guess is right (N,), whether it is a command
    (N,). Right means what the confidence promises: the intent and, where they are known, all slot values.

    Empty when any intent in ``pairs`` has no confidence, or when none has one: then the model is not calibrated, and
    rejections alone say nothing.
    """
    judged = judged_of(pairs)
    known = [result.intent.confidence for _, result in judged if result.intent is not None]
    if not known or any(value is None for value in known):
        judged = []
    scores = np.array([confidence_of(result) or 0.0 for _, result in judged])
    right = np.array([not example.negative and guessed(example, result) for example, result in judged], dtype=bool)
    return scores, right, np.array([not example.negative for example, _ in judged], dtype=bool)


def guessed(example: Example, result: Result) -> bool:
    """Whether the best guess is right, also one that was rejected."""
    if result.intent is not None:
        guess = (result.intent.name, result.slots)
    elif result.alternatives:
        guess = (result.alternatives[0].intent or "", result.alternatives[0].slots)
    else:
        return False
    return guess[0] == example.intent and (example.slots is None or metrics.same_slots(example.slots, guess[1]))


def _errors(counts: Sequence[metrics.EditCounts], bootstrap: BootstrapConfig | None) -> Estimate | None:
    return ratio([item.errors for item in counts], [item.length for item in counts], bootstrap)


def _f1(
    pairs: Sequence[Pair], count: Callable[..., metrics.F1Counts], bootstrap: BootstrapConfig | None
) -> Estimate | None:
    return f1([count(example.slots or (), metrics.understood(result)[1]) for example, result in pairs], bootstrap)


def _ece(pairs: Sequence[Pair], bootstrap: BootstrapConfig | None) -> Estimate | None:
    scores, right, _ = confidences(pairs)

    def statistic(index: Ints) -> float:
        return metrics.ece(scores[index], right[index])

    return general(statistic, scores.size, bootstrap)


def _rejection(pairs: Sequence[Pair], bootstrap: BootstrapConfig | None) -> Estimate | None:
    scores, _, command = confidences(pairs)

    def statistic(index: Ints) -> float:
        chosen, positive = scores[index], command[index]
        return metrics.auroc(chosen[positive], chosen[~positive])

    return general(statistic, scores.size, bootstrap)
