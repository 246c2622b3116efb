"""Festival, called as a program: the diphone voice ``ked``, a speaker whom no other engine has.

Its other English voices speak for people whom flite has already: ``kal`` trains there, and ``cmu_us_slt_arctic_hts`` is
the speaker of the shipped examples, whom no training may hear.
"""

from __future__ import annotations

import functools
import shutil

from sayso.core.errors import SynthesisError
from sayso.data.synthesis.engine import SAMPLE_RATE, Floats, Voice, call, pitched, wave

_PROGRAM, _SPEAKS = "festival", "text2wave"
VOICES = (
    Voice(
        id="festival:ked",
        engine=_PROGRAM,
        name="ked",
        speaker="Kurt Dusterhoff",
        accent="en-us",
        licence="Festival (BSD-like)",
        neural=True,
        role="train",
    ),
)


class Festival:
    """The ``festival`` programs."""

    name = _PROGRAM

    def missing(self) -> str | None:
        """None, or how to install it."""
        if not shutil.which(_PROGRAM) or not shutil.which(_SPEAKS):
            return "the program festival is not installed: apt install festival festvox-kdlpc16k"
        return None if _installed() else "festival has no voice of ours: apt install festvox-kdlpc16k"

    def voices(self) -> tuple[Voice, ...]:
        """The voice, or none without it."""
        return () if self.missing() else VOICES

    def speak(self, text: str, voice: Voice, *, rate: float = 1.0, pitch: float = 1.0) -> Floats:
        """As ``Engine.speak``; pitch is moved by resampling (formants move too) and the length put right by the
        engine."""
        stretch = f"(Parameter.set 'Duration_Stretch {pitch / rate:.4f})"
        command = [_SPEAKS, "-F", str(SAMPLE_RATE), "-eval", f"(voice_{voice.name}_diphone)", "-eval", stretch]
        return pitched(*wave(call(command, text), _PROGRAM), pitch)


@functools.cache
def _installed() -> bool:
    try:
        said = call([_PROGRAM, "-b", "(print (voice.list))"]).decode(errors="replace")
    except SynthesisError:
        return False
    return all(f"{voice.name}_diphone" in said for voice in VOICES)
