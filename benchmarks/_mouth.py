"""A synthetic voice for benchmarks that speak: as the voice speaks by itself, and kept, so that a second run is the
same sound."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import soundfile as sf
from numpy.typing import NDArray

from sayso.data.synthesis import ENGINES, Voice
from sayso.data.synthesis.engine import finish

Floats = NDArray[np.float32]


class Mouth:
    """Speaks with one voice; what was spoken is kept in ``folder``."""

    def __init__(self, voice: Voice, folder: Path) -> None:
        self._voice, self._folder = voice, folder

    def file(self, text: str) -> Path:
        """A recording at 16 kHz."""
        name = hashlib.sha256(f"{self._voice.id} {text}".encode()).hexdigest()[:16]
        path = self._folder / f"{name}.wav"
        if not path.exists():
            raw = ENGINES[self._voice.engine].speak(text, self._voice)
            sf.write(path, finish(raw, np.random.default_rng(int(name, 16))), 16000, subtype="PCM_16")
        return path

    def __call__(self, text: str) -> Floats:
        """Samples at 16 kHz."""
        return np.asarray(sf.read(self.file(text), dtype="float32")[0])
