"""Groups and the figures beyond the headline, against loops and references."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from scipy.stats import chi2  # type: ignore[import-untyped]

from sayso.core.result import Example, Intent, Result, Timing
from sayso.evaluation.bootstrap import rate
from sayso.evaluation.details import details, quantiles
from sayso.evaluation.evaluate import Pair
from sayso.evaluation.live import Trace
from sayso.evaluation.metrics import aurc, biased_word_errors, brier, risk_coverage, word_errors
from sayso.evaluation.slices import OTHERS, slices


def _pair(right: bool, *, sure: float = 0.9, negative: bool = False, **custom: str) -> Pair:
    example = Example(audio="a", intent=None if negative else "on", slots=(), negative=negative, custom=custom)
    intent = Intent(name="on" if right else "off", confidence=sure)
    return example, Result(intent=intent, decision="accept", timing=Timing(audio_s=3.0, final_s=0.2))


def test_risk_coverage_keeps_the_surest_first() -> None:
    curve = risk_coverage([0.9, 0.5, 0.9, 0.2], [True, False, False, True])
    assert curve == [(0.5, 0.5, 0.9), (0.75, pytest.approx(2 / 3), 0.5), (1.0, 0.5, 0.2)]
    assert risk_coverage([], []) == []


def test_aurc_is_the_mean_over_all_orders_of_equals() -> None:
    rng = np.random.default_rng(3)
    for _ in range(10):
        scores, right = rng.integers(0, 3, 6) / 2, rng.random(6) < 0.6
        areas = []
        for order in itertools.permutations(range(6)):
            if all(scores[a] >= scores[b] for a, b in itertools.pairwise(order)):
                wrong = np.cumsum([not right[i] for i in order])
                areas.append(np.mean(wrong / np.arange(1, 7)))
        assert aurc(scores, right) == pytest.approx(np.mean(areas), abs=1e-12)
    assert np.isnan(aurc([], []))


def test_brier() -> None:
    assert brier([0.8, 0.3], [True, False]) == pytest.approx((0.04 + 0.09) / 2) and np.isnan(brier([], []))


def test_biased_words_are_a_part_of_all() -> None:
    gold, got = "call anna at the new office", "call hanna a at new uncle"
    other, biased = biased_word_errors(gold, got, {"anna", "office", "uncle"})
    assert np.array_equal(np.add(other, biased), word_errors(gold, got))
    assert biased == (0, 2, 0, 0) and other.deletions == 1 and other.insertions == 1
    assert biased_word_errors("a", "a uncle", {"uncle"})[1] == (0, 0, 0, 1)


@pytest.mark.parametrize(("events", "hours"), [(0, 2.0), (1, 0.5), (17, 3.0), (400, 10.0)])
def test_rate_has_garwoods_interval(events: int, hours: float) -> None:
    found = rate(events, hours)
    assert found is not None and found["value"] == events / hours
    low = chi2.ppf(0.025, 2 * events) / 2 / hours if events else 0.0
    assert found["low"] == pytest.approx(low, rel=1e-9)
    assert found["high"] == pytest.approx(chi2.ppf(0.975, 2 * events + 2) / 2 / hours, rel=1e-9)
    assert rate(0, 0.0) is None


def test_slices() -> None:
    pairs = [_pair(i % 2 == 0, gender="f", age="27", id=str(i)) for i in range(30)]
    pairs += [_pair(True, gender="m", age="31") for _ in range(20)] + [_pair(True, gender="x", age="old")] * 3
    found = slices(pairs)
    assert list(found) == ["gender", "age"]  # ids are too many, one language is nothing to compare
    assert list(found["gender"]) == ["f", "m", OTHERS] and found["gender"][OTHERS] == {"n": 3}
    assert list(found["age"]) == ["20 to 30", "30 to 40", OTHERS]
    accuracy = found["gender"]["f"]["intent_accuracy"]
    assert isinstance(accuracy, dict) and accuracy["low"] < accuracy["value"] == 0.5 < accuracy["high"]
    assert slices(pairs, minimum=31) == {} and slices([]) == {}


def test_details_by_hand() -> None:
    pairs = [_pair(True, sure=0.9), _pair(False, sure=0.6), _pair(True, sure=0.8, negative=True)]
    found = json.loads(json.dumps(details(pairs), allow_nan=False))
    assert found["figures"]["n"] == 3 and found["slices"] == {}
    values = {name: value and value["value"] for name, value in found["more"].items()}
    assert values["sem_er"] == values["irer"] == values["icer"] == pytest.approx(2 / 3)
    assert values["exact_match"] == values["tree_match"] == pytest.approx(1 / 3)
    assert values["macro_intent_accuracy"] == pytest.approx((1 / 2 + 0) / 2)
    assert values["macro_intent_f1"] == pytest.approx((2 / 4 + 0 + 0) / 3)  # on: 1 of 2 and of 2; off and refusing: 0
    assert values["label_f1"] is None and values["span_f1"] is None, "no slots, no text"
    assert values["brier"] == pytest.approx((0.01 + 0.36 + 0.64) / 3)
    assert values["aurc"] == pytest.approx((0 + 1 / 2 + 2 / 3) / 3)
    assert values["nll"] == pytest.approx(-np.log([0.9, 0.4, 0.2]).mean())
    assert values["overconfidence"] == pytest.approx((0.9 + 0.6 + 0.8 - 1) / 3)
    assert values["cost"] == values["cost_accepting"] == pytest.approx((0 + 5 + 5) / 3)
    by_hand = [(0, 2 / 3, 1), (1 / 3, 0, 0.9), (2 / 3, 5 / 3, 0.8), (1, 10 / 3, 0.6)]
    assert [tuple(row) for row in found["cost_coverage"]] == [pytest.approx(row) for row in by_hand]
    assert values["false_accepts_per_hour"] == pytest.approx(1200) and values["concept_error_rate"] is None
    assert found["risk_coverage"][-1] == [1.0, pytest.approx(2 / 3), 0.6]
    assert found["latency"] == {"final_s": {"n": 3, "p50": 0.2, "p90": 0.2, "p95": 0.2, "p99": 0.2}}
    assert all(value is None for value in details([])["more"].values())


def test_quantiles() -> None:
    assert quantiles(list(range(101))) == {"n": 101, "p50": 50.0, "p90": 90.0, "p95": 95.0, "p99": 99.0}


def test_traces_take_the_place_of_times() -> None:
    found = details([_pair(True)], traces=[Trace(0.3, None, 0.5), Trace(0.1, -0.2, 0.9)])["latency"]
    assert list(found) == ["first_words_s", "intent_s", "result_s"]
    assert found["first_words_s"]["p50"] == 0.2 and found["intent_s"] == quantiles([-0.2])
