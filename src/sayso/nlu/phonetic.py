"""How a text sounds, as a string: what names are compared by when a recogniser wrote them as other words."""

from __future__ import annotations

from functools import cache
from typing import Protocol

from sayso.text.lexicon import Lexicon


class Phonetic(Protocol):
    """How a text sounds: texts that sound alike have keys that are alike, a character for a sound."""

    @property
    def name(self) -> str:
        """Names the way of making keys: a saved index is only read with the same."""

    def key(self, text: str) -> str:
        """The key of normalised ``text``."""


class SpokenKey:
    """The phones of the lexicon."""

    def __init__(self, lexicon: Lexicon | None = None) -> None:
        self._lexicon = Lexicon.load() if lexicon is None else lexicon
        self.name = f"lexicon:{self._lexicon.sha256[:16]}"
        self._word = cache(self._spoken)

    def key(self, text: str) -> str:
        """A character for each phone, words one after another."""
        return "".join(map(self._word, text.split()))

    def _spoken(self, word: str) -> str:
        return "".join(chr(64 + phone) for phone in self._lexicon.phones(word))


class SkeletonKey:
    """Letters that sound alike made one, vowels made "a", doubles once: for words of a language without a lexicon."""

    name = "skeleton"
    _ALIKE = str.maketrans({"c": "k", "q": "k", "z": "s", "v": "f", "y": "i", "d": "t", "b": "p", "g": "k", "'": None})
    _PAIRS = (("ph", "f"), ("ck", "k"), ("gh", ""), ("kn", "n"), ("wr", "r"), ("wh", "w"), ("ce", "se"), ("ci", "si"),
              ("sch", "sh"), ("tch", "ch"), ("x", "ks"))  # fmt: skip

    def key(self, text: str) -> str:
        """Consonants, and "a" for any vowels between them."""
        for letters, sound in self._PAIRS:
            text = text.replace(letters, sound)
        text = text.translate(self._ALIKE).replace(" ", "")
        sounds = ["a" if letter in "aeiou" else letter for letter in text]
        return "".join(sound for at, sound in enumerate(sounds) if at == 0 or sound != sounds[at - 1])
