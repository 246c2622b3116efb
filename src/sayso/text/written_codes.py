"""Digits said one by one, in pairs, or with letters: telephone numbers, codes, room and flight numbers, addresses."""

from __future__ import annotations

from dataclasses import dataclass

from sayso.text.numbers import DIGITS, NUMBER_WORDS, ORDINAL_WORDS, read_cardinal, read_ordinal
from sayso.text.spans import Place, Span
from sayso.text.written_amounts import SMALL, UNITS, suffix

_DIGITS = {word: str(value) for word, value in DIGITS.items()} | {"oh": "0", "o": "0"}
_TIMES = {"double": 2, "triple": 3}
_PHONE = range(7, 16)  # digits of a telephone number (ITU-T E.164 allows fifteen)
_CALLING = {"call", "dial", "phone", "ring", "text", "message"}
# words whose number is a name, so that it is written in digits however it is said ("room one oh five")
_NAMED = {
    "room", "route", "highway", "interstate", "flight", "channel", "station", "gate", "platform", "bus", "train",
    "number", "extension", "apartment", "suite", "floor", "level", "chapter", "page", "episode", "season", "code",
    "pin", "zip", "box", "exit", "track", "item", "version", "section", "model", "password", "seat", "unit", "terminal",
    "step", "row", "aisle", "flat", "psalm", "phase", "volume",
}  # fmt: skip
_STREETS = {
    "street", "avenue", "road", "drive", "lane", "boulevard", "court", "place", "square", "terrace", "parkway", "alley",
    "crescent", "plaza", "circle",
}  # fmt: skip
_OTHER_WORDS = {"place", "court", "square", "drive", "circle", "lane", "terrace", "alley"}
_SIDES = {"north", "south", "east", "west"}
_NUMBERED = {"street", "avenue", "boulevard", "road"}
_ANY = {"the", "a", "every", "next", "this", "that", "my", "your"}  # "the first street on the left" has no number
_NOT_AFTER = {
    "trip",
    "trips",
    "food",
    "art",
    "light",
    "lights",
    "map",
    "maps",
    "view",
    "test",
    "tests",
    "party",
    "signs",
}
_NOT_STREETS = {
    "the", "of", "a", "an", "my", "your", "his", "her", "our", "their", "to", "in", "at", "for", "and", "or", "on",
    "with", "from", "this", "that", "minute", "hour", "people", "o'clock", "am", "pm", "percent", "per", "good", "nice",
    *UNITS, *NUMBER_WORDS, *ORDINAL_WORDS,
}  # fmt: skip
_CODE_CUES = {"code", "pin", "password", "plate", "spell", "letters", "flight", "number", "reference", "postcode"}
_VOWEL_WORDS = {"a", "i", "o"}
_PAIRS = {
    "tv",
    "uk",
    "us",
    "eu",
    "pc",
    "dj",
    "dc",
    "uv",
    "hd",
    "vr",
    "nz",
}  # two letters that are spelled in a sentence
_SWALLOWED = {"rnb", "snp", "qna", "bnb", "mns", "dnd", "hnm", "pnl"}  # an "and" in the middle is no letter
_COMMON = {  # spellings that begin or end with a letter that is a word too
    "ibm", "abc", "atm", "irs", "aol", "iq", "id", "ai", "ac", "ok", "aaa", "api", "ios", "usa", "nba", "cia", "dna",
    "fda", "mba", "rna", "nsa", "epa", "fbi", "ceo", "cfo", "cto", "ufo", "hbo", "gpa", "eta", "nasa", "ira", "imdb",
}  # fmt: skip
_QUANTITIES = {*UNITS, "percent", "dollars", "euros", "cents", "times", "people", "o'clock"}


@dataclass(frozen=True)
class _Digits:
    """Digits as said: how many words gave one digit each, and the end."""

    text: str
    end: int
    singles: int
    words: int


def _read_digits(words: tuple[str, ...], at: int, *, pairs: bool = True) -> _Digits:
    """The longest string of digits: single ones, "double seven", pairs ("twelve"), "eight hundred" at the front."""
    text, end, singles, count = "", at, 0, 0
    while end < len(words):
        word = words[end]
        if word in _TIMES and end + 1 < len(words) and words[end + 1] in _DIGITS:
            text, end, singles = text + _DIGITS[words[end + 1]] * _TIMES[word], end + 2, singles + 1
        elif word in _DIGITS and words[end + 1 : end + 2] == ("hundred",) and pairs:
            text, end = text + _DIGITS[word] + "00", end + 2
        elif word in _DIGITS:
            text, end, singles = text + _DIGITS[word], end + 1, singles + 1
        else:
            value, after = read_cardinal(words[: end + 2], end, joined=False)
            if value is None or not 10 <= value <= 99 or not pairs or word == "a":
                break
            text, end = text + str(value), after
        count += 1
    return _Digits(text, end, singles, count)


