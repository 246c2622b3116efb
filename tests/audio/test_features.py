"""Features: chunked equals whole exactly, frame count, floor, and a tone lands in its own mel band."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sayso.audio.features import FbankStream, FeatureConfig, fbank


def _noise(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, n).astype(np.float32)


@settings(max_examples=40, deadline=None)
@given(n=st.integers(0, 20_000), cuts=st.lists(st.integers(0, 20_000), max_size=30))
def test_chunked_equals_whole_exactly(n: int, cuts: list[int]) -> None:
    samples = _noise(n)
    stream = FbankStream(FeatureConfig())
    edges = sorted({0, n, *(cut for cut in cuts if cut < n)})
    pieces = [stream.accept(samples[a:b]) for a, b in itertools.pairwise(edges)]
    chunked = np.concatenate([*pieces, stream.finish()])
    np.testing.assert_array_equal(chunked, fbank(samples))


@pytest.mark.parametrize("packet", [1, 7, 160, 512])
def test_fixed_packets_equal_whole(packet: int) -> None:
    samples = _noise(3000)
    stream = FbankStream(FeatureConfig())
    pieces = [stream.accept(samples[start : start + packet]) for start in range(0, len(samples), packet)]
    np.testing.assert_array_equal(np.concatenate([*pieces, stream.finish()]), fbank(samples))


def test_a_frame_exists_once_its_window_was_heard() -> None:
    samples = _noise(16000)
    stream = FbankStream(FeatureConfig())
    heard = have = 0
    for start in range(0, len(samples), 37):
        have += len(stream.accept(samples[start : start + 37]))
        heard = min(start + 37, len(samples))
        assert have == (0 if heard < 400 else 1 + (heard - 400) // 160)


@pytest.mark.parametrize(("n", "frames"), [(0, 0), (399, 0), (400, 1), (559, 1), (560, 2), (16000, 98)])
def test_shape_and_type(n: int, frames: int) -> None:
    got = fbank(_noise(n))
    assert got.shape == (frames, 80)
    assert got.dtype == np.float32


def test_silence_is_the_floor_and_nothing_lies_below_it() -> None:
    np.testing.assert_array_equal(fbank(np.zeros(1600, np.float32)), np.full((8, 80), 2.0, np.float32))
    quiet = fbank(_noise(16000) * 1e-5, FeatureConfig(floor=3.5))
    assert quiet.min() == np.float32(3.5)


def test_louder_means_a_constant_more() -> None:
    samples = _noise(8000)
    difference = fbank(samples * 2) - fbank(samples)
    np.testing.assert_allclose(difference, 2 * np.log(2), atol=1e-3)


def test_a_tone_lands_in_its_mel_band() -> None:
    config = FeatureConfig()
    mel = lambda hz: 1127 * np.log(1 + hz / 700)  # noqa: E731  (O'Shaughnessy's mel scale, as in Kaldi)
    centres = np.linspace(mel(config.low_hz), mel(config.high_hz), config.mels + 2)[1:-1]
    for hz in (300, 1000, 3000, 6000):
        tone = (0.3 * np.sin(2 * np.pi * hz * np.arange(8000) / 16000)).astype(np.float32)
        assert abs(int(fbank(tone).mean(axis=0).argmax()) - int(np.abs(centres - mel(hz)).argmin())) <= 1
