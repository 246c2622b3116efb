"""The recogniser's spelling to something pleasant to read: a capital at the start, "I" where it stands for the speaker.

Numbers stay words here. Writing them as digits is inverse text normalisation, which needs to know what a number
measures ("five forty five" is a time or a price); guessing would show what was not said.
"""

from __future__ import annotations

_SPEAKER = {"i": "I", "i'm": "I'm", "i'll": "I'll", "i've": "I've", "i'd": "I'd"}


def display(text: str) -> str:
    """``text`` (normalised) for reading; empty for empty text. ``normalise`` gives the input back."""
    words = " ".join(_SPEAKER.get(word, word) for word in text.split())
    return words[:1].upper() + words[1:]
