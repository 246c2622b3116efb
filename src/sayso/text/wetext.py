"""``wetext``, a package of prebuilt transducers, behind the interface of the rules, for those who prefer how it writes
money, dates and measures ("205 mph", "16 oz").

The rules decide what is one, and what its value is; ``wetext`` writes it. Left alone it writes numbers that are none
("second to none" becomes "2nd to none") and gets clock times wrong ("a quarter to six" becomes "a 05:45"), and it adds
50 MB to an installation of 236 MB: so it is an extra, not the default.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sayso.core.errors import require
from sayso.text.numbers import NUMBER_WORDS
from sayso.text.spans import Kind, Span
from sayso.text.written import RULES, Writer, Written

WRITTEN_BY_IT: frozenset[Kind] = frozenset({"money", "date", "measure"})


class WetextWriter:
    """Spans of ``rules``; those of ``kinds`` are written by ``wetext`` where it can write all of their words.

    Raises ``MissingExtra`` where the extra ``written`` is not installed.
    """

    def __init__(self, rules: Writer = RULES, kinds: frozenset[Kind] = WRITTEN_BY_IT) -> None:
        package = require("wetext", extra="written", purpose="writing money, dates and measures as wetext does")
        self._normalizer: Any = package.Normalizer(lang="en", operator="itn")
        self._rules, self._kinds = rules, kinds

    def write(self, text: str) -> Written:
        """Normalised ``text`` with its spans."""
        written = self._rules.write(text)
        spans = tuple(self._rewritten(written.words, span) for span in written.spans)
        return replace(written, spans=spans)

    def alone(self, text: str) -> str:
        """What ``wetext`` makes of all of ``text`` without the rules."""
        return str(self._normalizer.normalize(text))

    def _rewritten(self, words: tuple[str, ...], span: Span) -> Span:
        if span.kind not in self._kinds:
            return span
        text = self.alone(" ".join(words[span.start : span.end]))
        whole = bool(text) and NUMBER_WORDS.isdisjoint(text.split())
        return replace(span, text=text) if whole else span
