"""CMU Flite, called as a program: four small voices made from people's recordings.

``kal16`` is a diphone voice, ``awb``, ``rms`` and ``slt`` are statistical ones (CMU Arctic speakers). ``rms`` only ever
validates. ``slt`` only speaks the shipped examples, so that nothing a user tries first has been heard in training.
"""

from __future__ import annotations

import shutil

from sayso.data.synthesis.engine import Floats, Role, Voice, call, pitched, wave

_PROGRAM = "flite"
_TABLE: tuple[tuple[str, str, str, Role], ...] = (
    ("kal16", "Kevin Lenzo", "en-us", "train"),
    ("awb", "Alan W Black (CMU Arctic awb)", "en-gb-scotland", "train"),
    ("rms", "CMU Arctic rms", "en-us", "valid"),
    ("slt", "CMU Arctic slt", "en-us", "examples"),
)
VOICES = tuple(
    Voice(
        id=f"{_PROGRAM}:{name}",
        engine=_PROGRAM,
        name=name,
        speaker=speaker,
        accent=accent,
        licence="CMU Flite (BSD-like)",
        neural=True,
        role=role,
    )
    for name, speaker, accent, role in _TABLE
)


class Flite:
    """The ``flite`` program."""

    name = _PROGRAM

    def missing(self) -> str | None:
        """None, or how to install it."""
        return None if shutil.which(_PROGRAM) else "the program flite is not installed: apt install flite"

    def voices(self) -> tuple[Voice, ...]:
        """Four voices, or none without the program."""
        return () if self.missing() else VOICES

    def speak(self, text: str, voice: Voice, *, rate: float = 1.0, pitch: float = 1.0) -> Floats:
        """As ``Engine.speak``; pitch is moved by resampling (formants move too) and the length put right by the
        engine."""
        stretch = f"duration_stretch={pitch / rate:.4f}"
        command = [_PROGRAM, "-voice", voice.name, "--setf", stretch, "-t", text, "-o", "/dev/stdout"]
        return pitched(*wave(call(command), _PROGRAM), pitch)
