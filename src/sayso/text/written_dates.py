"""Spoken dates and years to written ones: the order of the words stays as it was said, only numbers become digits."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from sayso.text.numbers import DIGITS, NUMBER_WORDS, ORDINAL_WORDS, read_cardinal, read_ordinal
from sayso.text.spans import Place, Span
from sayso.text.written_amounts import suffix

_NAMES = (
    "january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november",
    "december",
)  # fmt: skip
MONTHS = {name: number for number, name in enumerate(_NAMES, 1)}
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_DAYS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_VERBS = {"may", "march"}  # months that are other words too
_DATE_CUES = {
    "", "on", "for", "of", "by", "until", "till", "since", "before", "after", "this", "next", "last", "from", "to",
    "the", "is", "in", "and", "through", "date", "starting", "around", *WEEKDAYS,
}  # fmt: skip
_AFTER_DAYS = {"", "at", "from", "to", "and", "for", "on", "this", "next", "until", "with"}
_YEAR_CUES = {"in", "since", "of", "year", "from", "until", "by", "before", "after", "during", "around", "till"}
_NOT_YEARS = {"percent", "dollars", "degrees", "minutes", "people", "miles", "hours", "point", "times", "and"}
_DECADES = {"twenties": 20, "thirties": 30, "forties": 40, "fifties": 50, "sixties": 60, "seventies": 70,
            "eighties": 80, "nineties": 90}  # fmt: skip
_RELATIVE = {
    ("today",): 0,
    ("tonight",): 0,
    ("tomorrow",): 1,
    ("yesterday",): -1,
    ("the", "day", "after", "tomorrow"): 2,
    ("day", "after", "tomorrow"): 2,
    ("the", "day", "before", "yesterday"): -2,
}


@dataclass(frozen=True)
class _Day:
    """A day of the month as said: its text keeps "1st" where an ordinal was said."""

    value: int
    text: str
    end: int
    ordinal: bool


def date(place: Place) -> Span | None:
    """ "june first", "june the twenty first twenty twenty five", "the first of june", "twenty three march", "june
    twenty twenty five"."""
    return _month_first(place) if place.word() in MONTHS else _day_first(place)


def year(place: Place) -> Span | None:
    """ "nineteen eighty four", "twenty twenty six"; the first half of a thousand years needs a word that years follow,
    since "twelve fifty" is more often something else."""
    found = read_year(place.words, place.at)
    if found is None:
        return _decade(place)
    value, end = found
    following = place.words[end] if end < len(place.words) else ""
    cued = place.word(-1) in _YEAR_CUES
    if following in NUMBER_WORDS or (following in _NOT_YEARS and not (cued and following == "and")):
        return None
    if value >= 2030 and value % 10 == 0 and not (cued or place.lone):
        return None  # "twenty thirty" counts on
    if not (1700 <= value <= 2099 or cued or place.lone) or (place.word(-1) == "at" and value % 100 < 60):
        return None
    if place.words[end - 1] in ("hundred", "thousand") or "thousand" in place.words[place.at : end]:
        return None if not cued or place.words[end - 1] in ("hundred", "thousand") else _years(place, value, end)
    return _years(place, value, end)


def _years(place: Place, value: int, end: int) -> Span:
    return place.span(end, "date", str(value), str(value))


def _decade(place: Place) -> Span | None:
    """ "the nineteen eighties", "the twenty twenties"."""
    value, end = read_cardinal(place.words[: place.at + 1], place.at)
    if value is None or not 11 <= value <= 20 or end >= len(place.words) or place.words[end] not in _DECADES:
        return None
    start = value * 100 + _DECADES[place.words[end]]
    return place.span(end + 1, "date", f"{start}s", f"{start // 10}X")


def read_year(words: tuple[str, ...], at: int) -> tuple[int, int] | None:
    """A year of four digits in pairs ("twenty oh six"), or with a thousand ("two thousand and seventeen")."""
    century, end = read_cardinal(words[: at + 1], at)
    if century is not None and 10 <= century <= 20:
        if words[end : end + 1] in (("oh",), ("o",)) and "".join(words[end + 1 : end + 2]) in DIGITS:
            return century * 100 + DIGITS[words[end + 1]], end + 2
        rest, last = read_cardinal(words[: end + 2], end, joined=False)
        if rest is not None and 10 <= rest <= 99:
            return century * 100 + rest, last
    value, end = read_cardinal(words, at)
    return (value, end) if value is not None and 1000 <= value <= 2999 else None


def _day(words: tuple[str, ...], at: int, month: int) -> _Day | None:
    value, end = read_ordinal(words, at)
    if value is not None:
        return _Day(value, f"{value}{suffix(value)}", end, True) if 1 <= value <= _DAYS[month - 1] else None
    value, end = read_cardinal(words[: at + 2], at, joined=False)
    if value is None or value > 31:  # "march nineteen nineteen eighty"
        value, end = read_cardinal(words[: at + 1], at)
    if value is None or not 1 <= value <= _DAYS[month - 1] or words[at] == "a":
        return None
    return _Day(value, str(value), end, False)


