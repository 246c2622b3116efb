"""Calibration against brute force, known temperatures and a known logistic law."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from sayso.core.errors import DataError
from sayso.evaluation.metrics import ece
from sayso.nlu.calibration import (
    FEATURES,
    GAP_CAP,
    Calibration,
    Costs,
    Evidence,
    Scaling,
    fit,
    fit_offset,
    fit_scaling,
    fit_slot_temperature,
    fit_temperature,
)


def _draw(rng: np.random.Generator, n: int) -> list[Evidence]:
    return [
        Evidence(
            margin=float(rng.normal(0.0, 0.7)),
            gap=float(rng.uniform(0.0, GAP_CAP)),
            head=float(-rng.exponential(1.0)),
            head_gap=float(rng.normal(0.0, 2.0)),
            free=float(rng.uniform(0.0, 1.0)),
            length=float(rng.uniform(1.0, 5.0)),
        )
        for _ in range(n)
    ]


def _law(evidence: Evidence) -> float:
    return 1.0 / (1.0 + math.exp(-(2.0 * evidence.margin + 1.0 * evidence.gap + 3.0 * evidence.free - 2.5)))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.7, 3.0])
def test_known_temperature_is_recovered_and_accuracy_unchanged(temperature: float) -> None:
    rng = np.random.default_rng(3)
    clean = rng.normal(0.0, 2.0, (20000, 6))
    shares = np.exp(clean) / np.exp(clean).sum(1, keepdims=True)
    labels = (shares.cumsum(1) > rng.random((20000, 1))).argmax(1)
    logits = clean * temperature
    fitted = fit_temperature(logits, labels)
    assert fitted == pytest.approx(temperature, rel=0.02)
    assert np.array_equal((logits / fitted).argmax(1), logits.argmax(1))
    log_probs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    assert fit_temperature(log_probs, labels) == pytest.approx(fitted, rel=1e-4)


def test_temperature_survives_impossible_classes() -> None:
    logits = np.array([[0.0, -np.inf, 1.0], [2.0, 0.0, -np.inf]] * 50)
    assert math.isfinite(fit_temperature(logits, [0, 0] * 50))


def test_logistic_law_is_recovered() -> None:
    rng = np.random.default_rng(5)
    evidence = _draw(rng, 6000)
    correct = [bool(rng.random() < _law(item)) for item in evidence]
    fitted = fit(evidence, correct, calibrated_on="law", l2=0.01)
    assert fitted.weights["margin"] == pytest.approx(2.0, abs=0.25)
    assert fitted.weights["gap"] == pytest.approx(1.0, abs=0.25)
    assert fitted.weights["free"] == pytest.approx(3.0, abs=0.35)
    fresh = _draw(rng, 500)
    error = [abs((fitted.confidence(item) or 0.0) - _law(item)) for item in fresh]
    assert float(np.mean(error)) < 0.02


def test_newton_stands_at_the_minimum_of_the_penalised_loss() -> None:
    rng = np.random.default_rng(8)
    evidence = _draw(rng, 60)
    correct = [bool(rng.random() < _law(item)) for item in evidence]
    fitted = fit(evidence, correct, calibrated_on="x", l2=1.0)
    raw = np.stack([item.vector() for item in evidence])
    scale, y = raw.std(0), np.array(correct, dtype=float)
    theta = np.array([fitted.weights[name] for name in FEATURES])

    def loss(weights: np.ndarray, bias: float) -> float:
        z = raw @ weights + bias
        return float(np.sum(np.logaddexp(0, z) - y * z) + 0.5 * np.sum((weights * scale) ** 2))

    best = loss(theta, fitted.bias)
    for index, sign in itertools.product(range(len(FEATURES)), (-1.0, 1.0)):
        moved = theta.copy()
        moved[index] += sign * 1e-3
        assert loss(moved, fitted.bias) > best
    assert min(loss(theta, fitted.bias + step) for step in (-1e-3, 1e-3)) > best


def test_separable_data_stay_finite_and_order_kept() -> None:
    evidence = [Evidence(margin=value) for value in (-2.0, -1.0, 1.0, 2.0)]
    fitted = fit(evidence, [False, False, True, True], calibrated_on="x")
    confidence = [fitted.confidence(item) for item in evidence]
    assert confidence == sorted(confidence, key=lambda value: value or 0.0)
    assert all(value is not None and 0.0 < value < 1.0 for value in confidence)


def test_negatives_count_as_wrong() -> None:
    commands, chatter = (
        [Evidence(margin=1.0 + i / 50) for i in range(50)],
        [Evidence(margin=-i / 50) for i in range(50)],
    )
    fitted = fit(commands, [True] * 50, negatives=chatter, calibrated_on="x", l2=0.01)
    assert (fitted.confidence(commands[0]) or 0) > 0.5 > (fitted.confidence(chatter[0]) or 0)
    same = fit([*commands, *chatter], [True] * 50 + [False] * 50, calibrated_on="x", l2=0.01)
    assert same == fitted


def test_strong_prior_keeps_the_base() -> None:
    rng = np.random.default_rng(1)
    base = fit(ev := _draw(rng, 400), [rng.random() < _law(item) for item in ev], calibrated_on="base")
    other = _draw(rng, 30)
    labels = [bool(rng.random() < 0.5) for _ in other]
    held = fit(other, labels, calibrated_on="mine", start=base, l2=1e9)
    free = fit(other, labels, calibrated_on="mine", start=base, l2=1e-3)
    for name in FEATURES:
        assert held.weights[name] == pytest.approx(base.weights[name], rel=1e-4, abs=1e-6)
    assert abs(free.weights["margin"] - base.weights["margin"]) > 0.1
    assert held.calibrated_on == "mine"


def test_certainty_has_a_logarithm() -> None:
    sure = Calibration(weights={"margin": 1000.0}, calibrated_on="x")
    high, low = sure.confidence(Evidence(margin=9.0)), sure.confidence(Evidence(margin=-9.0))
    assert low is not None and high is not None and 0.0 < low < high < 1.0


def test_constant_feature_keeps_its_weight() -> None:
    base = Calibration(weights={"head": 0.7, "margin": 1.0}, calibrated_on="base")
    evidence = [Evidence(margin=m) for m in (-1.0, 0.2, -0.3, 1.5)]
    fitted = fit(evidence, [False, True, False, True], calibrated_on="x", start=base)
    assert fitted.weights["head"] == pytest.approx(0.7)


def test_one_outcome_only_is_refused() -> None:
    with pytest.raises(DataError, match="negatives"):
        fit([Evidence(margin=1.0)], [True], calibrated_on="x")


def test_offset_shifts_the_margin() -> None:
    rng = np.random.default_rng(0)
    margins = rng.normal(0.0, 1.0, 1001)
    offset = fit_offset(margins.tolist(), false_accept=0.1)
    assert np.mean(margins > offset) == pytest.approx(0.1, abs=0.002)
    plain = Calibration(weights={"margin": 1.0}, calibrated_on="x")
    shifted = Calibration(weights={"margin": 1.0}, offset=0.5, calibrated_on="x")
    assert shifted.confidence(Evidence(margin=1.5)) == pytest.approx(plain.confidence(Evidence(margin=1.0)))


def test_uncalibrated_gives_none_and_json_round_trips() -> None:
    assert Calibration().confidence(Evidence(margin=9.0)) is None
    assert Calibration().slot_confidence([-0.1]) is None
    fitted = fit([Evidence(margin=-1.0), Evidence(margin=1.0)], [False, True], calibrated_on="two clips")
    assert Calibration.from_json(fitted.to_json()) == fitted


def test_nan_is_refused_and_infinity_clipped() -> None:
    with pytest.raises(DataError, match="NaN"):
        Evidence(margin=math.nan).vector()
    assert np.isfinite(Evidence(margin=math.inf, head=-math.inf, gap=math.inf).vector()).all()


def test_slot_temperature_is_recovered() -> None:
    rng = np.random.default_rng(4)
    means = -rng.exponential(0.5, 20000)
    correct = rng.random(20000) < np.exp(means / 2.0)
    fitted = fit_slot_temperature([[value] for value in means], list(correct))
    assert fitted == pytest.approx(2.0, rel=0.05)
    calibration = Calibration(slot_temperature=2.0, calibrated_on="x")
    assert calibration.slot_confidence([-1.0, -3.0]) == pytest.approx(math.exp(-1.0))
    assert calibration.slot_confidence([]) is None
    mapped = calibration.model_copy(update={"slots": Scaling(scale=2.0)})
    assert mapped.slot_confidence([-1.0, -3.0]) == pytest.approx(Scaling(scale=2.0)(math.exp(-1.0)))
    assert calibration.slot_confidence([-math.inf]) == pytest.approx(math.exp(-10.0))


def test_a_known_scaling_is_recovered_and_halves_the_error() -> None:
    rng = np.random.default_rng(9)
    raw = rng.beta(2.0, 2.0, 20000)
    odds = np.log(raw / (1 - raw))
    correct = rng.random(20000) < 1 / (1 + np.exp(-(0.6 * odds + 2.0)))
    fitted = fit_scaling(raw, correct)
    assert (fitted.scale, fitted.offset) == (pytest.approx(0.6, abs=0.05), pytest.approx(2.0, abs=0.06))
    mapped = np.array([fitted(p) for p in raw])
    assert ece(mapped, correct) < 0.1 * ece(raw, correct)
    assert np.array_equal(np.argsort(mapped, kind="stable"), np.argsort(raw, kind="stable"))


def test_a_scaling_is_the_best_by_brute_force() -> None:
    """Over a grid, of few outcomes: Platt's smoothed NLL and the prior."""
    raw, hits = np.array([0.2, 0.4, 0.6, 0.7, 0.9, 1.0]), np.array([False, True, False, True, True, True])
    fitted = fit_scaling(raw, hits, l2=0.5)
    inside = np.clip(raw, 1e-6, 1 - 1e-6)
    odds, wanted = np.log(inside / (1 - inside)), np.where(hits, 5 / 6, 1 / 4)

    def loss(scale: float, offset: float) -> float:
        p = 1 / (1 + np.exp(-(scale * odds + offset)))
        nll = -np.sum(wanted * np.log(p) + (1 - wanted) * np.log(1 - p))
        return float(nll + 0.25 * (scale - 1) ** 2)

    grid = itertools.product(np.linspace(0, 2, 201), np.linspace(-2, 2, 201))
    best = min(grid, key=lambda pair: loss(*pair))
    assert (fitted.scale, fitted.offset) == pytest.approx(best, abs=0.02)
    assert loss(fitted.scale, fitted.offset) <= loss(*best)


