"""Spoken clock times to written ones, in all the ways they are said; what says morning or evening, and what does not.

A time of twelve hours without a word for the half of the day is two times: both stand in ``ambiguous``, and whoever
knows more (the dialogue, the domain) decides. What the sentence does say counts even where it is not beside the time
("tomorrow morning at ten"). Hour and minute alone ("six thirty") are a time only where something near them says so:
else they may be a price, a number or a score, and the words stay.
"""

from __future__ import annotations

from dataclasses import dataclass

from sayso.text.numbers import DIGITS, NUMBER_WORDS, read_cardinal
from sayso.text.spans import Place, Span
from sayso.text.written_amounts import UNITS

_NOON = {"noon": (12, 0), "midday": (12, 0), "midnight": (0, 0)}
_AFTER, _BEFORE = {"past", "after"}, {"to", "till", "til", "until", "before", "of"}
# words before a time, and words after one, that make a pair of numbers a time
_CUES = {"at", "by", "until", "till", "til", "since", "around", "before", "after", "past", "it's", "between"}
_SOFT_CUES = {"for", "to", "from", "about", "is", "and", "or", "on", "through", "of", "the", "my", "a", "was", "up"}
_CLOCK_WORDS = {
    "alarm", "alarms", "wake", "meeting", "meetings", "appointment", "appointments", "remind", "reminder", "clock",
    "schedule", "train", "flight", "bus", "calendar", "event", "am", "pm", "morning", "afternoon", "evening", "tonight",
    "tomorrow", "today", "o'clock", "noon", "time", "class", "open", "close", "snooze",
}  # fmt: skip
_AFTER_CUES = {
    "appointment", "meeting", "alarm", "train", "flight", "bus", "reminder", "show", "class", "sharp", "today",
    "tomorrow", "tonight", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday",
}  # fmt: skip
_NUMBERED = {"flight", "train", "bus", "room", "channel", "route", "highway"}
_COUNTED = {*UNITS, "percent", "dollars", "euros", "cents", "people", "times", "quarters"}
_RANGES = {"to", "until", "till", "through"}
_DAY_PARTS = {"morning", "afternoon", "evening", "night", "tonight"}
_HALF_DAY = 12 * 60


@dataclass(frozen=True)
class Clock:
    """A reading: ``half`` is None where the hour counts to twelve and nothing says which half of the day. ``sure``:
    the words can mean nothing but a time. ``text`` is how it is written; ``plain``: the hour alone."""

    hour: int
    minute: int
    end: int
    text: str
    sure: bool = False
    half: bool | None = None  # True: the hour counts to 24 already
    plain: bool = False
    crossing: bool = False  # minutes before twelve: "am" may be that of twelve or of the time


def clock(place: Place) -> Span | None:
    """A clock time that begins here."""
    found: Clock | None = None
    for read in (_relative, _named, _direct):
        reading = read(place)
        if reading is not None and (found is None or reading.end > found.end):
            found = reading
    if found is None:
        return None
    finished = _suffixed(place, found)
    if not finished.sure and not place.lone and not _cued(place, finished):
        return None
    return _span(place, finished)


def _span(place: Place, found: Clock) -> Span:
    minutes = found.hour % 24 * 60 + found.minute
    if found.half is None:
        part = _said_before(place)
        later = None if part is None else _later(part, found.hour, found.minute)
        if later is None:
            early = minutes % _HALF_DAY
            value = f"{early // 60 or 12}:{early % 60:02d}"
            return place.span(found.end, "time", found.text, value, _iso(early), _iso(early + _HALF_DAY))
        minutes = minutes % _HALF_DAY + (_HALF_DAY if later else 0)
    return place.span(found.end, "time", found.text, _iso(minutes))


def _iso(minutes: int) -> str:
    return f"{minutes // 60 % 24:02d}:{minutes % 60:02d}"


