"""What is counted: errors in words and letters, meaning, confidence. Counting only; intervals are ``bootstrap``'s
work.

Each function takes one pair of reference and hypothesis and returns counts that may be summed over utterances.
Alignment is rapidfuzz's Levenshtein (the one jiwer uses). A slot is right when name and value are exactly equal:
``sixteen ounce`` is not ``16 ounce``. SLU-F1 follows SLURP (Bastianelli et al. 2020, arXiv:2011.13205, sec. 5 and the
official script).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from rapidfuzz.distance import Levenshtein

from sayso.core.result import Example, Result, Slot


class EditCounts(NamedTuple):
    """Alignment of a hypothesis with a reference of ``hits + substitutions + deletions`` units."""

    hits: int
    substitutions: int
    deletions: int
    insertions: int

    @property
    def errors(self) -> int:
        """S + D + I."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def length(self) -> int:
        """Units in the reference."""
        return self.hits + self.substitutions + self.deletions


class F1Counts(NamedTuple):
    """True and false positives and false negatives; SLU-F1 counts in fractions."""

    tp: float
    fp: float
    fn: float


def edit_counts(reference: Sequence[Hashable], hypothesis: Sequence[Hashable]) -> EditCounts:
    """Minimal edits from ``reference`` to ``hypothesis``; words as a list, letters as a string."""
    kinds: Counter[str] = Counter()
    for operation in Levenshtein.opcodes(reference, hypothesis):
        source, target = operation.src_end - operation.src_start, operation.dest_end - operation.dest_start
        kinds[operation.tag] += max(source, target)
    return EditCounts(kinds["equal"], kinds["replace"], kinds["delete"], kinds["insert"])


def word_errors(reference: str, hypothesis: str) -> EditCounts:
    """Edits between words, split at white space."""
    return edit_counts(reference.split(), hypothesis.split())


def word_hits(reference: str, hypothesis: Sequence[str]) -> list[bool]:
    """For each word of ``hypothesis``, whether it is aligned with an equal word of ``reference``."""
    hits = [False] * len(hypothesis)
    for step in Levenshtein.opcodes(reference.split(), list(hypothesis)):
        if step.tag == "equal":
            hits[step.dest_start : step.dest_end] = [True] * (step.dest_end - step.dest_start)
    return hits


def char_errors(reference: str, hypothesis: str) -> EditCounts:
    """Edits between characters, spaces counted, as jiwer's CER does."""
    return edit_counts(" ".join(reference.split()), " ".join(hypothesis.split()))


def understood(result: Result) -> tuple[str | None, tuple[Slot, ...]]:
    """The intent and slots that count: none after a rejection; a question back (``clarify``) is still understood."""
    if result.decision == "reject" or result.intent is None:
        return None, ()
    return result.intent.name, result.slots


def intent_right(example: Example, result: Result) -> bool:
    """The intent is the expected one; a negative is right when, and only when, it was rejected."""
    return result.decision == "reject" if example.negative else understood(result)[0] == example.intent


def command_right(example: Example, result: Result) -> bool:
    """Intent and every slot value exactly right, nothing missing and nothing added."""
    intent, slots = understood(result)
    return intent is not None and intent == example.intent and same_slots(example.slots or (), slots)


def same_slots(gold: Sequence[Slot], predicted: Sequence[Slot]) -> bool:
    """Every value exactly right, nothing missing and nothing added."""
    return _bag(gold) == _bag(predicted)


def slot_counts(gold: Sequence[Slot], predicted: Sequence[Slot]) -> F1Counts:
    """Multiset match of exact (name, value)."""
    common = sum((_bag(gold) & _bag(predicted)).values())
    return F1Counts(common, len(predicted) - common, len(gold) - common)


def distance_counts(gold: Sequence[Slot], predicted: Sequence[Slot], unit: Literal["word", "char"]) -> F1Counts:
    """SLURP's word or character counts.

    Each predicted slot, in the order written, takes among the gold slots of its name not yet taken the one at the least
    distance d (the first of equals): TP + 1, FP + d, FN + d. What finds no partner counts 1. Distances: word error
    rate (uncapped: three words for one are 3) and Levenshtein over the longer.
    """
    distance = _word_distance if unit == "word" else _char_distance
    tp = fp = fn = 0.0
    left = list(gold)
    for slot in predicted:
        same = [index for index, item in enumerate(left) if item.name == slot.name]
        rivals = [(distance(left[index].value, slot.value), index) for index in same]
        if not rivals:
            fp += 1.0
            continue
        cost, index = min(rivals)
        left.pop(index)
        tp, fp, fn = tp + 1.0, fp + cost, fn + cost
    return F1Counts(tp, fp, fn + len(left))


def slu_counts(gold: Sequence[Slot], predicted: Sequence[Slot]) -> F1Counts:
    """SLURP's word and character counts, summed."""
    words, chars = distance_counts(gold, predicted, "word"), distance_counts(gold, predicted, "char")
    return F1Counts(words.tp + chars.tp, words.fp + chars.fp, words.fn + chars.fn)


def ece(confidence: ArrayLike, correct: ArrayLike, bins: int = 15) -> float:
    """Expected calibration error over bins of equal mass (Guo 2017; Nixon et al. 2019, arXiv:1904.01685); NaN without
    data.

    Equal confidences never part; fewer than ten examples a bin would measure noise, so small sets get fewer bins.
    """
    scores, right = np.asarray(confidence, dtype=np.float64), np.asarray(correct, dtype=np.float64)
    if scores.size == 0:
        return float("nan")
    place = _places(scores, bins)
    return float(np.abs(np.bincount(place, right) - np.bincount(place, scores)).sum() / scores.size)


