"""The torch twin of the feature extractor against the floor's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sayso.audio.features import FeatureConfig, fbank
from sayso.models.features import LogMel


@pytest.mark.parametrize("config", [FeatureConfig(), FeatureConfig(mels=40, low_hz=60.0, high_hz=3800.0)])
def test_equals_kaldi_native_fbank(config: FeatureConfig) -> None:
    rng = np.random.default_rng(0)
    time = np.arange(24000) / 16000
    clips = [
        (0.1 * rng.normal(size=24000)).astype(np.float32),
        # some noise: where a band lies 100 dB below the tone both sides only show how their FFTs round
        (0.3 * np.sin(2 * np.pi * (200 + 900 * time) * time) + 1e-2 * rng.normal(size=24000)).astype(np.float32),
        np.concatenate([np.zeros(8000), 0.01 * rng.normal(size=16000)]).astype(np.float32),
    ]
    ours = LogMel(config)(torch.from_numpy(np.stack(clips)))
    for row, clip in zip(ours, clips, strict=True):
        want = fbank(clip, config)
        assert row.shape == want.shape
        np.testing.assert_allclose(row.numpy(), want, atol=2e-3)


def test_lengths_and_gradient() -> None:
    twin = LogMel(FeatureConfig())
    sizes = torch.tensor([100, 399, 400, 559, 560, 16000])
    assert twin.frames(sizes).tolist() == [len(fbank(np.zeros(int(n), np.float32))) for n in sizes]
    assert twin(torch.zeros(2, 399)).shape == (2, 0, 80)
    noise = (0.1 * torch.randn(1, 4000, generator=torch.Generator().manual_seed(0))).requires_grad_()
    twin(noise).sum().backward()
    assert noise.grad is not None and torch.isfinite(noise.grad).all() and float(noise.grad.abs().sum()) > 0
