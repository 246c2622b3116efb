"""How words are pronounced: a dictionary, and letter-to-sound rules for the words that it lacks.

The dictionary is CMUdict in the version that PocketSphinx brings; stress is left out, because nothing here hears it. A
word that it lacks may be a known word with a plural or possessive "s", or two known words in one; for others a
decision tree per letter says which phones the letter stands for (none, one or two), from the letters around it and the
phones behind it (Black, Lenzo, Pagel 1998). The trees read a word from its end, because English endings say more about
its vowels than beginnings do. All is one file of arrays, made by ``benchmarks/lexicon.py``, which also measures it.
"""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
import zlib
from bisect import bisect_left
from collections.abc import Mapping
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sayso.core.errors import DataError, nearest

PHONES: tuple[str, ...] = (
    *("<blk>", "AA", "AE", "AH", "AO", "AW", "AY", "B", "CH", "D", "DH", "EH", "ER", "EY", "F", "G", "HH", "IH", "IY"),
    *("JH", "K", "L", "M", "N", "NG", "OW", "OY", "P", "R", "S", "SH", "T", "TH", "UH", "UW", "V", "W", "Y", "Z", "ZH"),
)
LETTERS = {letter: code for code, letter in enumerate("abcdefghijklmnopqrstuvwxyz'", 1)}  # 0: beyond the word
VOWELS = frozenset("aeiouy")
AROUND, BEHIND = 4, 2  # letters to each side and phones to the right that a rule may ask for
LEAF = 255  # in place of a question
END_OF_VARIANT, END_OF_WORD = 0, 255  # in the array of all pronunciations
SHORTEST_PART = 4  # letters of each half of a compound

Phones = tuple[int, ...]
_FOLDER = Path(__file__).with_name("data")
PAUSES: tuple[int, ...] = tuple(map(PHONES.index, ("AH", "M", "ER", "HH")))  # of "uh", "um", "er", "hm"
_SIBILANTS, _VOICELESS = (frozenset(map(PHONES.index, names.split())) for names in ("CH JH S SH Z ZH", "F K P T TH"))
# The second half of many words that are no compounds, though it is a word as well ("drink" + "able", "trim" + "ming").
_ENDING = re.compile(r"able|ally|ford|land|mann|ries|ward|.ing")
_IH, _S, _Z = map(PHONES.index, ("IH", "S", "Z"))


