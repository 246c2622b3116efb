"""``wetext``, a package of prebuilt transducers, behind the interface of the rules, for who prefers its money, dates and
measures ("200 mi", "16 oz").

It is an extra of 51 MB and not the default: its clock times are wrong ("a quarter to six" is "a 05:45" there) and it
writes numbers that are none ("second to none"), so the rules keep every other kind, and every word that they read as
one. What only ``wetext`` reads has its written form as value.
"""

from __future__ import annotations

from typing import Any

from sayso.core.errors import require
from sayso.text.spans import Kind, Span
from sayso.text.written import RULES, Writer, Written

_KINDS: dict[str, Kind] = {
    "money": "money",
    "date": "date",
    "measure": "measure",
    "time": "time",
    "decimal": "decimal",
    "ordinal": "ordinal",
    "telephone": "phone",
    "electronic": "letters",
    "fraction": "fraction",
}
ITS_OWN: frozenset[Kind] = frozenset({"money", "date", "measure"})


class WetextWriter:
    """``rules`` write first; ``wetext`` then writes what is of ``kinds``, in place of theirs where both do.

    Without ``rules`` it writes alone, every kind. Raises ``MissingExtra`` where the extra ``written`` is not installed.
    """

    def __init__(self, rules: Writer | None = RULES, kinds: frozenset[Kind] = ITS_OWN) -> None:
        package = require("wetext", extra="written", purpose="writing money, dates and measures by wetext")
        self._normalizer: Any = package.Normalizer(lang="en", operator="itn")
        self._rules, self._kinds = rules, kinds

    def write(self, text: str) -> Written:
        """Normalised ``text`` with the spans of both."""
        words = tuple(text.split())
        ours = () if self._rules is None else self._rules.write(text).spans
        theirs = [span for span in self._read(words) if self._rules is None or span.kind in self._kinds]
        kept = list(ours)
        for span in theirs:
            beside = [other for other in kept if other.start < span.end and span.start < other.end]
            inside = all(span.start <= other.start and other.end <= span.end for other in beside)
            if inside and all(other.kind in (*self._kinds, "cardinal") for other in beside):
                kept = [other for other in kept if other not in beside]
                same = [other for other in beside if (other.start, other.end) == (span.start, span.end)]
                kept.append(_valued(span, same[0]) if same else span)
        return Written(words=words, spans=tuple(sorted(kept, key=lambda span: span.start)))

    def _read(self, words: tuple[str, ...]) -> list[Span]:
        """What wetext writes, as spans of whole words."""
        if not words:
            return []
        starts, at = {}, 0
        for index, word in enumerate(words):
            starts[at] = index
            at += len(word) + 1
        ends = {place + len(words[index]): index + 1 for place, index in starts.items()}
        found = []
        for mapping in self._normalizer.normalize_with_mapping(" ".join(words)).mappings:
            if mapping.input_start in starts and mapping.input_end in ends:
                kind = _KINDS.get(mapping.token_type, "cardinal")
                start, end = starts[mapping.input_start], ends[mapping.input_end]
                found.append(Span(start=start, end=end, kind=kind, text=mapping.output_text, value=mapping.output_text))
        return found


def _valued(span: Span, ours: Span) -> Span:
    """Their written form with our value."""
    return Span(
        start=span.start, end=span.end, kind=ours.kind, text=span.text, value=ours.value, ambiguous=ours.ambiguous
    )
