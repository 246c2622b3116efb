"""Log-mel features, online and whole, from one code path (kaldi-native-fbank).

Both ways run the same online extractor, so chunked output equals the whole exactly for any packet sizes. There is no
dither and no per-utterance normalisation: a stream cannot know its own mean. Energies are floored so that digital
silence does not lie decades below a quiet room. ``T`` counts 10 ms frames; a frame exists once its full 25 ms window
has been heard.
"""

from __future__ import annotations

from typing import Literal

import kaldi_native_fbank as knf  # type: ignore[import-untyped]
import numpy as np
from numpy.typing import NDArray

from sayso.core.config import Config

Floats = NDArray[np.float32]


class FeatureConfig(Config):
    """Log-mel settings; ``floor`` is the smallest log energy (natural log, 16-bit amplitude scale)."""

    kind: Literal["fbank"] = "fbank"
    sample_rate: int = 16000
    mels: int = 80
    window_ms: float = 25.0
    shift_ms: float = 10.0
    low_hz: float = 20.0
    high_hz: float = 7600.0
    floor: float = 2.0

    def build(self) -> FbankStream:
        """A fresh extractor for one stream."""
        return FbankStream(self)


class FbankStream:
    """Feature extractor of one stream."""

    def __init__(self, config: FeatureConfig) -> None:
        options = knf.FbankOptions()
        options.frame_opts.samp_freq = config.sample_rate
        options.frame_opts.frame_length_ms = config.window_ms
        options.frame_opts.frame_shift_ms = config.shift_ms
        options.frame_opts.dither = 0.0
        options.frame_opts.snip_edges = True
        options.mel_opts.num_bins = config.mels
        options.mel_opts.low_freq = config.low_hz
        options.mel_opts.high_freq = config.high_hz
        self.config = config
        self._fbank = knf.OnlineFbank(options)
        self._done = 0

    def accept(self, samples: Floats) -> Floats:
        """Frames (n, mels) completed by ``samples`` (float32 in [-1, 1]); n may be 0."""
        if len(samples):
            louder = np.asarray(samples, np.float32) * np.float32(32768.0)
            # its binding takes any sequence number by number, and a list's in two thirds of the time of an array's
            self._fbank.accept_waveform(self.config.sample_rate, louder.tolist())
        return self._take()

    def finish(self) -> Floats:
        """Frames that the end of the stream completes."""
        self._fbank.input_finished()
        return self._take()

    def _take(self) -> Floats:
        ready = self._fbank.num_frames_ready
        if ready == self._done:
            return np.zeros((0, self.config.mels), np.float32)
        # copied before pop: get_frame returns views into memory that pop frees
        frames = np.concatenate([self._fbank.get_frame(i) for i in range(self._done, ready)])
        self._fbank.pop(ready - self._done)  # keeps memory constant over hours
        self._done = ready
        floored: Floats = np.maximum(frames, np.float32(self.config.floor)).reshape(-1, self.config.mels)
        return floored


def fbank(samples: Floats, config: FeatureConfig | None = None) -> Floats:
    """Features (T, mels) of a whole recording."""
    stream = FbankStream(config or FeatureConfig())
    return np.concatenate([stream.accept(samples), stream.finish()])
