"""Cardinal and ordinal numbers as English words, and back.

The spoken form is the short one, without "and" and without hyphens ("one hundred five", "forty two"), because the
recogniser spells one form only; reading back is more liberal. Small enough to check against itself over the whole
range, so no package is needed for it.
"""

from __future__ import annotations

from collections.abc import Sequence

LARGEST = 10**12 - 1  # beyond the billions nobody says a number in words

_SMALL = [
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
]
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_SCALES = ((10**9, "billion"), (10**6, "million"), (10**3, "thousand"))
_ORDINALS = {
    "one": "first",
    "two": "second",
    "three": "third",
    "five": "fifth",
    "eight": "eighth",
    "nine": "ninth",
    "twelve": "twelfth",
}
_UNITS = {word: value for value, word in enumerate(_SMALL)}
_TENS_VALUE = {word: 10 * (index + 2) for index, word in enumerate(_TENS)}
_SCALE_VALUE = {word: value for value, word in _SCALES}
NUMBER_WORDS = frozenset({*_UNITS, *_TENS_VALUE, *_SCALE_VALUE, "hundred"})
DIGITS = {word: value for word, value in _UNITS.items() if value <= 9}
ORDINAL_WORDS = {  # to the cardinal's word
    **{_ORDINALS.get(word, f"{word}th"): word for word in _SMALL},
    **{f"{word[:-1]}ieth": word for word in _TENS},
    **{f"{word}th": word for word in ("hundred", *_SCALE_VALUE)},
}
_LONGEST_ORDINAL = 12  # words


