"""Spoken amounts to written ones: numbers, ordinals, fractions, percent, money, measures and durations.

Small numbers stay words where nothing is counted ("one of them", "two lights"), as style guides and the field's
grammars (Zhang et al. 2021, NeMo) have it: they are rarely numbers to read off. A unit, a percent or a sign makes
digits of them. Where "one", "second" or "pounds" mean something else as often as not, words stay as they were said.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from sayso.text.numbers import DIGITS, NUMBER_WORDS, ORDINAL_WORDS, read_cardinal, read_ordinal
from sayso.text.spans import Kind, Place, Span

SMALL = 12  # numbers up to here stay words in a sentence
PARTS = {"half": Fraction(1, 2), "quarter": Fraction(1, 4), "third": Fraction(1, 3), "fifth": Fraction(1, 5)}
_GLYPHS = {Fraction(1, 2): "½", Fraction(1, 4): "¼", Fraction(3, 4): "¾", Fraction(1, 3): "⅓", Fraction(2, 3): "⅔"}
_SCALES = {"hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9}
_POINT_DIGITS = {**DIGITS, "oh": 0, "o": 0}
SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 604800}
_CALENDAR = {"month": "M", "year": "Y"}
_NAMES = (
    "millisecond degree knot pixel metre meter kilometre kilometer centimetre centimeter millimetre millimeter mile "
    "inch foot yard acre hectare gram kilogram kilo milligram ounce pound ton tonne calorie litre liter millilitre "
    "milliliter gallon pint quart cup teaspoon tablespoon watt kilowatt volt amp hertz kilohertz megahertz gigahertz "
    "decibel byte kilobyte megabyte gigabyte terabyte"
)
_PLURALS = {
    "inch": "inches",
    "foot": "feet",
    "hertz": "hertz",
    "kilohertz": "kilohertz",
    "megahertz": "megahertz",
    "gigahertz": "gigahertz",
}
UNITS = {
    form: unit for unit in (*SECONDS, *_CALENDAR, *_NAMES.split()) for form in (unit, _PLURALS.get(unit, f"{unit}s"))
}
_DEGREES = {"celsius": "C", "centigrade": "C", "fahrenheit": "F"}
# "one second" and "one foot" are said without counting; the others name an amount whatever stands before them
_IDIOMS = {"second", "minute", "day", "week", "month", "year", "foot", "inch", "pound", "cup", "ton", "mile", "cent"}
_COUNTING = {"for", "in", "every", "within", "after", "than", "exactly", "only", "about", "another", "last", "next"}
_OWN = {"my", "your", "his", "her", "our", "their", "own", "both", "these", "those"}
_SIGN_CUES = {"", "to", "at", "is", "of", "from", "about", "around", "by", "it's", "be", "below", "above", "was"}
_MONEY = {"dollar": ("$", "USD", "cent"), "euro": ("€", "EUR", "cent"), "pound": ("£", "GBP", "pence")}
_COINS = {"cents": "USD", "cent": "USD", "pence": "GBP", "penny": "GBP"}
_CURRENCIES = {"yen": "JPY", "rupees": "INR", "francs": "CHF", "pesos": "MXN", "yuan": "CNY", "rand": "ZAR"}
_LASTING = {
    "timer", "countdown", "pause", "break", "clip", "video", "intervals", "interval", "alarm", "delay", "song", "ad",
    "sprint", "plank", "window", "warning", "rest", "timeout", "recording",
}  # fmt: skip


@dataclass(frozen=True)
class Amount:
    """A number as read: ``end`` is the word after it; ``article``: it begins with "a" ("a hundred", "half a")."""

    value: Fraction
    text: str
    end: int
    article: bool = False

    def before(self, unit: str) -> str:
        """How it is written before ``unit``; an article stays where the unit is one ("a hundred mile trip")."""
        return f"a {self.text}" if self.article and self.value > 1 and not unit.endswith("s") else self.text

    @property
    def small(self) -> bool:
        """A whole number that stays a word unless something is counted."""
        return self.value.denominator == 1 and abs(self.value) <= SMALL


def plain(value: Fraction) -> str:
    """A plain decimal: "2.5", "-4"; at most ten places."""
    if value.denominator == 1:
        return str(value.numerator)
    return f"{float(value):.10f}".rstrip("0")


def grouped(value: int) -> str:
    """Digits with commas between thousands; millions and billions stay words where they come out even."""
    for scale, name in ((10**9, "billion"), (10**6, "million")):
        if value >= scale and value % scale == 0:
            return f"{value // scale:,} {name}"
    return f"{value:,}"


def read_amount(place: Place) -> Amount | None:
    """The number that begins here: "minus five", "two and a half", "three point one four", "one point five million",
    "a hundred", "half a"."""
    words, at = place.words, place.at
    if place.word() in ("minus", "negative"):
        inner = read_amount(place.moved(at + 1))
        return None if inner is None or inner.article else Amount(-inner.value, f"-{inner.text}", inner.end)
    if place.word() == "point":
        return _decimals(words, at, 0)
    if place.word() == "half" and place.word(1) in ("a", "an"):
        return Amount(Fraction(1, 2), "½", at + 2, True)
    part = _fraction(place)
    if part is not None:
        return part
    whole, end = read_cardinal(words, at, joined=place.word(-1) != "between")
    if whole is None:
        return None
    if words[end : end + 1] == ("point",):
        decimal = _decimals(words, end, whole)
        if decimal is not None:
            return decimal
    mixed = _mixed(words, end, whole)
    if mixed is not None:
        return mixed
    return Amount(Fraction(whole), grouped(whole), end, words[at] == "a")


def _decimals(words: tuple[str, ...], at: int, whole: int) -> Amount | None:
    """What follows "point" at ``at``: digits one by one, or two as a number; a scale may follow."""
    end, digits = at + 1, ""
    while end < len(words) and words[end] in _POINT_DIGITS:
        digits, end = digits + str(_POINT_DIGITS[words[end]]), end + 1
    if not digits:
        value, end = read_cardinal(words, at + 1, joined=False)
        if value is None or not 10 <= value <= 99:
            return None
        digits = str(value)
    return _scaled(words, end, Fraction(f"{whole}.{digits}"), f"{whole:,}.{digits}")


def _mixed(words: tuple[str, ...], at: int, whole: int) -> Amount | None:
    """ "and a half", "and three quarters" after ``whole``."""
    if words[at : at + 1] != ("and",):
        return None
    if words[at + 1 : at + 2] == ("a",) and "".join(words[at + 2 : at + 3]) in ("half", "quarter", "third"):
        part, end = PARTS[words[at + 2]], at + 3
    elif words[at + 1 : at + 3] == ("three", "quarters"):
        part, end = Fraction(3, 4), at + 3
    elif words[at + 1 : at + 3] in (("one", "half"), ("one", "quarter"), ("one", "third")):
        part, end = PARTS[words[at + 2]], at + 3
    else:
        return None
    return _scaled(words, end, whole + part, f"{whole:,}{_GLYPHS[part]}")


def _scaled(words: tuple[str, ...], end: int, value: Fraction, text: str) -> Amount:
    """With the "million" that may follow a decimal."""
    scale = _SCALES.get(words[end], 0) if end < len(words) else 0
    return Amount(value * scale, f"{text} {words[end]}", end + 1) if scale else Amount(value, text, end)


def _fraction(place: Place) -> Amount | None:
    """ "one half", "two thirds", "three quarters", "four fifths"."""
    count = DIGITS.get(place.word(), 0)
    name = place.word(1)
    if not count or name in NUMBER_WORDS:
        return None
    single = PARTS.get(name) if count == 1 and name in ("half", "quarter", "third") else None
    several = PARTS.get(name[:-1]) if count > 1 and name.endswith("s") and name != "halfs" else None
    part = single or several
    if part is None and count > 1 and name[:-1] in ORDINAL_WORDS and name.endswith("s") and name != "seconds":
        below, _ = read_ordinal((name[:-1],), 0)
        part = None if below is None or below < 4 else Fraction(1, below)
    if part is None:
        return None
    value = count * part
    return Amount(value, _GLYPHS.get(value, f"{count}/{part.denominator}"), place.at + 2)


def number(place: Place) -> Span | None:
    """A number that nothing is said about. In a sentence small ones stay words, and so does one among other numbers
    that it does not go with ("five forty five" may be a price or a time)."""
    amount = read_amount(place)
    if amount is None or (amount.article and not place.lone):
        return None
    following = place.words[amount.end] if amount.end < len(place.words) else ""
    if following in NUMBER_WORDS or following in ORDINAL_WORDS or following in ("oh", "hundred"):
        return None
    whole = place.at == 0 and amount.end == len(place.words)
    signed = place.word() in ("minus", "negative")
    if signed and place.word(-1) not in _SIGN_CUES and not place.lone:
        return None
    if place.word() == "point" and place.word(-1) not in _SIGN_CUES and not place.lone:
        return None
    if amount.small and not (whole or place.lone or signed):
        return None
    fraction = amount.value.denominator != 1
    if fraction and "." not in amount.text and amount.value < 1 and not (place.lone or whole):
        follower = following in ("of", "cup", "cups", "teaspoon", "tablespoon", "full", "empty")
        if not follower or place.word(-1) in ("the", "other", *_OWN):
            return None
    kind: Kind = "decimal" if "." in amount.text else "fraction" if fraction else "cardinal"
    text = amount.text.replace(",", "") if _is_year(place, amount) else amount.text
    return place.span(amount.end, kind, text, plain(amount.value))


def _is_year(place: Place, amount: Amount) -> bool:
    """2000 to 2099 after a word that years follow."""
    return 2000 <= amount.value < 2100 and place.word(-1) in ("in", "since", "year", "until", "before", "after", "by")


def ordinal(place: Place) -> Span | None:
    """ "twenty first", "hundredth"; up to the twelfth they stay words ("a second opinion", "third eye blind")."""
    value, end = read_ordinal(place.words, place.at)
    if value is None or (value <= SMALL and not place.lone):
        return None
    if place.words[end - 1] == "second" and _lasting(place, end):
        return None  # thirty seconds long
    return place.span(end, "ordinal", f"{value:,}{suffix(value)}", str(value))


def _lasting(place: Place, end: int) -> bool:
    """Whether "thirty second", which ends at ``end``, is a length: "a thirty second break", "thirty second timer"."""
    return place.word(-1) == "a" or "".join(place.words[end : end + 1]) in _LASTING


def suffix(value: int) -> str:
    """ "st", "nd", "rd" or "th"."""
    return "th" if 10 <= value % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(value % 10, "th")


def percent(place: Place) -> Span | None:
    """ "thirty percent", "half a percent", "one hundred per cent"."""
    amount = read_amount(place)
    if amount is None:
        return None
    for form in (("percent",), ("per", "cent")):
        if place.words[amount.end : amount.end + len(form)] == form:
            text = plain(amount.value) if amount.article else amount.text
            return place.span(amount.end + len(form), "percent", f"{text}%", plain(amount.value))
    return None


def money(place: Place) -> Span | None:
    """ "five dollars and twenty cents", "two fifty" never: without a currency it is no price. Pounds may be weight."""
    amount = read_amount(place)
    if amount is None or amount.end >= len(place.words) or (amount.value == 1 and amount.article):
        return None
    words, unit = place.words, place.words[amount.end]
    if unit in _CURRENCIES:
        text = amount.text
        return place.span(amount.end + 1, "money", f"{text} {unit}", f"{plain(amount.value)} {_CURRENCIES[unit]}")
    own = amount.small and place.word(-1) in _OWN
    if unit in _COINS and not own and amount.value != 1:
        value = f"{float(amount.value / 100):.2f} {_COINS[unit]}"
        return place.span(amount.end + 1, "money", f"{amount.text} {unit}", value)
    name = unit.removesuffix("s")
    if name not in _MONEY or own:
        return None
    sign, code, _ = _MONEY[name]
    end, parts = _coins(words, amount.end + 1, name) if amount.value.denominator == 1 else (amount.end + 1, 0)
    sterling = words[end : end + 1] == ("sterling",)
    if name == "pound" and not parts and not sterling:
        return None  # a measure, and says that it may be money
    cents = f".{parts:02d}" if parts else ""
    article = "a " if amount.article and unit == name else ""
    text = f"{article}{sign}{_priced(amount)}{cents}"
    return place.span(end + sterling, "money", text, f"{plain(amount.value)}{cents} {code}")


def _priced(amount: Amount) -> str:
    """An amount behind a currency sign; "2½ million" becomes "2.5 million", single fractions a decimal."""
    if amount.value.denominator == 1 and amount.value < 10**6:
        return f"{int(amount.value):,}"
    if amount.value.denominator == 1:
        return amount.text.replace("½", ".5").replace("¼", ".25").replace("¾", ".75")
    return f"{float(amount.value):,.2f}"


def _coins(words: tuple[str, ...], at: int, name: str) -> tuple[int, int]:
    """The end and the value of "and twenty cents" or a bare "fifty" behind a currency; (``at``, 0) where none is."""
    begin = at + 1 if words[at : at + 1] == ("and",) else at
    value, end = read_cardinal(words, begin, joined=False)
    if value is None or not 1 <= value <= 99:
        return at, 0
    named = end < len(words) and words[end] in ("cents", "cent", "pence", "penny", "p")
    if named:
        return end + 1, value
    follows = end < len(words) and (words[end] in NUMBER_WORDS or words[end] in UNITS or words[end] in _MONEY)
    bare = begin == at and value > 9 and not follows and words[end : end + 1] not in (("percent",), ("people",))
    return (end, value) if bare else (at, 0)


def measure(place: Place) -> Span | None:
    """ "seventy miles per hour", "sixty eight degrees", "sixteen ounces", "five foot ten": the unit stays as said."""
    amount = read_amount(place)
    if amount is None or amount.end >= len(place.words) or not _counts(place, amount):
        return None
    words, end = place.words, amount.end
    squared = words[end] in ("square", "cubic") and end + 1 < len(words) and words[end + 1] in UNITS
    unit = UNITS.get(words[end + squared])
    if unit is None or unit in SECONDS or unit in _CALENDAR or (amount.article and not place.lone and amount.value < 1):
        return None
    if unit == "degree":
        scale = _DEGREES.get(words[end + 1], "") if end + 1 < len(words) else ""
        return place.span(
            end + 1 + bool(scale), "measure", f"{amount.before(words[end])}°{scale}", f"{plain(amount.value)} °{scale}"
        )
    if unit == "foot":
        inches, after = read_cardinal(words, end + 1, joined=False)
        if inches is not None and inches < 12 and words[after : after + 1] not in (("hundred",), ("percent",)):
            named = words[after : after + 1] in (("inches",), ("inch",))
            text = " ".join([amount.text, words[end], str(inches), *words[after : after + named]])
            return place.span(after + named, "measure", text, f"{plain(amount.value * 12 + inches)} inch")
    last = end + 1 + squared
    per = words[last : last + 1] == ("per",) and last + 1 < len(words)
    said = " ".join(words[end : last + 2 * per])
    value = (
        f"{plain(amount.value)} {' '.join((*words[end : end + squared], unit))}{f'/{words[last + 1]}' if per else ''}"
    )
    readings = (f"{plain(amount.value)} GBP", value) if unit == "pound" and not per and not squared else ()
    return place.span(last + 2 * per, "measure", f"{amount.before(words[end])} {said}", value, *readings)


def _counts(place: Place, amount: Amount) -> bool:
    """Whether a number before a unit is there to count: not in "on my own two feet", "one second please"."""
    words = place.words
    unit = UNITS.get(words[amount.end], "")
    if place.lone:
        return True
    if amount.small and place.word(-1) in _OWN:
        return False
    if amount.value == 1 and not amount.article and unit in _IDIOMS:
        more = words[amount.end + 1 : amount.end + 2] == ("and",) and "".join(
            words[amount.end + 2 : amount.end + 3]
        ) in {*NUMBER_WORDS, "a"}
        counted = "".join(words[amount.end + 1 : amount.end + 2]) in NUMBER_WORDS
        return more or counted or place.word(-1) in _COUNTING
    return not (amount.article and amount.value == 1)


def duration(place: Place) -> Span | None:
    """ "one hour and thirty minutes", "half an hour", "an hour and a half", "two and a half weeks", "three days"."""
    parts: list[tuple[Fraction, str]] = []
    texts: list[str] = []
    at = place.at
    while at < len(place.words):
        joint = bool(parts) and place.words[at] == "and"
        found = _stretch(place.moved(at + joint), first=not parts)
        if found is None or (parts and _size(found[1]) >= _size(parts[-1][1])):
            break
        amount, unit, text, end = found
        texts += ["and"] * joint + [text]
        parts.append((amount, unit))
        at = end
        if place.words[at : at + 3] in (("and", "a", "half"), ("and", "a", "quarter")):
            parts[-1] = (amount + PARTS[place.words[at + 2]], unit)
            texts, at = [*texts, *place.words[at : at + 3]], at + 3
            break
    if not parts:
        return None
    return place.span(at, "duration", " ".join(texts), iso_duration(parts))


def _size(unit: str) -> int:
    return SECONDS.get(unit, 10**9 if unit == "year" else 10**8)


def _stretch(place: Place, *, first: bool) -> tuple[Fraction, str, str, int] | None:
    """One amount of one unit of time; its text keeps the unit's word."""
    words, at = place.words, place.at
    if words[at : at + 1] in (("quarter",), ("a",)) or words[at : at + 2] == ("three", "quarters"):
        for form, value in ((("a", "quarter", "of", "an", "hour"), 1), (("quarter", "of", "an", "hour"), 1),
                            (("three", "quarters", "of", "an", "hour"), 3), (("a", "half", "hour"), 2)):  # fmt: skip
            if words[at : at + len(form)] == form:
                return Fraction(value, 4), "hour", " ".join(form), at + len(form)
    if place.word() in ("a", "an") and place.word(1) in ("minute", "second", "hour", "day", "week", "month", "year"):
        counted = words[at + 2 : at + 5] == ("and", "a", "half") or words[at + 2 : at + 5] == ("and", "a", "quarter")
        chained = place.word(2) == "and" and place.word(3) in NUMBER_WORDS and place.word(1) != "day"
        if place.lone or counted or chained or not first:
            return Fraction(1), place.word(1), place.spoken(at + 2), at + 2
        return None
    amount = read_amount(place)
    if amount is None or amount.end >= len(words):
        return None
    unit = UNITS.get(words[amount.end], "")
    if (unit not in SECONDS and unit not in _CALENDAR) or not (_counts(place, amount) or not first):
        return None
    if words[amount.end] == "second" and amount.value != 1 and not _lasting(place, amount.end + 1):
        return None
    if amount.article and amount.value < 1:  # half an hour stays as it is
        return amount.value, unit, place.spoken(amount.end + 1), amount.end + 1
    return amount.value, unit, f"{amount.before(words[amount.end])} {words[amount.end]}", amount.end + 1


def iso_duration(parts: list[tuple[Fraction, str]]) -> str:
    """ISO 8601: parts of an hour become minutes, parts of a day hours; months and years keep a decimal."""
    date = "".join(f"{plain(value)}{_CALENDAR[unit]}" for value, unit in parts if unit in _CALENDAR)
    if len(parts) == 1 and parts[0][1] == "week" and parts[0][0].denominator == 1:
        return f"P{parts[0][0]}W"
    seconds = sum((value * SECONDS[unit] for value, unit in parts if unit in SECONDS), Fraction(0))
    days, rest = divmod(seconds, 86400) if any(unit in ("day", "week") for _, unit in parts) else (0, seconds)
    hours, rest = divmod(rest, 3600)
    if not any(unit == "hour" for _, unit in parts) and not days and rest % 60 == 0 and len(parts) == 1 and hours:
        hours, rest = 0, seconds  # ninety minutes stay ninety minutes
    minutes, rest = divmod(rest, 60)
    date += f"{days}D" if days else ""
    time = "".join(
        f"{plain(Fraction(value))}{name}" for value, name in ((hours, "H"), (minutes, "M"), (rest, "S")) if value
    )
    return "P" + date + (f"T{time}" if time else "") if date or time else "PT0S"