def _month_first(place: Place) -> Span | None:
    words, name = place.words, place.word()
    month, shown = MONTHS[name], name.capitalize()
    the = place.word(1) == "the"
    found = _day(words, place.at + 1 + the, month)
    full, end = (None, place.at) if the else _with_year(words, place.at + 1)
    if full is not None and (found is None or end > found.end + found.ordinal):
        # "june twenty twenty five" is a month of a year, "june twenty first" a day
        unsure = name in _VERBS and place.word(-1) not in _DATE_CUES and not place.lone
        return None if unsure else place.span(end, "date", f"{shown} {full}", f"{full}-{month:02d}")
    if found is None or (the and not found.ordinal):
        return None
    again = place.before is not None and place.before.kind == "date" and place.before.end == place.at - 1
    if name in _VERBS and not place.lone and not again and not _is_month(place, found):
        return None
    full, end = _with_year(words, found.end)
    if full is None and not _whole(words, end):
        return None
    text = f"{shown} {'the ' if the else ''}{found.text}{f', {full}' if full else ''}"
    return place.span(end, "date", text, _iso(full, month, found.value))


def _is_month(place: Place, day: _Day) -> bool:
    """ "on may fifth" and "march nineteen" are dates; "you may first", "march two by two" are not."""
    previous = place.word(-1)
    if day.ordinal:
        return previous not in ("i", "you", "we", "they", "he", "she", "it", "that", "who", "there", "one")
    following = place.words[day.end] if day.end < len(place.words) else ""
    return previous in _DATE_CUES and previous != "to" and following not in ("by", "people", "of")


def _day_first(place: Place) -> Span | None:
    """ "[the] first of june", "twenty three march", and "twenty first" alone where a date is known to be said."""
    words, at = place.words, place.at
    the = words[at] == "the"
    value, end = read_ordinal(words, at + the)
    ordinal = value is not None
    if value is None and not the:
        value, end = read_cardinal(words[: at + 2], at, joined=False)
    if value is None or not 1 <= value <= 31:
        return None
    text = f"{'the ' if the else ''}{value}{suffix(value) if ordinal else ''}"
    of = words[end : end + 1] == ("of",)
    name = "".join(words[end + of : end + of + 1])
    if name not in MONTHS or value > _DAYS[MONTHS[name] - 1] or (of and not ordinal):
        return place.span(end, "date", text, f"---{value:02d}") if place.lone and ordinal else None
    if name in _VERBS and not of and not place.lone and read_year(words, end + 1) is None:
        following = "".join(words[end + 1 : end + 2])
        if following not in _AFTER_DAYS and not (ordinal and name == "march"):
            return None  # "the first may be"
    full_year, last = _with_year(words, end + of + 1)
    text += f" {'of ' if of else ''}{name.capitalize()}{f' {full_year}' if full_year else ''}"
    return place.span(last, "date", text, _iso(full_year, MONTHS[name], value))


def _with_year(words: tuple[str, ...], at: int) -> tuple[int | None, int]:
    """The year behind a day, and the end."""
    found = read_year(words, at)
    if found is None or not 1000 <= found[0] <= 2999 or not _whole(words, found[1]):
        return None, at
    return found


def _whole(words: tuple[str, ...], end: int) -> bool:
    """Whether the number is over at ``end``."""
    if words[end : end + 1] == ("and",) and "".join(words[end + 1 : end + 2]) in ORDINAL_WORDS:
        return False
    return end >= len(words) or words[end] not in {*NUMBER_WORDS, "oh", "percent", "point"}


def _iso(year: int | None, month: int, day: int) -> str:
    return f"{'-' if year is None else year}-{month:02d}-{day:02d}"


def relative_date(words: tuple[str, ...], today: dt.date | None) -> tuple[str, tuple[str, ...]] | None:
    """The value of "tomorrow" or "next monday", and all readings where there are several.

    Without ``today`` the words are their own value. "next monday" may be the coming one or the one after it, and a
    weekday said on that day may be today.
    """
    said = " ".join(words)
    if words in _RELATIVE:
        return (said if today is None else str(today + dt.timedelta(days=_RELATIVE[words])), ())
    name = words[-1] if words else ""
    if name not in WEEKDAYS or words[:-1] not in ((), ("this",), ("next",), ("on",), ("coming",), ("last",)):
        return None
    if today is None:
        return said.removeprefix("on "), ()
    ahead = (WEEKDAYS.index(name) - today.weekday()) % 7
    if words[0] == "last":
        return str(today - dt.timedelta(days=(7 - ahead) if ahead else 7)), ()
    first = today + dt.timedelta(days=ahead or (7 if words[0] == "next" else 0))
    following = first + dt.timedelta(days=7)
    open_ = words[0] == "next" or ahead == 0
    return str(first), (str(first), str(following)) if open_ else ()
