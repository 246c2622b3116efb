"""Speech as it was meant: without filled pauses, stutters and restarts.

People say "uh turn turn on the the li- light". Transcripts that keep such words teach a recogniser to write them;
without them it learns to pass them over. The rules are the ones that need no model (the edit-repair patterns of
Shriberg 1994 whose repair repeats its reparandum): filled pauses, cut-off words, and words or phrases said twice in a
row. A correction in other words ("the red no the blue one") is left as it is, because only its meaning tells it from
what was meant.
"""

from __future__ import annotations

import re

from sayso.text.normalise import normalise
from sayso.text.numbers import NUMBER_WORDS

FILLED_PAUSES = frozenset({"uh", "uhh", "um", "umm", "uhm", "er", "err", "erm", "ah", "hm", "hmm", "mm", "mhm"})
# Said twice in earnest: numbers and letters are spelled out, these are words of that kind.
TWICE = NUMBER_WORDS | frozenset(
    {"oh", "double", "bye", "no", "yes", "very", "really", "so", "had", "that", "night", "ha"}
)
LONGEST_REPEAT = 4  # words of a restart
_CUT_OFF = re.compile(r"(?<![\w'-])([a-z']+)-+(?=\s+(?:uh+|um+|er+|erm|uhm)?\s*\1[a-z'])")


def fluent(text: str) -> str:
    """Normalised words without disfluencies; idempotent. All of them where nothing would be left."""
    words = [word for word in normalise(_CUT_OFF.sub(" ", text.lower())).split() if word not in FILLED_PAUSES]
    before: list[str] = []
    while words != before:  # what a shorter repeat leaves may be a longer one
        before = words
        for length in range(LONGEST_REPEAT, 0, -1):
            words = _once(words, length)
    return " ".join(words) or normalise(text)


def _once(words: list[str], length: int) -> list[str]:
    """Every phrase of ``length`` words that follows itself, once; what may be meant twice stays."""
    kept: list[str] = []
    for word in words:
        kept.append(word)
        last = kept[-length:]
        earnest = all(item in TWICE or len(item) == 1 for item in last)
        if len(kept) >= 2 * length and kept[-2 * length : -length] == last and not earnest:
            del kept[-length:]
    return kept
