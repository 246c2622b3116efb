"""Words to IPA by the program ``espeak-ng``, for neural voices that were trained on its phonemes."""

from __future__ import annotations

import functools
import shutil

from sayso.data.synthesis.engine import call

_PROGRAM = "espeak-ng"


def no_phonemes() -> str | None:
    """None, or how to install the program."""
    return None if shutil.which(_PROGRAM) else "it needs the program espeak-ng for phonemes: apt install espeak-ng"


@functools.lru_cache(maxsize=4096)
def phonemes(text: str, accent: str = "en-us") -> str:
    """IPA with stress marks and spaces between words. Raises ``SynthesisError``."""
    said = call([_PROGRAM, "-v", accent, "-q", "--ipa", "--stdin"], text).decode("utf-8")
    # a command line breaks clauses into lines; the zero-width joiner ties what is one phoneme
    return " ".join(said.split()).replace("\u200d", "")
