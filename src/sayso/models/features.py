"""The floor's log-mel features as a torch module: differentiable, batched, on any device, equal to kaldi-native-fbank.

Training reads features that the floor's own extractor made; this twin is for models that take the waveform and for
gradients with respect to it. A test holds the two equal.

Shape letters: ``B`` batch, ``N`` samples, ``T`` frames, ``F`` mel bins.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from sayso.audio.features import FeatureConfig


class LogMel(nn.Module):
    """Kaldi's filter bank without dither: DC removed, pre-emphasis 0.97, Povey window, power spectrum, log, floor."""

    window: Tensor
    banks: Tensor

    def __init__(self, config: FeatureConfig) -> None:
        super().__init__()
        self.config = config
        self.length = round(config.sample_rate * config.window_ms / 1000)
        self.shift = round(config.sample_rate * config.shift_ms / 1000)
        self.size = 1 << (self.length - 1).bit_length()
        n = torch.arange(self.length, dtype=torch.float64)
        hann = 0.5 - 0.5 * torch.cos(2 * math.pi * n / (self.length - 1))
        self.register_buffer("window", hann.pow(0.85).float())
        self.register_buffer("banks", _banks(config, self.size).float())

    def frames(self, samples: Tensor) -> Tensor:
        """Number of frames (B,) that recordings of (B,) samples have."""
        return torch.clamp((samples - self.length) // self.shift + 1, min=0)

    def forward(self, waveform: Tensor) -> Tensor:
        """(B, N) samples in [-1, 1] to (B, T, F)."""
        if waveform.shape[1] < self.length:
            return waveform.new_zeros(waveform.shape[0], 0, self.config.mels)
        frames = (waveform * 32768.0).unfold(1, self.length, self.shift)
        frames = frames - frames.mean(-1, keepdim=True)
        before = torch.cat([frames[..., :1], frames[..., :-1]], -1)
        frames = (frames - 0.97 * before) * self.window
        power = torch.fft.rfft(frames, self.size).abs().square()
        energies = power[..., : self.size // 2] @ self.banks.T
        logs = torch.log(torch.clamp(energies, min=torch.finfo(torch.float32).eps))
        return torch.clamp(logs, min=self.config.floor)


def _banks(config: FeatureConfig, size: int) -> Tensor:
    """(F, size/2) triangles, equally spaced on Kaldi's mel scale."""
    hertz = torch.arange(size // 2, dtype=torch.float64) * config.sample_rate / size
    mels = _mel(hertz)
    low, high = _mel(torch.tensor([config.low_hz, config.high_hz], dtype=torch.float64)).tolist()
    edges = torch.linspace(low, high, config.mels + 2, dtype=torch.float64)
    left, center, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    up, down = (mels - left) / (center - left), (right - mels) / (right - center)
    return torch.clamp(torch.minimum(up, down), min=0.0)


def _mel(hertz: Tensor) -> Tensor:
    return 1127.0 * torch.log1p(hertz / 700.0)