def test_scalings_of_little_are_harmless() -> None:
    assert fit_scaling([], []) == Scaling() and Scaling()(0.123) == 0.123 and Scaling()(1.0) == 1.0
    sure = fit_scaling([0.5] * 8, [True] * 8)
    assert sure(0.5) == pytest.approx(0.9, abs=1e-3)  # nine of ten, as Platt smooths
    against = fit_scaling([0.1] * 50 + [0.9] * 50, [True] * 40 + [False] * 20 + [True] * 10 + [False] * 30)
    assert against.scale == 0 and against(0.1) == against(0.9) == pytest.approx(0.5, abs=0.01)
    with pytest.raises(ValueError, match="outcomes"):
        fit_scaling([0.5], [True, False])


def test_calibrations_from_before_words_had_scalings_are_read() -> None:
    old = Calibration.from_json('{"kind": "logistic", "temperature": 1.2, "calibrated_on": "x"}')
    assert old.words == old.free_words == old.slots == Scaling()
    new = Calibration(words=Scaling(scale=0.5, offset=1.0), slots=Scaling(offset=-1.0))
    assert Calibration.from_json(new.to_json()) == new


def _cost(confidence: np.ndarray, correct: np.ndarray, reject: float, accept: float, costs: Costs) -> float:
    total = 0.0
    for score, right in zip(confidence, correct, strict=True):
        if score >= accept:
            total += 0.0 if right else costs.false_accept
        elif score >= reject:
            total += costs.clarify
        else:
            total += costs.false_reject if right else 0.0
    return total / confidence.size


