"""How much of a stream is speech, and how far it stands above the rest.

The recogniser finds words in anything; this says whether there was speech at all, and how loud the room is, so that a
refusal can be explained. The SNR is the ratio of the mean energies of speech hops and other hops, the latter taken off
the former; it is an estimate for a sentence in steady noise and nothing more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sayso.audio.vad import HOP, HOP_S, Vad

_FEWEST_HOPS = 5  # fewer say nothing about a level
_SILENCE = 1e-10  # mean square of digital silence, so that ratios stay finite


class Activity:
    """Listens to one stream at 16 kHz."""

    def __init__(self, threshold: float) -> None:
        self._vad: Vad | None = None
        self._threshold = threshold
        self._rest = np.zeros(0, np.float32)
        self._speech_hops = self._other_hops = 0
        self._speech_energy = self._other_energy = 0.0

    def accept(self, samples: NDArray[np.float32], speech: Sequence[float] | None = None) -> None:
        """Take samples (n,), any n. ``speech`` are the probabilities of the hops that they complete, where somebody
        has listened already: then always, or never."""
        if speech is None:
            self._vad = self._vad or Vad()
        probabilities = speech if self._vad is None else self._vad.accept(samples)
        assert probabilities is not None
        joined = np.concatenate([self._rest, samples])
        whole = len(probabilities) * HOP
        energy = np.square(joined[:whole].reshape(-1, HOP), dtype=np.float64).mean(1)
        self._rest = joined[whole:]
        loud = np.asarray(probabilities) >= self._threshold
        self._speech_hops += int(loud.sum())
        self._other_hops += int((~loud).sum())
        self._speech_energy += float(energy[loud].sum())
        self._other_energy += float(energy[~loud].sum())

    @property
    def speech_s(self) -> float:
        """Seconds that the detector calls speech."""
        return self._speech_hops * HOP_S

    @property
    def snr_db(self) -> float | None:
        """Estimated signal-to-noise ratio; None where there is too little of either to tell."""
        if min(self._speech_hops, self._other_hops) < _FEWEST_HOPS:
            return None
        noise = self._other_energy / self._other_hops + _SILENCE
        speech = max(self._speech_energy / self._speech_hops - noise, _SILENCE)
        return 10.0 * math.log10(speech / noise)