def _relative(place: Place) -> Clock | None:
    """ "a quarter to six", "twenty past nine", "ten minutes before noon", "half past six", "half six"."""
    words, at = place.words, place.at
    begin = at + (words[at] == "a" and place.word(1) == "quarter")
    if words[begin] in ("quarter", "half"):
        minute, end, named = {"quarter": 15, "half": 30}[words[begin]], begin + 1, True
    else:
        value, end = read_cardinal(words, begin, joined=False)
        if value is None or not 1 <= value <= 59 or words[begin] == "a":
            return None
        minute, named = value, words[end : end + 1] in (("minutes",), ("minute",))
        end += named
    sense = words[end] if end < len(words) else ""
    if words[begin] == "half" and sense not in _AFTER:
        hour = _hour(words, end) if place.lone or place.word(-1) in _CUES else None
        return None if hour is None or _goes_on(words, hour[1]) else Clock(hour[0], 30, hour[1], f"{hour[0]}:30")
    if sense not in _AFTER | _BEFORE or (sense in ("of", "before") and not named):
        return None
    target = _hour_or_noon(words, end + 1)
    if target is None or not _is_clock(place, minute, sense, named, target.end):
        return None
    total = (target.hour * 60 + (minute if sense in _AFTER else -minute)) % (2 * _HALF_DAY)
    if not target.fixed:
        total = total % _HALF_DAY or _HALF_DAY
        total += _HALF_DAY if total < 60 else 0
    text = f"{(total // 60 - 1) % 12 + 1}:{total % 60:02d}"
    if target.fixed:  # noon and midnight say which half of the day it is, and are not there to be read
        text += " am" if total < _HALF_DAY else " pm"
    crossing = target.hour == 12 and sense in _BEFORE and not target.fixed
    half = True if target.fixed else None
    return Clock(total // 60, total % 60, target.end, text, sure=True, half=half, crossing=crossing)


def _is_clock(place: Place, minute: int, sense: str, named: bool, end: int) -> bool:
    """Whether minutes and hour are a time: "nine to eleven" is a range of hours, "ten to twelve percent" of others."""
    if place.lone:
        return True
    if "".join(place.words[end : end + 1]) in _COUNTED:
        return False
    if sense == "of" and place.word(-1) not in _CUES:  # "a quarter of six"
        return False
    if named or sense == "past":
        return True
    if place.word(-1) in ("from", "between"):
        return False
    if sense == "after":
        return minute % 5 == 0 and place.word(-1) in (*_CUES, "for")
    return minute > 12 or (minute in (5, 10) and place.word(-1) in _CUES)


@dataclass(frozen=True)
class _Hour:
    """What minutes are counted from; ``fixed`` where it says which half of the day."""

    hour: int
    end: int
    fixed: bool


def _goes_on(words: tuple[str, ...], end: int) -> bool:
    """Whether a number goes on at ``end`` ("half six hundred")."""
    return end < len(words) and words[end] in NUMBER_WORDS


def _hour(words: tuple[str, ...], at: int) -> tuple[int, int] | None:
    """One to twelve as a word, and the end."""
    value, end = read_cardinal(words[: at + 1], at)
    return (value, end) if value is not None and 1 <= value <= 12 else None


def _hour_or_noon(words: tuple[str, ...], at: int) -> _Hour | None:
    if at < len(words) and words[at] in _NOON:
        return _Hour(_NOON[words[at]][0], at + 1, True)
    found = _hour(words, at)
    if found is None or _goes_on(words, found[1]):
        return None
    return _Hour(found[0], found[1] + (words[found[1] : found[1] + 1] == ("o'clock",)), False)


def _named(place: Place) -> Clock | None:
    """ "noon", "twelve midnight": the word is kept."""
    twelve = place.word() == "twelve" and place.word(1) in _NOON
    name = place.word(int(twelve))
    if name not in _NOON or (place.word(-1) in ("after", "good") and name == "noon"):  # "after noon" is the afternoon
        return None
    hour, minute = _NOON[name]
    return Clock(hour, minute, place.at + 1 + twelve, f"12 {name}" if twelve else name, sure=True, half=True)


def _direct(place: Place) -> Clock | None:
    """Hour, then minutes: "six", "six thirty", "six oh five", "six o'clock", "eighteen thirty", "oh six hundred"."""
    words, at = place.words, place.at
    padded = words[at] in ("oh", "o") or (words[at] == "zero" and place.word(1) in (*DIGITS, "hundred"))
    if padded:
        hour = DIGITS.get(place.word(1), 0)
        end = at + 1 if place.word(1) == "hundred" else at + 2
        if place.word(1) not in (*DIGITS, "hundred"):
            return None
    else:
        value, end = _hours(words, at)
        if value is None:
            return None
        hour = value
    whole_day = padded or hour > 12 or hour == 0
    minute, last = _minutes(words, end)
    hundred = words[end : end + 1] == ("hundred",)
    if hundred and not whole_day:  # "four hundred and thirty pm"
        past, after = _minutes(words, last + (words[last : last + 1] == ("and",)))
        if past and words[after - 1] != "hundred" and _half_of_day(words, after) is not None:
            return Clock(hour, past, after, f"{hour}:{past}", plain=True)
    hours = words[last : last + 1] == ("hours",) and (hundred or minute is not None)
    if minute is None:
        if words[end : end + 1] == ("o'clock",) and not whole_day:
            return Clock(hour, 0, end + 1, f"{hour}:00", sure=True)
        if hour == 0 or (padded and not hundred):
            return None
        return Clock(hour, 0, end, str(hour), plain=True, half=True if whole_day else None)
    if hundred and not hours and not whole_day:  # "two hundred pm" is a time, "two hundred" is not
        return Clock(hour, 0, last, f"{hour}:00", plain=True) if _half_of_day(words, last) else None
    day = whole_day or hours
    text = f"{hour:02d}:{minute:02d}" if day else f"{hour}:{minute:02d}"
    last += hours or (words[last : last + 1] == ("o'clock",))
    return Clock(hour, minute, last, text, sure=hours or (padded and hundred), half=True if day else None)


def _hours(words: tuple[str, ...], at: int) -> tuple[int | None, int]:
    """0 to 23; "twenty three" before more than a unit, "twenty" before minutes."""
    value, end = read_cardinal(words[: at + 2], at, joined=False)
    if value is None or value > 23 or words[at] == "a":
        value, end = read_cardinal(words[: at + 1], at)
    return (value, end) if value is not None and 0 <= value <= 23 and words[at] != "a" else (None, at)


def _minutes(words: tuple[str, ...], at: int) -> tuple[int | None, int]:
    """ "thirty", "oh five", "zero zero", "hundred"; the end is before what does not belong."""
    if words[at : at + 1] == ("hundred",):
        return 0, at + 1
    if at + 1 < len(words) and words[at] in ("oh", "o", "zero"):
        if words[at + 1] in ("oh", "o", "zero"):
            return 0, at + 2
        return (DIGITS[words[at + 1]], at + 2) if words[at + 1] in DIGITS else (None, at)
    value, end = read_cardinal(words[: at + 2], at, joined=False)
    return (value, end) if value is not None and 10 <= value <= 59 else (None, at)


def _half_of_day(words: tuple[str, ...], at: int) -> tuple[str, int] | None:
    """ "am", "p m", "in the evening", "at night", "this morning": which, and the end."""
    first = words[at] if at < len(words) else ""
    if first in ("am", "pm"):
        return (first, at + 1) if words[at + 1 : at + 2] != ("i",) else None  # "which one am i"
    if first in ("a", "p") and words[at + 1 : at + 2] == ("m",):
        return f"{first}m", at + 2
    if first == "tonight":
        return "night", at + 1
    for form in (("in", "the"), ("this",), ("at",), ("tomorrow",), ("yesterday",)):
        name = "".join(words[at + len(form) : at + len(form) + 1])
        if words[at : at + len(form)] == form and name in _DAY_PARTS and (form != ("at",) or name == "night"):
            return name, at + len(form) + 1
    return None


def _suffixed(place: Place, found: Clock) -> Clock:
    """With what follows: "am", "in the evening"; it decides the half of the day and is part of the time."""
    part = _half_of_day(place.words, found.end)
    if part is None or (found.half is not None and part[0] not in ("am", "pm")) or found.hour > 12:
        return found
    name, end = part
    if found.plain and ":" not in found.text and not _an_hour(place, name):
        return found
    text = found.text if ":" in found.text or name in ("am", "pm") else f"{found.text}:00"
    shown = f" {name}" if name in ("am", "pm") else " " + " ".join(place.words[found.end : end])
    if found.half is not None:  # "noon pm" adds nothing
        return found
    if name in ("am", "pm"):
        later: bool | None = None if found.crossing else name == "pm"
    else:
        later = _later(name, found.hour, found.minute)
    if later is None:
        return Clock(found.hour, found.minute, end, text + shown, sure=True)
    hour = found.hour % 12 + (12 if later else 0)
    return Clock(hour, found.minute, end, text + shown, sure=True, half=True)


def _an_hour(place: Place, part: str) -> bool:
    """Whether a number alone before a part of the day is an hour: "take two in the morning" says no time."""
    if part in ("am", "pm"):
        return True
    after_time = place.before is not None and place.before.kind == "time" and place.before.end == place.at - 1
    return place.lone or after_time or place.word(-1) in {*_CUES, "from", "about", "is"}


def _later(part: str, hour: int, minute: int) -> bool | None:
    """Whether an hour of twelve is in the later half of the day, by the part of the day; None where that is open."""
    hour %= 12
    if part == "morning":
        return False
    if part == "afternoon":
        return True if hour <= 6 else None
    if part == "evening":
        return True if hour >= 4 else None
    if hour >= 6 or (part == "tonight" and hour >= 5):
        return True
    return False if hour <= 3 else None


def _said_before(place: Place) -> str | None:
    """The part of the day in front of the time: "tomorrow morning at ten", "this evening around six thirty"."""
    if place.word(-1) in _CUES | {"for", "about", "from"} and place.word(-2) in _DAY_PARTS:
        return place.word(-2)
    return None


def _cued(place: Place, found: Clock) -> bool:
    """Whether something near hour and minute says that they are a time; the hour alone is never written."""
    following = place.words[found.end] if found.end < len(place.words) else ""
    if found.plain or following in NUMBER_WORDS or following in ("percent", "dollars", "degrees", "point"):
        return False
    previous = place.word(-1)
    if previous in _NUMBERED:
        return False
    if previous in _CUES or following in _AFTER_CUES:
        return True
    if previous == "from" and following in _RANGES and found.end + 1 < len(place.words):
        until = _direct(place.moved(found.end + 1))
        return until is not None and not until.plain
    if place.before is not None and place.before.kind == "time" and place.before.end == place.at - 1:
        return previous in {*_RANGES, "and", "or"}
    near = not _CLOCK_WORDS.isdisjoint(place.words)
    return near and (
        previous in _SOFT_CUES or previous in _CLOCK_WORDS or previous in _DAY_PARTS or found.end == len(place.words)
    )