def test_thresholds_are_the_cheapest_action_at_every_confidence() -> None:
    rng = np.random.default_rng(11)
    for _ in range(300):
        false_accept, false_reject, clarify = (float(cost) for cost in rng.integers(0, 7, 3))
        costs = Costs(false_accept=false_accept, false_reject=false_reject, clarify=clarify)
        chosen = costs.thresholds()
        assert 0.0 <= chosen.reject <= chosen.accept <= 1.0
        for p in (np.arange(97) + 0.5) / 97:
            price = {"accept": false_accept * (1 - p), "reject": false_reject * p, "ask": clarify}
            action = "accept" if p >= chosen.accept else "reject" if p < chosen.reject else "ask"
            assert price[action] == pytest.approx(min(price.values())), (costs, p)


def test_chosen_thresholds_beat_always_accepting_and_halve_the_error_at_ninety_percent_coverage() -> None:
    rng = np.random.default_rng(2)
    train, fresh = _draw(rng, 3000), _draw(rng, 3000)

    def outcome(items: list[Evidence]) -> np.ndarray:
        return np.array([rng.random() < 1 / (1 + math.exp(-(3 + 6 * item.margin + 3 * item.free))) for item in items])

    fitted = fit(train, outcome(train).tolist(), calibrated_on="x")
    confidence = np.array([fitted.confidence(item) or 0.0 for item in fresh])
    correct = outcome(fresh)
    costs = Costs()
    thresholds = costs.thresholds()
    assert (
        _cost(confidence, correct, thresholds.reject, thresholds.accept, costs) < np.mean(~correct) * costs.false_accept
    )
    kept = confidence >= np.quantile(confidence, 0.1)
    assert np.mean(~correct[kept]) < 0.6 * np.mean(~correct)


def test_a_moment_moves_the_odds_and_not_the_order() -> None:
    fitted = Calibration(weights={"margin": 2.0}, bias=-1.0, calibrated_on="test")
    plain = [fitted.confidence(Evidence(margin=margin)) for margin in (-1.0, 0.0, 0.5, 2.0)]
    moved = [fitted.confidence(Evidence(margin=margin), math.log(9.0)) for margin in (-1.0, 0.0, 0.5, 2.0)]
    for before, after in zip(plain, moved, strict=True):
        assert before is not None and after is not None
        assert after / (1 - after) == pytest.approx(9.0 * before / (1 - before))
    assert Calibration().confidence(Evidence(margin=1.0), 2.0) is None
