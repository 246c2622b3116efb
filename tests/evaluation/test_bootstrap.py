"""Intervals: coverage of a known rate, agreement of both routes, and the cases without data."""

from __future__ import annotations

import numpy as np
import pytest

from sayso.evaluation.bootstrap import BootstrapConfig, general, ratio


def test_ratio_equals_general_and_repeats_with_its_seed() -> None:
    rng = np.random.default_rng(0)
    top, bottom = rng.integers(0, 4, 300), rng.integers(1, 9, 300)
    fast = ratio(top, bottom)
    slow = general(lambda index: float(top[index].sum() / bottom[index].sum()), 300)
    assert fast == pytest.approx(slow)
    assert fast == ratio(top, bottom)
    assert fast != ratio(top, bottom, BootstrapConfig(seed=1))
    assert fast is not None and fast["value"] == pytest.approx(top.sum() / bottom.sum())


def test_interval_covers_the_true_rate_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for trial in range(300):
        found = ratio(rng.random(200) < 0.7, np.ones(200), BootstrapConfig(resamples=400, seed=trial))
        assert found is not None and found["low"] <= found["value"] <= found["high"]
        covered += found["low"] <= 0.7 <= found["high"]
    assert 0.90 <= covered / 300 <= 0.98


def test_width_matches_the_standard_error() -> None:
    values = np.random.default_rng(2).random(2000) < 0.3
    found = ratio(values, np.ones(2000))
    assert found is not None
    error = np.sqrt(0.3 * 0.7 / 2000)
    assert found["high"] - found["low"] == pytest.approx(2 * 1.96 * error, rel=0.1)


def test_nothing_to_count() -> None:
    assert ratio([], []) is None
    assert ratio([0, 0], [0, 0]) is None
    assert general(lambda index: float("nan"), 5) is None
    assert general(lambda index: 1.0, 0) is None
    assert ratio([1], [1]) == {"value": 1.0, "low": 1.0, "high": 1.0}
