"""What the rules that write spoken words share: spans of words with a written form and a typed value.

A rule looks at one place of a sentence and says how many words it can write, or None. Values are ISO where there is a
standard, so that a program can read them: times ``17:45``, dates ``2026-06-03``, ``--06-03`` (no year) and ``---26``
(the day alone), durations ``PT1H30M``, money ``5.20 USD``; numbers are plain decimals. ``ambiguous`` holds every
reading where the words allow several: a quarter to six is ``5:45``, and may be ``05:45`` or ``17:45``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Kind = Literal[
    "cardinal", "ordinal", "decimal", "fraction", "percent", "money", "measure", "duration", "time", "date", "phone",
    "digits", "letters", "address",
]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Span:
    """Words ``start`` to ``end`` (exclusive) of the spoken text, written as ``text``; ``value`` is for programs."""

    start: int
    end: int
    kind: Kind
    text: str
    value: str
    ambiguous: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a rule looks: word ``at`` of ``words``. ``lone``: the words are known to be a value of the rule's kind, so
    nothing around them has to say so. ``before``: the span that was found last."""

    words: tuple[str, ...]
    at: int
    lone: bool = False
    before: Span | None = None

    def word(self, offset: int = 0) -> str:
        """The word ``offset`` places on; empty outside the sentence."""
        place = self.at + offset
        return self.words[place] if 0 <= place < len(self.words) else ""

    def spoken(self, end: int) -> str:
        """The words from here to ``end`` as they were said."""
        return " ".join(self.words[self.at : end])

    def moved(self, at: int) -> Place:
        """The same sentence, seen from word ``at``."""
        return Place(words=self.words, at=at, lone=self.lone, before=self.before)

    def span(self, end: int, kind: Kind, text: str, value: str, *ambiguous: str) -> Span:
        """A span from here to ``end``."""
        return Span(start=self.at, end=end, kind=kind, text=text, value=value, ambiguous=ambiguous)


Rule = Callable[[Place], Span | None]
