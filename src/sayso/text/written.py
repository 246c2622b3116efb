"""What was said, as it is written: "a quarter to six" to "5:45", and typed values of it (inverse text normalisation).

Rules, not a network: a time or a price is right or wrong, and a rule says why. At every word that can begin a number
the rules of all kinds read as far as they can and the longest reading wins; what they cannot read for certain stays as
it was said, so that nothing is shown that was not meant. The classes are those of Sproat et al. 2001 and of the
grammars of Zhang et al. 2021; their transducers need a library of 700 MB, these rules need nothing. Every edit is a
span over the spoken words, so it can be undone. ``Writer`` is the interface: another package may stand behind it
(``text/wetext.py``).
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

from sayso.core.errors import UsageError, nearest
from sayso.text.numbers import NUMBER_WORDS, ORDINAL_WORDS
from sayso.text.spans import Place, Rule, Span
from sayso.text.written_amounts import duration, measure, money, number, ordinal, percent, plain, read_amount
from sayso.text.written_codes import address, digits, frequency, letters, phone
from sayso.text.written_dates import MONTHS, date, read_year, relative_date, year
from sayso.text.written_times import clock

ValueType = Literal["number", "time", "date", "duration"]
VALUE_TYPES: tuple[str, ...] = get_args(ValueType)


def _range(place: Place) -> Span | None:
    """The first number of "five to ten minutes", "two or three percent", "between nine and five pm": it is counted, as
    the second is, and so it is not too small for digits."""
    amount = read_amount(place)
    joint = "" if amount is None or amount.end >= len(place.words) else place.words[amount.end]
    if amount is None or not amount.small or amount.article or place.word() in ("minus", "negative", "point"):
        return None
    if joint not in ("to", "or") and not (joint == "and" and place.word(-1) == "between"):
        return None
    following = place.moved(amount.end + 1)
    found = _longest(_COUNTED, following) if amount.end + 1 < len(place.words) else None
    if found is None or not any(char.isdigit() for char in found.text):
        return None
    return place.span(amount.end, "cardinal", amount.text, plain(amount.value))


_COUNTED: tuple[Rule, ...] = (money, percent, duration, measure, clock)
_NUMBERS: tuple[Rule, ...] = (
    clock,
    date,
    year,
    phone,
    address,
    money,
    percent,
    duration,
    measure,
    digits,
    frequency,
    letters,
    ordinal,
    number,
    _range,
)
_ARTICLE: tuple[Rule, ...] = (clock, duration, money, percent, measure, number)
_RULES: dict[str, tuple[Rule, ...]] = {
    **dict.fromkeys((*NUMBER_WORDS, *ORDINAL_WORDS), _NUMBERS),
    **dict.fromkeys(("oh", "o", "double", "triple"), (clock, phone, digits, letters, address)),
    **dict.fromkeys(("a", "an"), (*_ARTICLE, letters)),
    **dict.fromkeys(("half", "quarter", "noon", "midday", "midnight"), _ARTICLE),
    **dict.fromkeys(("minus", "negative", "point"), (money, percent, measure, number)),
    **dict.fromkeys(MONTHS, (date,)),
    **dict.fromkeys("bcdefghijklmnpqrstuvwxyz", (letters,)),
    "the": (date,),
    "plus": (phone,),
}
_TOGETHER = {*NUMBER_WORDS, *ORDINAL_WORDS, "oh", "point"}
_LEADING = {"at", "by", "for", "around", "about", "on", "in", "to", "exactly", "it's", "until", "the", "from", "say"}
_TRAILING = {"please", "now", "thanks", "exactly", "sharp"}


@dataclass(frozen=True)
class Value:
    """A typed value as a string; ``ambiguous`` has every reading where the words allow several."""

    text: str
    ambiguous: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Written:
    """Spoken ``words`` with the spans that are written otherwise, in order and apart from each other."""

    words: tuple[str, ...]
    spans: tuple[Span, ...] = ()

    @property
    def spoken(self) -> str:
        """The words as they were said."""
        return " ".join(self.words)

    @property
    def text(self) -> str:
        """The written form; empty for no words."""
        parts: list[str] = []
        at = 0
        for span in self.spans:
            parts += [*self.words[at : span.start], span.text]
            at = span.end
        return " ".join((*parts, *self.words[at:]))


class Writer(Protocol):
    """Whatever writes spoken words."""

    def write(self, text: str) -> Written:
        """Normalised ``text`` (see ``text/normalise.py``) with its spans."""
        ...


class Rules:
    """The rules of this package: complete, and the default."""

    def write(self, text: str) -> Written:
        """Normalised ``text`` with its spans; words that no rule is sure of stay."""
        words = tuple(text.split())
        spans: list[Span] = []
        at = 0
        while at < len(words):
            rules = _RULES.get(words[at])
            if rules is None:
                at += 1
                continue
            found = _longest(rules, Place(words=words, at=at, before=spans[-1] if spans else None))
            if found is not None:
                spans.append(found)
                at = found.end
            else:  # numbers that make no sense together stay together
                at += 1
                while words[at - 1] in {*NUMBER_WORDS, "oh", "point"} and at < len(words) and words[at] in _TOGETHER:
                    at += 1
        return Written(words=words, spans=tuple(spans))


def _longest(rules: tuple[Rule, ...], place: Place) -> Span | None:
    """The reading that covers most words; the first of equals."""
    best: Span | None = None
    for rule in rules:
        found = rule(place)
        if found is not None and (best is None or found.end > best.end):
            best = found
    return best


def value_of(text: str, kind: str | None, *, today: dt.date | None = None) -> Value | None:
    """The value that ``text`` (normalised) says, for a slot of type ``kind``: ``number``, ``time``, ``date`` or
    ``duration``; None where it says none.

    Words around the value do not matter ("at half past six please"). ``today`` turns "tomorrow" and weekdays into
    dates; without it they stay words. Raises ``UsageError`` for another type.
    """
    if kind not in VALUE_TYPES:
        raise UsageError(f"slot type '{kind}' has no typed values; {nearest(str(kind), VALUE_TYPES)}")
    words = text.split()
    while words:
        found = _lone(tuple(words), kind, today)
        if found is not None:
            return found
        if words[0] in _LEADING:
            words = words[1:]
        elif words[-1] in _TRAILING:
            words = words[:-1]
        else:
            break
    if kind == "time":  # "tomorrow morning at ten"
        for at in range(1, len(words)):
            said = clock(Place(words=tuple(words), at=at, lone=True)) if words[at - 1] in _LEADING else None
            if said is not None and said.end == len(words):
                return Value(said.value, said.ambiguous)
    spans = [span for span in RULES.write(text).spans if span.kind in _KINDS[kind]]
    if len(spans) != 1:
        return None
    return Value(spans[0].value, spans[0].ambiguous)


def slot_value(text: str, kind: str | None) -> str:
    """The value of an open slot of type ``kind`` that holds ``text``: typed where the words say one, else verbatim."""
    return slot_readings(text, kind)[0]


def slot_readings(text: str, kind: str | None) -> tuple[str, tuple[str, ...]]:
    """``slot_value``, and all that it may be where the words leave that open: ``("5:45", ("05:45", "17:45"))``."""
    found = value_of(text, kind) if kind in VALUE_TYPES else None
    return (text, ()) if found is None else (found.text, found.ambiguous)


_KINDS = {
    "number": ("cardinal", "decimal", "fraction", "percent", "digits", "ordinal"),
    "time": ("time",),
    "date": ("date",),
    "duration": ("duration",),
}
_LONE: dict[str, tuple[Rule, ...]] = {"time": (clock,), "date": (date, year), "duration": (duration,)}


def _lone(words: tuple[str, ...], kind: str, today: dt.date | None) -> Value | None:
    """The value of words that say nothing else."""
    place = Place(words=words, at=0, lone=True)
    if kind == "number":
        return _number(place)
    if kind == "date":
        relative = relative_date(words, today)
        if relative is not None:
            return Value(*relative)
    found = _longest(_LONE[kind], place)
    return Value(found.value, found.ambiguous) if found is not None and found.end == len(words) else None


def _number(place: Place) -> Value | None:
    """A number, with the unit or percent that may stand behind it; then ordinals, pairs and single digits."""
    count = len(place.words)
    for rule in (number, percent):
        found = rule(place)
        if found is not None and found.end == count:
            return Value(found.value)
    for rule in (measure, duration):
        found, amount = rule(place), read_amount(place)
        if found is not None and amount is not None and found.end == count <= amount.end + 2:
            return Value(plain(amount.value))
    if place.words in (("half",), ("a", "half")):
        return Value("0.5")
    for rule in (ordinal, digits):
        found = rule(place)
        if found is not None and found.end == count:
            return Value(found.value)
    pairs = read_year(place.words, 0)
    return Value(str(pairs[0])) if pairs is not None and pairs[1] == count else None


RULES = Rules()