class Bin(NamedTuple):
    """One bin of a reliability diagram: means over its ``size`` examples."""

    confidence: float
    accuracy: float
    size: int


def reliability(confidence: ArrayLike, correct: ArrayLike, bins: int = 15) -> list[Bin]:
    """Equal-mass bins in rising confidence."""
    scores, right = np.asarray(confidence, dtype=np.float64), np.asarray(correct, dtype=np.float64)
    if scores.size == 0:
        return []
    place = _places(scores, bins)
    sizes, sure, hits = np.bincount(place), np.bincount(place, scores), np.bincount(place, right)
    return [Bin(float(sure[i] / sizes[i]), float(hits[i] / sizes[i]), int(sizes[i])) for i in np.flatnonzero(sizes)]


def brier(confidence: ArrayLike, correct: ArrayLike) -> float:
    """Mean squared distance of confidence from right (1) or wrong (0) (Brier 1950): 0 is best; NaN without data."""
    scores, right = np.asarray(confidence, dtype=np.float64), np.asarray(correct, dtype=np.float64)
    return float(np.mean((scores - right) ** 2)) if scores.size else float("nan")


def nlls(confidence: ArrayLike, correct: ArrayLike) -> NDArray[np.float64]:
    """The negative log-likelihood (N,) of each outcome; confidences of 0 and 1 are moved inside by 1e-6."""
    scores, right = np.asarray(confidence, dtype=np.float64), np.asarray(correct, dtype=bool)
    inside = np.clip(scores, 1e-6, 1.0 - 1e-6)
    return -np.where(right, np.log(inside), np.log1p(-inside))


class Kept(NamedTuple):
    """One point of a risk-coverage curve: keeping only what is at least this sure answers ``coverage`` of all
    utterances, and ``risk`` of those answers are wrong.
    """

    coverage: float
    risk: float
    confidence: float


def risk_coverage(confidence: ArrayLike, correct: ArrayLike) -> list[Kept]:
    """The surest first (El-Yaniv & Wiener 2010); one point for each confidence, so equal ones are kept together."""
    scores, right = np.asarray(confidence, dtype=np.float64), np.asarray(correct, dtype=bool)
    levels, place = np.unique(-scores, return_inverse=True)
    kept, wrong = np.cumsum(np.bincount(place)), np.cumsum(np.bincount(place, ~right))
    rows = zip(kept / max(scores.size, 1), wrong / kept, -levels, strict=True)
    return [Kept(float(coverage), float(risk), float(level)) for coverage, risk, level in rows]


def aurc(confidence: ArrayLike, correct: ArrayLike) -> float:
    """Area under the risk-coverage curve: the mean over k of the risk of the k surest (Geifman et al. 2019,
    arXiv:1805.08206), equal confidences in random order, which is its expectation. NaN without data.
    """
    scores, right = np.asarray(confidence, dtype=np.float64), np.asarray(correct, dtype=bool)
    if scores.size == 0:
        return float("nan")
    _, place = np.unique(-scores, return_inverse=True)
    sizes, errors = np.bincount(place), np.bincount(place, ~right)
    share = np.repeat(errors / sizes, sizes)  # what one more of its equals is expected to cost
    return float(np.mean(np.cumsum(share) / np.arange(1, scores.size + 1)))


def biased_word_errors(reference: str, hypothesis: str, biased: Collection[str]) -> tuple[EditCounts, EditCounts]:
    """The word errors in two: of all other words (U-WER), and of the words ``biased`` (B-WER) (Le et al. 2021,
    arXiv:2104.02194). A reference word decides for itself, an inserted word by what it is.
    """
    gold, got = reference.split(), hypothesis.split()
    kinds: tuple[Counter[str], Counter[str]] = (Counter(), Counter())
    for step in Levenshtein.opcodes(gold, got):
        inserted = step.tag == "insert"
        for word in got[step.dest_start : step.dest_end] if inserted else gold[step.src_start : step.src_end]:
            kinds[word in biased][step.tag] += 1
    unbiased, chosen = (EditCounts(k["equal"], k["replace"], k["delete"], k["insert"]) for k in kinds)
    return unbiased, chosen


def auroc(positive: ArrayLike, negative: ArrayLike) -> float:
    """P(a positive scores above a negative), ties half: the rank statistic (Mann & Whitney 1947), exact. NaN if one is
    empty.
    """
    high, low = np.asarray(positive, dtype=np.float64), np.sort(np.asarray(negative, dtype=np.float64))
    if high.size == 0 or low.size == 0:
        return float("nan")
    wins: NDArray[np.int64] = np.searchsorted(low, high, side="left") + np.searchsorted(low, high, side="right")
    return float(wins.sum() / (2.0 * high.size * low.size))


def _places(scores: NDArray[np.float64], bins: int) -> NDArray[np.int64]:
    """The equal-mass bin of every score (N > 0); equal scores share one."""
    count = min(bins, max(1, scores.size // 10))
    ordered = np.sort(scores)
    edges = ordered[np.arange(1, count) * scores.size // count]
    return np.searchsorted(edges, scores, side="right").astype(np.int64)


def _bag(slots: Sequence[Slot]) -> Counter[tuple[str, str]]:
    return Counter((slot.name, slot.value) for slot in slots)


def _word_distance(gold: str, predicted: str) -> float:
    counts = word_errors(gold, predicted)
    return counts.errors / counts.length if counts.length else float(counts.errors > 0)


def _char_distance(gold: str, predicted: str) -> float:
    return float(Levenshtein.normalized_distance(gold, predicted))
