"""Clips as samples, for encoders that others trained on waveforms: read from the recordings whenever asked for.

Such an encoder takes a hundred times as long as reading, and samples take a hundred times the room of features; so
nothing is kept. What an augmented clip becomes depends on the seed and its id alone, as in a feature bank.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sayso.audio.features import FeatureConfig
from sayso.core.errors import AudioError, DataError
from sayso.data.augment import AugmentConfig
from sayso.data.clips import ClipMeta, augmenter_of, clip_meta, job_of, sound_of, talkers_of

Floats = NDArray[np.float32]
_SHIFT_MS = FeatureConfig().shift_ms


class SampleBank:
    """What a ``FeatureBank`` is, with rows of 10 ms of samples at 16 kHz, (T, 160), in place of frames."""

    def __init__(
        self, cuts: Iterable[Any], augment: AugmentConfig | None = None, seed: int = 0, root: Path | None = None
    ) -> None:
        """``root`` is the corpora folder; one augmented version of each clip with ``augment``."""
        chosen = list(cuts)
        self._jobs = [job_of(cut, root) for cut in chosen]
        self._clips = [clip_meta(cut) for cut in chosen]
        self._seed, self._augmenter = seed, None
        if augment is not None:
            talkers = talkers_of(chosen, root) if augment.babble else ()
            self._augmenter = augmenter_of(augment, root, talkers)

    def __len__(self) -> int:
        return len(self._jobs)

    def features(self, i: int) -> Floats:
        """Rows (T, 160) of clip ``i``; ``DataError`` where its recording cannot be read."""
        try:
            samples = sound_of(self._jobs[i], self._augmenter, self._seed)
        except AudioError as error:
            raise DataError(f"{error}; leave the clip out of its manifest") from None
        return sample_rows(samples)

    def frames(self, i: int) -> int:
        """T of clip ``i``, from its duration."""
        return max(1, round(self._jobs[i].duration * 1000 / _SHIFT_MS))

    def meta(self, i: int) -> ClipMeta:
        """What clip ``i`` says."""
        return self._clips[i]


def sample_rows(samples: Floats) -> Floats:
    """Samples (n,) at 16 kHz as rows (ceil(n / 160), 160), zeros behind them; one row of nothing for none."""
    size = round(FeatureConfig().sample_rate * _SHIFT_MS / 1000)
    padded = np.pad(samples, (0, -len(samples) % size if len(samples) else size))
    rows: Floats = padded.astype(np.float32).reshape(-1, size)
    return rows
