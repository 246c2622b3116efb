"""Costs, curves and the out-of-domain AUROC against loops over every utterance and every threshold."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sayso.core.result import Alternative, Decision, Example, Intent, Result, Slot
from sayso.evaluation.costs import accepted, cost_coverage, decided
from sayso.evaluation.evaluate import Pair, evaluate
from sayso.evaluation.metrics import nlls, risk_coverage
from sayso.nlu.calibration import Costs

COSTS = Costs(false_accept=7.0, false_reject=3.0, clarify=0.5)
MADE: list[Decision] = ["accept", "clarify", "reject"]


def _pairs(seed: int, count: int = 60) -> list[Pair]:
    """Commands and other speech; right, wrong and missing guesses; confidences with ties."""
    rng, pairs = np.random.default_rng(seed), list[Pair]()
    for _ in range(count):
        negative, right, sure = rng.random() < 0.3, rng.random() < 0.7, float(rng.integers(1, 10)) / 10
        slots = (Slot(name="area", value="hall"),)
        example = Example(
            audio="a", intent=None if negative else "on", slots=None if negative else slots, negative=bool(negative)
        )
        got = (Slot(name="area", value="hall" if right else "attic"),)
        decision = MADE[int(rng.integers(3))]
        if decision != "reject":
            result = Result(intent=Intent(name="on", confidence=sure), slots=got, decision=decision)
        elif rng.random() < 0.3:
            result = Result(decision="reject", reason="no_speech")
        else:
            guess = Alternative(text="on", intent="on", slots=got, score=math.log(sure))
            result = Result(decision="reject", reason="low_confidence", alternatives=(guess,))
        pairs.append((example, result))
    return pairs


def _facts(pair: Pair) -> tuple[float, bool, bool]:
    """Confidence, whether the guess is right, whether there is one."""
    example, result = pair
    if result.intent is not None:
        return result.intent.confidence or 0.0, not example.negative and result.slots == example.slots, True
    if not result.alternatives:
        return 0.0, False, False
    guess = result.alternatives[0]
    return math.exp(guess.score), not example.negative and guess.slots == example.slots, True


def _price(pair: Pair, decision: str) -> float:
    _, right, made = _facts(pair)
    if decision == "clarify":
        return COSTS.clarify
    if decision == "reject" or not made:
        lost = not pair[0].negative and not made
        return COSTS.false_reject if right or lost else 0.0
    return 0.0 if right else COSTS.false_accept


@pytest.mark.parametrize("seed", range(5))
def test_costs_and_curves_by_brute_force(seed: int) -> None:
    pairs = _pairs(seed)
    assert decided(pairs, COSTS).tolist() == [_price(pair, pair[1].decision) for pair in pairs]
    assert accepted(pairs, COSTS).tolist() == [_price(pair, "accept") for pair in pairs]
    facts = [_facts(pair) for pair in pairs]
    scores, right = np.array([fact[0] for fact in facts]), np.array([fact[1] for fact in facts])
    curve, risks = cost_coverage(pairs, COSTS), risk_coverage(scores, right)
    levels = sorted({fact[0] for fact in facts}, reverse=True)
    assert [row.confidence for row in curve] == pytest.approx([1.0, *levels])
    assert curve[0].coverage == 0 and curve[0].cost == pytest.approx(np.mean([_price(p, "reject") for p in pairs]))
    for row, risk, level in zip(curve[1:], risks, levels, strict=True):
        answered = scores >= level
        prices = [_price(p, "accept" if taken else "reject") for p, taken in zip(pairs, answered, strict=True)]
        assert row == pytest.approx((answered.mean(), np.mean(prices), level))
        assert risk == pytest.approx((answered.mean(), (~right[answered]).mean(), level))


@pytest.mark.parametrize("seed", range(3))
def test_out_of_domain_auroc_by_brute_force(seed: int) -> None:
    pairs = _pairs(seed)
    commands = [_facts(pair)[0] for pair in pairs if not pair[0].negative]
    others = [_facts(pair)[0] for pair in pairs if pair[0].negative]
    wins = [1.0 if math.isclose(a, b) else 2.0 * (a > b) for a in commands for b in others]
    figure = evaluate(pairs)["rejection_auroc"]
    assert isinstance(figure, dict)
    assert figure["value"] == pytest.approx(sum(wins) / 2 / len(wins), abs=0.02)  # exp(log(p)) parts a few ties


def test_nothing_known_has_no_curve() -> None:
    bare = [(Example(audio="a", intent="on", slots=()), Result(intent=Intent(name="on"), decision="accept"))]
    assert cost_coverage([], COSTS) == cost_coverage(bare, COSTS) == []
    assert decided(bare, COSTS).tolist() == [0.0] and decided([], COSTS).size == 0
    assert nlls([0.25, 1.0], [False, True]) == pytest.approx([-math.log(0.75), 1e-6], rel=1e-3)
