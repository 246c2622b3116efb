"""Mixing: the measured ratio, against a brute-force measure written here, and the rules of the published condition."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest

from sayso.audio import mix
from sayso.core.errors import AudioError, UsageError


def _speech(n: int, seed: int) -> np.ndarray:
    """Bursts of noise of very different loudness with pauses between them: the two kinds of ratio differ a lot."""
    rng = np.random.default_rng(seed)
    loudness = np.repeat(rng.choice([0.0, 0.02, 0.1, 0.3], size=n // 3000 + 1), 3000)[:n]
    loudness[: min(n, 3000)] = 0.3
    return (loudness * rng.normal(0, 0.3, n)).astype(np.float32)


def _brute_strength(samples: np.ndarray, kind: str) -> float:
    if kind == "mean":
        return sum(float(x) ** 2 for x in samples) / len(samples)
    return max(sum(float(x) ** 2 for x in samples[start : start + 2048]) for start in range(0, len(samples), 2048))


@pytest.mark.parametrize("kind", get_args(mix.Kind))
@pytest.mark.parametrize(("n", "noise_n"), [(30_000, 100_000), (30_000, 30_000), (30_000, 7_001), (1_000, 5_000)])
@pytest.mark.parametrize("snr_db", [-5.0, 6.0, 24.0])
def test_measured_ratio_is_the_one_asked_for(kind: Any, n: int, noise_n: int, snr_db: float) -> None:
    speech, noise = _speech(n, 1), _speech(noise_n, 2) + np.float32(0.01)
    mixed = mix.mix(speech, noise, snr_db, kind, np.random.default_rng(3))
    assert mixed.dtype == np.float32
    assert mixed.shape == speech.shape
    assert abs(float(np.abs(mixed).max()) - 0.5) < 1e-6
    # take the mix apart again without trusting any scale of ours
    stretch = mix.excerpt(noise, n, np.random.default_rng(3))
    sources = np.stack([speech, stretch], axis=1).astype(np.float64)
    scales, *_ = np.linalg.lstsq(sources, mixed.astype(np.float64), rcond=None)
    np.testing.assert_allclose(sources @ scales, mixed, atol=1e-6)
    voice, rest = _brute_strength(speech * scales[0], kind), _brute_strength(stretch * scales[1], kind)
    assert abs(10 * np.log10(voice / rest) - snr_db) < 0.1
    assert abs(mix.measure_snr(speech * scales[0], stretch * scales[1], kind) - snr_db) < 0.01


def test_parts_add_up() -> None:
    speech, noise = _speech(20_000, 1), _speech(9_000, 2)
    voice, rest = mix.parts(speech, noise, 9.0, "peak2048", np.random.default_rng(0))
    np.testing.assert_array_equal(voice + rest, mix.mix(speech, noise, 9.0, "peak2048", np.random.default_rng(0)))


def test_excerpt_is_seeded_contiguous_and_loops_only_where_it_must() -> None:
    noise = np.arange(1000, dtype=np.float32)
    starts = {int(mix.excerpt(noise, 100, np.random.default_rng(seed))[0]) for seed in range(200)}
    assert len(starts) > 100
    for seed in range(50):
        piece = mix.excerpt(noise, 990, np.random.default_rng(seed))
        np.testing.assert_array_equal(piece, np.arange(piece[0], piece[0] + 990))
        looped = mix.excerpt(noise, 2500, np.random.default_rng(seed))
        np.testing.assert_array_equal(looped, np.arange(looped[0], looped[0] + 2500) % 1000)
    ends = {int(mix.excerpt(noise, 999, np.random.default_rng(seed))[0]) for seed in range(40)}
    assert ends == {0, 1}


def test_same_seed_same_mix_other_seed_other_mix() -> None:
    speech, noise = _speech(10_000, 1), _speech(50_000, 2)
    first, again, other = (mix.mix(speech, noise, 6, "peak2048", np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.01


def test_pauses_count_for_mean_and_not_for_peak() -> None:
    speech, noise = _speech(2048 * 4, 1), _speech(2048 * 4, 5)
    padded = np.concatenate([speech, np.zeros_like(speech)])
    peak = [mix.measure_snr(samples, noise, "peak2048") for samples in (speech, padded)]
    mean = [mix.measure_snr(samples, noise, "mean") for samples in (speech, padded)]
    assert peak[0] == peak[1]
    assert mean[0] - mean[1] == pytest.approx(10 * np.log10(2))


def test_what_has_no_ratio_is_refused() -> None:
    rng = np.random.default_rng(0)
    some, silent, empty = _speech(5000, 1), np.zeros(5000, np.float32), np.zeros(0, np.float32)
    for speech, noise, found in (
        (silent, some, "silent speech"),
        (some, silent, "silent noise"),
        (some, empty, "without"),
    ):
        with pytest.raises(AudioError, match=found):
            mix.mix(speech, noise, 6, "peak2048", rng)
    with pytest.raises(AudioError, match="without"):
        mix.mix(empty, some, 6, "mean", rng)
    with pytest.raises(UsageError, match="finite"):
        mix.mix(some, some, float("nan"), "mean", rng)
    wrong: Any = "peak"
    with pytest.raises(UsageError, match="did you mean 'peak2048'"):
        mix.mix(some, some, 6, wrong, rng)
