"""Metrics against jiwer, brute force and published golden values."""

from __future__ import annotations

import itertools

import jiwer
import numpy as np
import pytest

from sayso.core.result import Example, Frame, Intent, Result, Slot
from sayso.evaluation.metrics import (
    auroc,
    char_errors,
    command_right,
    ece,
    intent_right,
    reliability,
    slot_counts,
    slu_counts,
    word_errors,
    word_hits,
)


def _slots(*pairs: tuple[str, str]) -> tuple[Slot, ...]:
    return tuple(Slot(name=name, value=value) for name, value in pairs)


def _accept(intent: str, *pairs: tuple[str, str], decision: str = "accept") -> Result:
    meant = Frame(intent=Intent(name=intent), slots=_slots(*pairs))
    return Result(intent=meant.intent, slots=meant.slots, frames=(meant,), decision=decision)  # type: ignore[arg-type]


def _random_texts(n: int, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    words = np.array(["a", "an", "the", "lamp", "lamps", "off", "of", "kitchen"])
    return [" ".join(rng.choice(words, rng.integers(1, 9))) for _ in range(n)]


def test_ten_thousand_pairs_equal_jiwer() -> None:
    references, hypotheses = _random_texts(10_000, 1), _random_texts(10_000, 2)
    ours_w = [word_errors(*pair) for pair in zip(references, hypotheses, strict=True)]
    ours_c = [char_errors(*pair) for pair in zip(references, hypotheses, strict=True)]
    words, chars = jiwer.process_words(references, hypotheses), jiwer.process_characters(references, hypotheses)
    for ours, theirs in ((ours_w, words), (ours_c, chars)):
        total = np.array(ours).sum(0)
        assert tuple(total) == (theirs.hits, theirs.substitutions, theirs.deletions, theirs.insertions)
    assert sum(c.errors for c in ours_w) / sum(c.length for c in ours_w) == pytest.approx(words.wer, abs=1e-12)
    assert sum(c.errors for c in ours_c) / sum(c.length for c in ours_c) == pytest.approx(chars.cer, abs=1e-12)
    for index in range(0, 10_000, 100):
        assert ours_w[index].errors / ours_w[index].length == jiwer.wer(references[index], hypotheses[index])


def test_empty_texts() -> None:
    assert word_hits("turn the light on", ["turn", "light", "on"]) == [True, True, True]
    assert word_hits("a b c", ["x", "b", "c", "y"]) == [False, True, True, False]
    assert word_hits("", ["a"]) == [False] and word_hits("a", []) == []
    assert word_errors("", "a b") == (0, 0, 0, 2)
    assert word_errors("a b", "") == (0, 0, 2, 0)
    assert word_errors("", "") == (0, 0, 0, 0)


def test_slurp_golden() -> None:
    tp, fp, fn = slu_counts(_slots(("date", "next friday")), _slots(("date", "friday")))
    assert 2 * tp / (2 * tp + fp + fn) == pytest.approx(0.6769, abs=5e-5)
    assert (tp, fp, fn) == pytest.approx((2.0, 0.5 + 5 / 11, 0.5 + 5 / 11))


def test_slurp_unmatched_and_nearest() -> None:
    assert slu_counts(_slots(("date", "x")), _slots(("time", "x"))) == (0.0, 2.0, 2.0)
    gold = _slots(("item", "milk"), ("item", "bread"))
    assert slu_counts(gold, _slots(("item", "bread"))) == (2.0, 0.0, 2.0)
    assert slu_counts((), ()) == (0.0, 0.0, 0.0)
    # word distance is not capped: three words for one are two insertions and a substitution
    assert slu_counts(_slots(("item", "a")), _slots(("item", "b c d")))[1] == pytest.approx(3.0 + 1.0)


def test_slot_counts_are_multisets() -> None:
    gold = _slots(("item", "milk"), ("item", "milk"), ("area", "hall"))
    assert slot_counts(gold, _slots(("item", "milk"), ("area", "kitchen"))) == (1, 1, 2)
    assert slot_counts(gold, tuple(reversed(gold))) == (3, 0, 0)


def test_command_and_intent() -> None:
    example = Example(audio="a", intent="lock", slots=_slots(("door", "front"), ("when", "now")))
    right = (("when", "now"), ("door", "front"))
    assert command_right(example, _accept("lock", *right))
    assert command_right(example, _accept("lock", *right, decision="clarify"))
    assert not command_right(example, _accept("lock", *right, decision="reject"))
    assert not command_right(example, _accept("unlock", *right))
    assert not command_right(example, _accept("lock", right[0]))
    assert not command_right(example, _accept("lock", *right, ("x", "y")))
    assert not command_right(example, _accept("lock", ("when", "now"), ("door", "Front")))
    negative = Example(audio="a", negative=True)
    assert intent_right(negative, Result(decision="reject", reason="out_of_domain"))
    assert not intent_right(negative, _accept("lock", decision="clarify"))
    assert not intent_right(example, Result(decision="reject", reason="no_speech"))


def test_auroc_equals_all_pairs_with_ties() -> None:
    rng = np.random.default_rng(0)
    for _ in range(100):
        high = rng.integers(0, 6, rng.integers(1, 15)) / 5
        low = rng.integers(0, 5, rng.integers(1, 15)) / 5
        wins = [1.0 if p > n else 0.5 if p == n else 0.0 for p, n in itertools.product(high, low)]
        assert auroc(high, low) == pytest.approx(np.mean(wins), abs=1e-12)
    assert np.isnan(auroc([], [0.1]))


def test_ece_equals_a_plain_loop_and_keeps_ties_together() -> None:
    rng = np.random.default_rng(7)
    scores = rng.random(150)
    right = rng.random(150) < scores**2
    order = np.argsort(scores)
    expected = 0.0
    for bin_ in np.array_split(order, 15):
        expected += len(bin_) / 150 * abs(right[bin_].mean() - scores[bin_].mean())
    assert ece(scores, right) == pytest.approx(expected, abs=1e-12)
    assert ece([0.8] * 100, [True] * 80 + [False] * 20) == pytest.approx(0.0, abs=1e-12)
    assert len(reliability([0.8] * 100, [True] * 100)) == 1
    assert np.isnan(ece([], []))


def test_ece_is_small_for_honest_and_large_for_boastful_confidence() -> None:
    rng = np.random.default_rng(9)
    scores = rng.random(20_000)
    right = rng.random(20_000) < scores
    assert ece(scores, right) < 0.015
    assert ece(np.sqrt(scores), right) > 0.1