def number_words(n: int) -> str:
    """A cardinal: 105 gives "one hundred five", -4 "minus four".

    Raises ``ValueError`` beyond +-``LARGEST``.
    """
    if abs(n) > LARGEST:
        raise ValueError(f"{n} has no number words here; legal is -{LARGEST} to {LARGEST}")
    if n < 0:
        return "minus " + number_words(-n)
    words: list[str] = []
    for value, name in _SCALES:
        if n >= value:
            words += [*_below_thousand(n // value), name]
            n %= value
    if n or not words:
        words += _below_thousand(n)
    return " ".join(words)


def ordinal_words(n: int) -> str:
    """An ordinal: 21 gives "twenty first", 100 "one hundredth".

    Raises ``ValueError`` for negative numbers and beyond ``LARGEST``.
    """
    if n < 0:
        raise ValueError(f"{n} has no ordinal; legal is 0 to {LARGEST}")
    *front, last = number_words(n).split()
    if last in _ORDINALS:
        last = _ORDINALS[last]
    elif last in _TENS_VALUE:
        last = last[:-1] + "ieth"
    else:
        last += "th"
    return " ".join([*front, last])


def year_words(n: int) -> str:
    """A year of four digits as it is said: "nineteen eighty four", "nineteen oh five", "nineteen hundred", "two
    thousand six".

    Raises ``ValueError`` outside 1000 to 9999.
    """
    if not 1000 <= n <= 9999:
        raise ValueError(f"{n} is not a year of four digits; legal is 1000 to 9999")
    century, rest = divmod(n, 100)
    if century % 10 == 0 and rest < 10:  # 1000, 2006: nobody says "twenty oh six"
        return number_words(n)
    if rest == 0:
        return f"{number_words(century)} hundred"
    return f"{number_words(century)} {'oh ' if rest < 10 else ''}{number_words(rest)}"


def words_to_number(words: str) -> int | None:
    """The integer that ``words`` say as a cardinal, or None when they do not say exactly one.

    The inverse of ``number_words``, and more liberal: hyphens and capitals do not matter; "and" may stand after a
    hundred or a larger scale ("one hundred and five"); "a" may stand for one before a scale ("a hundred", "a thousand
    and one"); eleven to ninety nine may count hundreds ("fifteen hundred"). Ordinals, decimals, years in pairs
    ("twenty twenty six"), digit strings ("one two three") and scales that do not descend ("one thousand two million")
    give None.
    """
    parts = words.lower().replace("-", " ").split()
    sign = 1
    if parts[:1] in (["minus"], ["negative"]):
        sign, parts = -1, parts[1:]
    value, end = read_cardinal(parts, 0)
    return sign * value if value is not None and end == len(parts) else None


def read_cardinal(parts: Sequence[str], at: int, *, joined: bool = True) -> tuple[int | None, int]:
    """The longest cardinal that begins at word ``at``, as ``words_to_number`` reads them; (None, ``at``) where there is
    none.

    Without ``joined`` no "and" belongs to the number ("between one hundred and two hundred"). Where a longer reading
    would leave a stray "hundred" or scale behind, it ends earlier: "one hundred and two hundred" begins with 100.
    """
    if at < len(parts) and parts[at] == "zero":
        return 0, at + 1
    total, end, limit = 0, at, LARGEST + 1
    while end < len(parts):
        begin = end + 1 if joined and total and parts[end] == "and" else end
        group, following = _read_group(parts, begin, joined=joined)
        if group is None or (total and group > 999):
            break
        scale = _SCALE_VALUE.get(parts[following], 1) if following < len(parts) else 1
        if scale >= limit or (scale > 1 and (group > 999 or total + group * scale > LARGEST)):
            break
        total, end, limit = total + group * scale, following + (scale > 1), scale
        if scale == 1:
            break
    return (total, end) if total else (None, at)


def read_ordinal(parts: Sequence[str], at: int) -> tuple[int | None, int]:
    """The ordinal that begins at word ``at`` ("first", "one hundred and fifth") and its end; (None, ``at``) where there
    is none."""
    for place in range(at, min(len(parts), at + _LONGEST_ORDINAL)):
        if parts[place] in ORDINAL_WORDS:
            cardinal = [*parts[at:place], ORDINAL_WORDS[parts[place]]]
            value, end = read_cardinal(cardinal, 0)
            return (value, place + 1) if value is not None and end == len(cardinal) else (None, at)
        if parts[place] not in NUMBER_WORDS and parts[place] not in ("and", "a"):
            break
    return None, at


def _below_thousand(n: int) -> list[str]:
    """Words of 0 to 999."""
    if n >= 100:
        return [_SMALL[n // 100], "hundred", *(_below_thousand(n % 100) if n % 100 else [])]
    if n < 20:
        return [_SMALL[n]]
    return [_TENS[n // 10 - 2], *([_SMALL[n % 10]] if n % 10 else [])]


def _read_group(parts: Sequence[str], at: int, *, joined: bool = True) -> tuple[int | None, int]:
    """A number of 1 to 9999 in hundreds, tens and units that starts at ``at``; its value (None: no number) and its
    end."""
    value, end = _read_pair(parts, at)
    if value is None and at + 1 < len(parts) and parts[at] == "a":
        following = parts[at + 1]
        value, end = (1, at + 1) if following == "hundred" or following in _SCALE_VALUE else (None, at)
    if value is None:
        return None, at
    if end >= len(parts) or parts[end] != "hundred":
        return value, end
    if value % 10 == 0:  # "ten hundred", "twenty hundred": nobody says these
        return None, at
    rest_at = end + 2 if joined and end + 1 < len(parts) and parts[end + 1] == "and" else end + 1
    rest, rest_end = _read_pair(parts, rest_at)
    if rest is None or (rest_end < len(parts) and parts[rest_end] == "hundred"):
        return value * 100, end + 1
    return value * 100 + rest, rest_end


def _read_pair(parts: Sequence[str], at: int) -> tuple[int | None, int]:
    """1 to 99 starting at ``at``."""
    if at >= len(parts):
        return None, at
    first = parts[at]
    if first in _TENS_VALUE:
        second = _UNITS.get(parts[at + 1], 0) if at + 1 < len(parts) else 0
        return (_TENS_VALUE[first] + second, at + 2) if 1 <= second <= 9 else (_TENS_VALUE[first], at + 1)
    value = _UNITS.get(first, 0)
    return (value, at + 1) if value else (None, at)