class LetterRules:
    """One decision tree per letter, all in three arrays.

    Node k asks whether place ``question[k]`` (letters to the left, letters to the right, phones behind, nearest first)
    holds ``value[k]``: yes leads to node k + 1, no to node ``other[k]``. At a leaf ``other`` is the answer,
    ``first * len(PHONES) + second`` with 0 for no phone. ``roots`` has the first node of each letter's tree.
    """

    def __init__(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        question, value, other, roots = (
            arrays[name].astype(np.int64) for name in ("question", "value", "other", "roots")
        )
        node, leaf = np.arange(len(question)), question == LEAF
        forward = (question < 2 * AROUND + BEHIND) & (other > node) & (other < len(node)) & (node + 1 < len(node))
        answer = (other >= 0) & (other < len(PHONES) ** 2)
        if not np.where(leaf, answer, forward).all() or not ((roots >= 0) & (roots < len(node))).all():
            raise ValueError("a rule leads nowhere")
        if roots.shape != (len(LETTERS) + 1,) or not len(question) == len(value) == len(other):
            raise ValueError("rules are missing")
        self._question, self._value, self._other = question.tolist(), value.tolist(), other.tolist()
        self._roots = roots.tolist()

    def pronounce(self, word: str) -> Phones:
        """The phones of ``word`` (a-z and apostrophes); may be empty where no letter sounds."""
        question, value, other = self._question, self._value, self._other
        padded = [0] * (AROUND + 1) + [LETTERS[letter] for letter in word] + [0] * AROUND
        backwards = [0] * BEHIND
        for at in range(len(word) + AROUND, AROUND, -1):
            seen = (
                padded[at - 1 : at - AROUND - 1 : -1] + padded[at + 1 : at + AROUND + 1] + backwards[: -BEHIND - 1 : -1]
            )
            node = self._roots[padded[at]]
            while (asked := question[node]) != LEAF:
                node = node + 1 if seen[asked] == value[node] else other[node]
            first, second = divmod(other[node], len(PHONES))
            if second:
                backwards.append(second)
            if first:
                backwards.append(first)
        return tuple(backwards[: BEHIND - 1 : -1])


class Lexicon:
    """Pronunciations of a language's words, as ids into ``PHONES``; words are those that ``normalise`` writes."""

    def __init__(self, data: bytes, *, where: str = "lexicon") -> None:
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as archive:
                arrays: dict[str, NDArray[Any]] = {name: archive[name] for name in archive.files}
            words = arrays["words"].tobytes().decode("ascii").split("\n")
            phones = arrays["phones"]
            if phones.dtype != np.uint8 or not ((phones < len(PHONES)) | (phones == END_OF_WORD)).all():
                raise ValueError("a phone is not one of ours")
            spoken = phones.tobytes().split(bytes([END_OF_WORD]))
            if len(words) != len(spoken) or words != sorted(words):
                raise ValueError("words are missing or out of order")
            # searched by halves: making a dict takes as long as all the rest
            self._words, self._spoken, self._phones = words, spoken, phones
            self._rules = LetterRules(arrays)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise DataError(f"{where}: not a lexicon of this version ({error}); install Sayso again") from None
        self.sha256 = hashlib.sha256(data).hexdigest()

    @staticmethod
    def load(language: str = "en") -> Lexicon:
        """The lexicon of ``language``, read once; ``DataError`` where there is none or it is damaged."""
        return _load(language)

    def known(self, word: str) -> bool:
        """Whether the dictionary itself lists ``word``."""
        place = bisect_left(self._words, word)
        return place < len(self._words) and self._words[place] == word

    def pronounce(self, word: str, most: int = 4) -> tuple[Phones, ...]:
        """Up to ``most`` pronunciations, in the dictionary's order; exactly one where only the letters tell.

        Never empty for a word with a letter in it.
        """
        found = self._listed(word)
        if not found and (base := self._without_s(word)):
            found = tuple(map(_with_s, self._listed(base) or self._joined(base) or self._guessed(base)))
        return (found or self._joined(word) or self._guessed(word))[:most]

    @property
    def words(self) -> list[str]:
        """The words of the dictionary, in order."""
        return self._words

    def sounds(self) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """All pronunciations of the dictionary at once: phones one after another, where each pronunciation begins among
        them, how many phones it has, and the number of its word."""
        ends = np.flatnonzero((self._phones == END_OF_VARIANT) | (self._phones == END_OF_WORD))
        starts = np.concatenate([[0], ends + 1])
        lengths = np.concatenate([ends, [len(self._phones)]]) - starts
        owner = np.concatenate([[0], np.cumsum(self._phones[ends] == END_OF_WORD)])
        return self._phones, starts, lengths, owner

    def phones(self, text: str) -> list[int]:
        """The first pronunciation of every word of normalised ``text``, one after another."""
        return [phone for word in text.split() for spoken in self.pronounce(word, 1) for phone in spoken]

    def _listed(self, word: str) -> tuple[Phones, ...]:
        if not self.known(word):
            return ()
        spoken = self._spoken[bisect_left(self._words, word)]
        return tuple(tuple(one) for one in spoken.split(bytes([END_OF_VARIANT])))

    def _without_s(self, word: str) -> str:
        """What ``word`` is the possessive or plural of; empty where it is neither, as far as the dictionary knows."""
        if word.endswith("'s"):
            return word[:-2]
        base = word[:-1]
        plural = len(base) >= SHORTEST_PART and word[-1] == "s" != base[-1] and (self.known(base) or self._joined(base))
        return base if plural else ""

    def _joined(self, word: str) -> tuple[Phones, ...]:
        """Two known words in one, the first as long as can be; both have a plural, as words have and most names not."""
        for cut in range(len(word) - SHORTEST_PART, SHORTEST_PART - 1, -1):
            first, second = word[:cut], word[cut:]
            nouns = all(map(self.known, (first, second, first + "s", second + "s")))
            if nouns and not _ENDING.fullmatch(second):
                both = product(self._listed(first), self._listed(second))
                return tuple(dict.fromkeys(one + other for one, other in both))
        return ()

    def _guessed(self, word: str) -> tuple[Phones, ...]:
        """By the letters; spelled out where nobody could say it as a word. Empty for a word without letters."""
        spoken = self._rules.pronounce(word) if VOWELS.intersection(word) else ()
        spoken = spoken or tuple(p for letter in word if letter != "'" for p in self._listed(letter)[-1])
        return (spoken,) if spoken else ()


def _with_s(spoken: Phones) -> Phones:
    """With the ending of plurals and possessives."""
    if spoken[-1] in _SIBILANTS:
        return (*spoken, _IH, _Z)
    return (*spoken, _S if spoken[-1] in _VOICELESS else _Z)


@cache
def _load(language: str) -> Lexicon:
    legal = {path.name.split(".")[1]: path for path in sorted(_FOLDER.glob("lexicon.*.npz"))}
    if language not in legal:
        raise DataError(f"no pronunciations of language '{language}'; {nearest(language, legal)}")
    return Lexicon(legal[language].read_bytes(), where=str(legal[language]))
