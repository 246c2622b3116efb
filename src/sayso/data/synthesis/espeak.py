"""espeak-ng, called as a program: many accents and timbres of one formant synthesiser.

They are variety of sound rather than people, so the table is short: twelve variants chosen by farthest-point selection
over mean log-mel spectrum and pitch (robots and whispers left out) times six accents train; two other variants in two
other accents validate. GPL-3.0-or-later covers the program, which is never linked; its output is not derived from it.
"""

from __future__ import annotations

import math
import shutil

from sayso.core.errors import SynthesisError
from sayso.data.synthesis.engine import Floats, Role, Voice, call, pitched, wave

_PROGRAM = "espeak-ng"
_WORDS_PER_MINUTE = 175
_BRITISH = "en"  # what the program calls en-gb; by that name it drops the variant without a word
_ACCENTS = ("en-us", _BRITISH, "en-gb-scotland", "en-029", "en-gb-x-rp", "en-gb-x-gbcwmd")
_VARIANTS = ("m3", "m7", "Lee", "david", "Andy", "boris", "f1", "f5", "linda", "shelby", "anika", "aunty")
_VALID = (("en-us-nyc", "travis"), ("en-gb-x-gbclan", "Alicia"))  # neither accent nor variant occurs above


def _voice(accent: str, variant: str, role: Role) -> Voice:
    name = f"{accent}+{variant}"
    return Voice(
        id=f"{_PROGRAM}:{name}",
        engine=_PROGRAM,
        name=name,
        speaker=f"espeak-{variant}",
        accent="en-gb" if accent == _BRITISH else accent,
        licence="GPL-3.0-or-later (program)",
        neural=False,
        role=role,
    )


VOICES = tuple(_voice(accent, variant, "train") for accent in _ACCENTS for variant in _VARIANTS) + tuple(
    _voice(accent, variant, "valid") for accent, variant in _VALID
)


class Espeak:
    """The ``espeak-ng`` program."""

    name = _PROGRAM

    def missing(self) -> str | None:
        """None, or how to install it."""
        if shutil.which(_PROGRAM):
            return None
        return "the program espeak-ng is not installed: apt install espeak-ng (brew, dnf and pacman call it the same)"

    def voices(self) -> tuple[Voice, ...]:
        """74 voices, or none without the program."""
        return () if self.missing() else VOICES

    def speak(self, text: str, voice: Voice, *, rate: float = 1.0, pitch: float = 1.0) -> Floats:
        """As ``Engine.speak``; ``rate`` and ``pitch`` are the engine's own (pitch leaves the formants alone)."""
        speed = str(round(_WORDS_PER_MINUTE * rate))
        # the engine's 0..99 is an exponential scale over two octaves with 50 as it is
        tone = str(min(99, max(0, round(50 + 50 * math.log2(pitch)))))
        data = call([_PROGRAM, "-v", voice.name, "-s", speed, "-p", tone, "--stdin", "--stdout"], text)
        if not data:
            raise SynthesisError(f"{_PROGRAM}: said nothing for {text!r}")
        return pitched(*wave(data, _PROGRAM))