def phone(place: Place) -> Span | None:
    """Seven digits and more, at least half of them said one by one; "plus four nine ..." keeps its sign."""
    plus = place.word() == "plus"
    found = _read_digits(place.words, place.at + plus)
    if len(found.text) not in _PHONE or 2 * found.singles < found.words or found.singles < 3:
        return None
    if not _over(place.words, found.end):
        return None
    text = f"+{found.text}" if plus else _hyphens(found.text)
    return place.span(found.end, "phone", text, f"{'+' if plus else ''}{found.text}")


def _hyphens(digits: str) -> str:
    """American groups for seven, ten and eleven digits; others have no groups of their own."""
    if len(digits) == 7:
        return f"{digits[:3]}-{digits[3:]}"
    if len(digits) == 10:
        return f"{digits[:3]}-{digits[3:6]}-{digits[6:]}"
    if len(digits) == 11 and digits[0] == "1":
        return f"1-{digits[1:4]}-{digits[4:7]}-{digits[7:]}"
    return digits


def _over(words: tuple[str, ...], end: int) -> bool:
    """Whether the digits are over at ``end``, and are not the number of something."""
    following = words[end] if end < len(words) else ""
    return following not in NUMBER_WORDS and following not in ORDINAL_WORDS and following not in {*_QUANTITIES, "point"}


def digits(place: Place) -> Span | None:
    """Digits that name something: four said one by one, or any after "room", "code", "flight", "call".

    "number one" stays: it is praise more often than a number.
    """
    named = place.lone or place.word(-1) in _NAMED or (place.word(-1) in _CALLING and len(place.words) > place.at + 2)
    found = _read_digits(place.words, place.at, pairs=named)
    letters = place.words[found.end : found.end + 1]
    if not found.text or not _over(place.words, found.end):
        return None
    several = found.singles == found.words >= 4 and place.word() not in ("oh", "o")
    nine_one_one = found.text in ("911", "112", "999") and found.words == 3
    if not (several or nine_one_one or named):
        return None
    if place.word(-1) in _CALLING and len(found.text) < 3:
        return None
    if found.words == 1 and (place.word() in ("oh", "o") or (found.text == "1" and place.word(-1) == "number")):
        return None
    lettered = "".join(letters)
    if len(lettered) == 1 and lettered.isalpha() and lettered not in _VOWEL_WORDS:
        return _digits(place, found.end + 1, found.text + lettered.upper())
    if named and not several:
        value, end = read_cardinal(place.words, place.at)
        if value is not None and end > found.end:  # "room two hundred and five"
            return None if end < len(place.words) and not _over(place.words, end) else _digits(place, end, str(value))
        if value is not None and end == found.end:
            return _digits(place, end, str(value))
        if place.word(-1) == "volume" and found.words > 1:
            return None
    return _digits(place, found.end, found.text)


def _digits(place: Place, end: int, text: str) -> Span:
    return place.span(end, "digits", text, text)


def frequency(place: Place) -> Span | None:
    """ "one oh seven point five": digits with an "oh", and decimals; without the "oh" it is a plain decimal."""
    found = _read_digits(place.words, place.at)
    oh = {"oh", "o"} & set(place.words[place.at + 1 : found.end])
    if not oh or place.words[found.end : found.end + 1] != ("point",):
        return None
    decimals = _read_digits(place.words, found.end + 1)
    if not decimals.text or not _over(place.words, decimals.end):
        return None
    text = f"{found.text}.{decimals.text}"
    return place.span(decimals.end, "decimal", text, text)


