"""hibari: small neural voices distilled from Kokoro-82M, a Python package on onnxruntime.

The American voice ``heart`` is in the package. The others are used where their file is already in the package's cache
and never downloaded from here: nothing of a build goes to the network.
"""

from __future__ import annotations

import functools
import importlib.util
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from sayso.core.errors import SynthesisError, require
from sayso.data.synthesis.engine import Floats, Voice, pitched

_PACKAGE = "hibari"
# The model's speed input is far from the tempo that comes out (int8 rounds it): mean tempo of five commands at each
# speed, 2 % spread. Above 1.3 it leaps to 1.6, so 1.14 times is as fast as this engine goes here.
_SPEEDS = (0.5, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3)
_TEMPI = (0.497, 0.703, 0.823, 0.97, 1.0, 1.023, 1.066, 1.139)
_TABLE = (
    ("heart", "en-us"),
    ("fenrir", "en-us"),
    ("kore", "en-us"),
    ("emma", "en-gb"),
    ("fable", "en-gb"),
)
VOICES = tuple(
    Voice(
        id=f"{_PACKAGE}:{name}",
        engine=_PACKAGE,
        name=name,
        speaker=f"Kokoro {name}",
        accent=accent,
        licence="Apache-2.0",
        neural=True,
        role="train",
    )
    for name, accent in _TABLE
)


class Hibari:
    """The ``hibari`` package; one loaded model per voice and process, one thread."""

    name = _PACKAGE

    def missing(self) -> str | None:
        """None, or how to install it."""
        if importlib.util.find_spec(_PACKAGE):
            return None
        return "the Python package hibari is not installed: pip install hibari-tts, or 'sayso[synth]'"

    def voices(self) -> tuple[Voice, ...]:
        """The voices whose model file is on this machine."""
        return () if self.missing() else tuple(voice for voice in VOICES if _at_hand(voice.name))

    def speak(self, text: str, voice: Voice, *, rate: float = 1.0, pitch: float = 1.0) -> Floats:
        """As ``Engine.speak``; pitch is moved by resampling (formants move too) and the length put right by the
        engine, so ``rate / pitch`` takes effect from 0.5 to 1.14. The same text gives the same samples."""
        if not _at_hand(voice.name):
            raise SynthesisError(f"{voice.id}: no model on this machine; run 'hibari --voice {voice.name}' once")
        speed = float(np.interp(rate / pitch, _TEMPI, _SPEEDS))
        try:
            samples = _model(voice.name)(text, speed=speed, seed=zlib.crc32(text.encode()))
        except Exception as error:  # a foreign library may raise anything; one sentence must not end the run
            raise SynthesisError(f"{voice.id}: failed on {text!r}: {error}") from error
        return pitched(samples, int(_package().SAMPLE_RATE), pitch)


def _package() -> Any:
    return require(_PACKAGE, extra="synth", purpose="the speech engine hibari")


@functools.cache
def _at_hand(name: str) -> bool:
    voices = require(f"{_PACKAGE}.voices", extra="synth", purpose="the speech engine hibari")
    try:
        return Path(voices.voice_path(name, download_missing=False)).is_file()
    except (FileNotFoundError, ValueError):
        return False


@functools.cache
def _model(name: str) -> Any:
    return _package().Hibari(voice=name, threads=1)
