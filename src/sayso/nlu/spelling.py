"""How the words of a domain become tokens: spelled in the tokenizer's pieces, or pronounced in a lexicon's phones.

Spelling needs a network that can write every word; phones are few and heard in all words alike, so that a word which no
training holds is as well known as its sounds (the lexicon of a hybrid recogniser; Miao et al. 2015, "EESEN"). A
pronounced word is known by its first token, one for each (word, first phone): inner phones are shared by all words.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from sayso.core.automaton import Automaton, Ints
from sayso.core.errors import DomainError
from sayso.text.lexicon import PHONES, Lexicon

Ways = tuple[tuple[int, ...], ...]
_AA, _AO, _R = map(PHONES.index, ("AA", "AO", "R"))
_MOST_WAYS = 16  # of one list value or written word: variants of its words multiply


class Tokens(Protocol):
    """What compilation needs of a tokenizer."""

    @property
    def pieces(self) -> tuple[str, ...]:
        """Text of every token; '▁' opens a word."""

    @property
    def sha256(self) -> str:
        """Hash of the tokenizer model."""

    def encode(self, text: str) -> list[int]:
        """Tokens of normalised text, the same whether a word stands alone or in a sentence."""


class Speller(Protocol):
    """Words to tokens."""

    def word(self, word: str) -> Ways:
        """All ways to say a whole word, at least one; ``DomainError`` when there is none."""

    def ending(self, text: str) -> Ways:
        """The same of what is glued to a word already begun."""


class Pieces:
    """Words in the tokenizer's pieces, each word once and in one way."""

    def __init__(self, tokenizer: Tokens) -> None:
        self.tokenizer = tokenizer
        self._words: dict[str, tuple[int, ...]] = {}
        self._inner = {p: i for i, p in enumerate(tokenizer.pieces) if i > 1 and p and not p.startswith("▁")}
        self._longest = max(map(len, self._inner), default=1)

    def word(self, word: str) -> Ways:
        """As ``Speller.word``; there is none when the tokenizer lacks a letter."""
        tokens = self._words.get(word)
        if tokens is None:
            tokens = self._words[word] = tuple(self.tokenizer.encode(word))
            if not tokens or min(tokens) < 2:
                raise DomainError(
                    f"the word '{word}' has letters that the model cannot spell; write it as it is spoken"
                )
        return (tokens,)

    def ending(self, text: str) -> Ways:
        """As ``Speller.ending``: longest pieces first, none opens a word."""
        tokens: list[int] = []
        while text:
            size = next((n for n in range(min(self._longest, len(text)), 0, -1) if text[:n] in self._inner), 0)
            if not size:
                raise DomainError(
                    f"the model cannot spell '{text}' as the end of a word; write the list's values with it"
                )
            tokens.append(self._inner[text[:size]])
            text = text[size:]
        return (tuple(tokens),)


class Phones:
    """Words as a lexicon pronounces them; new words become new tokens behind those of ``known``.

    Tokens are, in order: the phones, the phones once more for open slots, the tokenizer's pieces, and words.
    """

    def __init__(self, tokenizer: Tokens, lexicon: Lexicon, known: Automaton | None = None) -> None:
        self.lexicon = lexicon
        count = len(PHONES)
        silent = [*PHONES[:1], *[""] * (count - 1)]
        if known is None:
            self._pieces = [*silent, *silent, *tokenizer.pieces]
            self._rows = [*range(count), *range(count), *[0] * len(tokenizer.pieces)]
        else:
            self._pieces, self._rows = list(known.pieces), known.rows.tolist()
        self.open_tokens = tuple(range(count + 1, 2 * count))
        self.spelled = 2 * count
        first = self.spelled + len(tokenizer.pieces)
        self._tokens = {(self._pieces[i], self._rows[i]): i for i in range(first, len(self._pieces))}

    @property
    def pieces(self) -> tuple[str, ...]:
        """Text of every token so far."""
        return tuple(self._pieces)

    @property
    def rows(self) -> Ints:
        """The phone that every token so far is heard as."""
        return np.array(self._rows, np.int32)

    def word(self, word: str) -> Ways:
        """As ``Speller.word``: one way for each pronunciation, those of speakers who merge two vowels among them."""
        listed = self.lexicon.pronounce(word)
        return self._said(f"▁{word}", tuple(dict.fromkeys((*listed, *map(_merged, listed)))))

    def ending(self, text: str) -> Ways:
        """As ``Speller.ending``; how an s sounds depends on the word before it, which a list may fill in any way."""
        plural = ("Z",), ("S",), ("IH", "Z")
        sounds = tuple(tuple(PHONES.index(phone) for phone in way) for way in plural)
        return self._said(text, sounds if text in ("s", "'s", "es") else self.lexicon.pronounce(text))

    def _said(self, piece: str, sounds: Ways) -> Ways:
        if not sounds:
            raise DomainError(f"nobody can say '{piece.lstrip('▁')}'; write it as it is spoken")
        return tuple((self._token(piece, phones[0]), *phones[1:]) for phones in sounds)

    def _token(self, piece: str, phone: int) -> int:
        token = self._tokens.setdefault((piece, phone), len(self._pieces))
        if token == len(self._pieces):
            self._pieces.append(piece)
            self._rows.append(phone)
        return token


def _merged(phones: tuple[int, ...]) -> tuple[int, ...]:
    """As those say it for whom "caught" is "cot": the vowel AO is AA but before R (Labov, Ash, Boberg 2006, ch. 9).
    The dictionary gives both of "on" and one of "off"; a grammar of both words must not prefer the former by that."""
    return tuple(_AA if phone == _AO and phones[at + 1 : at + 2] != (_R,) else phone for at, phone in enumerate(phones))


def speller_of(automaton: Automaton, tokenizer: Tokens) -> Pieces | Phones:
    """What spells or pronounces more words for a compiled domain; ``DomainError`` where its lexicon is another one."""
    if not automaton.lexicon:
        return Pieces(tokenizer)
    lexicon = Lexicon.load()
    if lexicon.sha256 != automaton.lexicon:
        raise DomainError(f"domain '{automaton.domain}' was compiled with another lexicon; build it again")
    return Phones(tokenizer, lexicon, automaton)


def ways(speller: Speller, words: Sequence[str], begun: str = "") -> list[tuple[int, ...]]:
    """All ways to say ``words``, behind the end ``begun`` of a word that another began; at most a few."""
    parts = [speller.ending(begun)] if begun else []
    parts += [speller.word(word) for word in words]
    every = itertools.islice(itertools.product(*parts), _MOST_WAYS)
    return list(dict.fromkeys(tuple(itertools.chain.from_iterable(way)) for way in every))