def letters(place: Place) -> Span | None:
    """ "b m w", "u s a", "b twelve": letters said one by one, and the digits behind them.

    "a", "i" and "o" are words as well, and two letters may be anything: in a sentence such spellings count only where
    they are common ("u s a", "t v"). After "code" or "flight" letters and digits go on as they come.
    """
    words = place.words
    if place.lone or _announced(place):
        return _code(place)
    end = place.at
    while end < len(words) and len(words[end]) == 1 and words[end].isalpha():
        end += 1
    spelled = "".join(words[place.at : end])
    if not spelled or not _starts(place, spelled):
        return None
    found = _read_digits(words, end)
    numbered = bool(found.text) and _over(words, found.end) and "hundred" not in words[end : found.end]
    if numbered and (len(spelled) > 1 or (found.text != "1" and words[found.end : found.end + 1] != ("of",))):
        text = spelled.upper() + found.text
        return place.span(found.end, "letters", text, text)
    common = spelled in _PAIRS if len(spelled) == 2 else len(spelled) > 2
    if len(spelled) > 2 and spelled[-1] in _VOWEL_WORDS and end < len(words):
        common = spelled in _COMMON
    if (
        not common
        or spelled in _SWALLOWED
        or (len(set(spelled)) == 1 and spelled != "www")
        or (len(spelled) > 3 and spelled[-1] == "s")
    ):
        return None
    return place.span(end, "letters", spelled.upper(), spelled.upper())


def _starts(place: Place, spelled: str) -> bool:
    """Whether letters may begin here: not with a vowel that is a word, not in the middle of letters that could not be
    read. One article may stand before them ("a u s d account")."""
    if spelled[0] in _VOWEL_WORDS:
        return spelled in _COMMON
    previous = place.word(-1)
    if len(previous) != 1 or not previous.isalpha():
        return True
    article = previous == "a" and len(place.word(-2)) != 1
    return article and len(spelled) > 2 and spelled[:2] != "bc"


def _announced(place: Place) -> bool:
    return place.word(-1) in _CODE_CUES or (place.word(-1) == "is" and place.word(-2) in _CODE_CUES)


def _code(place: Place) -> Span | None:
    """Letters and digits as they come, two at least."""
    words, end, text, count = place.words, place.at, "", 0
    while end < len(words):
        word = words[end]
        if len(word) == 1 and word.isalpha() and word != "o":
            text, end = text + word.upper(), end + 1
        else:
            found = _read_digits(words, end)
            if not found.text or not _over(words, found.end):
                break
            text, end, count = text + found.text, found.end, count + found.words - 1
        count += 1
    lettered = any(char.isalpha() for char in text)
    return place.span(end, "letters", text, text) if count > 1 and lettered else None


def address(place: Place) -> Span | None:
    """ "one twenty three main street", "forty second street", "ten downing street": number, name, kind of street."""
    words = place.words
    value, end = read_ordinal(words, place.at)
    counted = value is None or value >= 300 or (value <= SMALL and place.word(-1) in _ANY)
    if value is not None and not counted and end < len(words) and words[end] in _NUMBERED:
        text = f"{value}{suffix(value)} {words[end].capitalize()}"
        return place.span(end + 1, "address", text, text)
    house = _house(words, place.at)
    if house is None:
        return None
    number, at = house
    side = "".join(words[at : at + 1]) in _SIDES
    named, last = read_ordinal(words, at + side)
    if named is not None and last < len(words) and words[last] in _STREETS:
        if words[at - 1].endswith("ty") and not side and named < 10:
            return None  # "twenty two fifty first street": 22 on the 51st, or 2250 on the first
        number += f" {words[at].capitalize()}" if side else ""
        text = f"{number} {named}{suffix(named)} {words[last].capitalize()}"
        return place.span(last + 1, "address", text, text)
    for length in (1, 2, 3):
        name = words[at : at + length]
        if len(name) < length or not _NOT_STREETS.isdisjoint(name):
            return None
        kind = "".join(words[at + length : at + length + 1])
        if kind in _STREETS and name[-1] not in _STREETS:
            following = "".join(words[at + length + 1 : at + length + 2])
            counted = int(number) <= SMALL and (kind in _OTHER_WORDS or following in _NOT_AFTER)
            if counted:
                return None
            text = " ".join([number, *(word.capitalize() for word in (*name, kind))])
            return place.span(at + length + 1, "address", text, text)
    return None


def _house(words: tuple[str, ...], at: int) -> tuple[str, int] | None:
    """A house number in any way it is said, and the end: "one twenty three", "twelve oh five", "forty two"."""
    found = _read_digits(words, at)
    value, end = read_cardinal(words, at)
    if value is not None and end >= found.end and words[at] != "a":
        return str(value), end
    return (found.text, found.end) if 0 < len(found.text) <= 5 and _DIGITS.get(words[at]) != "0" else None
