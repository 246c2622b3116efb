"""Written English to the one spelling that the recogniser knows: words of a-z and apostrophes, single spaces.

Numbers, times, ordinals, money and a few signs become the words one says; accents are folded; case and punctuation
go. The rules are local: apart from money ("$5 million"), a separated sign ("5 %") and a dotted "a. m.", no word
depends on its neighbours, so a grammar may normalise its literals one by one and get what normalising the whole
sentence gives. Idempotent, because the output holds nothing that any rule matches. "am" and "pm" stay words ("5:45
p.m." is "five forty five pm"); four digits from 1100 to 2099 without a comma are read as a year (2000 to 2009 are the
same either way); letters of other alphabets are dropped.
"""

from __future__ import annotations

import re
import unicodedata

from sayso.text.numbers import LARGEST, number_words, ordinal_words, year_words

_FOLD = str.maketrans(
    {
        "’": "'", "‘": "'", "ʼ": "'", "`": "'", "´": "'", "−": "-", "–": "-", "—": " - ", "ß": "ss", "æ": "ae",
        "œ": "oe", "ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "ı": "i", "º": "°", "⁄": "/", "№": "#",
        "½": " 1/2", "¼": " 1/4", "¾": " 3/4", "⅓": " 1/3", "⅔": " 2/3",
    }
)  # fmt: skip
_FRACTIONS = {"1/2": "half", "1/4": "quarter", "3/4": "three quarters", "1/3": "third", "2/3": "two thirds"}
_MONEY = {"$": ("dollar", "cent"), "£": ("pound", "pence"), "€": ("euro", "cent")}
_SIGNS = {"&": "and", "%": "percent", "@": "at", "+": "plus", "=": "equals", "°": "degrees"}
_WORDS = {"mr": "mister", "mrs": "missus", "dr": "doctor"}

_NUMBER = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?"
_HALF_DAY = re.compile(r"(?<![a-z])([ap])\. ?m(?:\.|(?![a-z]))")
_MONEY_FORM = re.compile(rf"([$£€]) ?({_NUMBER})(?![\d])(?: (hundred|thousand|million|billion)\b)?")
_CLOCK = re.compile(r"(?<![\d:.])([01]?\d|2[0-3]):([0-5]\d)(?![\d:])")
_ORDINAL = re.compile(r"(?<![\d.,])(\d{1,3}(?:,\d{3})+|\d+)(?:st|nd|rd|th)(?![a-z])")
_FRACTION = re.compile(r"(?<![\d/.,])(?:(\d+) )?([123]/[234])(?![\d/])")
_DEGREES = re.compile(r"° ?([cf])(?![a-z])")
_MINUS = re.compile(r"(?<![\w.,:)'])-(?=[$£€]?\d)")
_PLAIN = re.compile(_NUMBER)
_SPACE = re.compile(r"\s+")


def normalise(text: str) -> str:
    """What ``text`` is spelled like when spoken, e.g. "Set it to 21°C!" gives "set it to twenty one degrees
    celsius"."""
    text = _fold(text)
    text = _HALF_DAY.sub(r" \1m ", text)
    text = _MINUS.sub(" minus ", text)
    text = _MONEY_FORM.sub(_say_money, text)
    text = _CLOCK.sub(_say_clock, text)
    text = _ORDINAL.sub(lambda match: f" {_say_ordinal(match[1])} ", text)
    text = _FRACTION.sub(_say_fraction, text)
    text = _DEGREES.sub(lambda match: f" degrees {'celsius' if match[1] == 'c' else 'fahrenheit'} ", text)
    text = _PLAIN.sub(lambda match: f" {_say_number(match[0])} ", text)
    for sign, word in _SIGNS.items():
        text = text.replace(sign, f" {word} ")
    text = re.sub(r"#(?= ?[a-z])", " number ", text)
    text = re.sub(r"[^a-z' ]", " ", text)
    text = re.sub(r"(?<![a-z])'+|'+(?![a-z])", "", text)  # an apostrophe lives between two letters only
    return " ".join(_WORDS.get(word, word) for word in text.split())


def _fold(text: str) -> str:
    """Lower case, no accents, one kind of space, apostrophe and dash."""
    text = unicodedata.normalize("NFKD", text.lower().translate(_FOLD)).lower().translate(_FOLD)
    text = "".join(char for char in text if not unicodedata.combining(char))
    # other alphabets' digits become ours, else \d would find digits that int() reads and our words do not expect
    text = "".join(str(unicodedata.digit(char)) if char.isdigit() else char for char in text)
    return _SPACE.sub(" ", text)


def _say_number(written: str) -> str:
    """A cardinal, year, decimal, or a string of digits that is said one by one ("007", very long ones)."""
    whole, _, decimals = written.partition(".")
    digits = whole.replace(",", "")
    if (len(digits) > 1 and digits[0] == "0") or int(digits) > LARGEST:
        said = _one_by_one(digits)
    elif not decimals and "," not in whole and 1100 <= int(digits) <= 2099:
        said = year_words(int(digits))
    else:
        said = number_words(int(digits))
    return f"{said} point {_one_by_one(decimals)}" if decimals else said


def _say_ordinal(written: str) -> str:
    value = int(written.replace(",", ""))
    return ordinal_words(value) if value <= LARGEST else _one_by_one(written.replace(",", ""))


def _say_clock(match: re.Match[str]) -> str:
    hour, minute = int(match[1]), int(match[2])
    if minute == 0:
        return f" {number_words(hour)} o'clock " if 1 <= hour <= 12 else f" {number_words(hour)} hundred "
    return f" {number_words(hour)} {'oh ' if minute < 10 else ''}{number_words(minute)} "


def _say_money(match: re.Match[str]) -> str:
    unit, part = _MONEY[match[1]]
    written, scale = match[2].replace(",", ""), match[3]
    whole, _, decimals = written.partition(".")
    if scale or len(decimals) not in (0, 2) or int(whole) > LARGEST:
        return f" {_say_number(written)} {scale or ''} {unit}s "
    units, parts = int(whole), int(decimals or 0)
    said = [f"{number_words(units)} {unit}{'' if units == 1 else 's'}"] if units or not parts else []
    if parts:
        plural = "" if parts == 1 or part == "pence" else "s"
        said.append(f"{number_words(parts)} {'penny' if (parts, part) == (1, 'pence') else part}{plural}")
    return f" {' and '.join(said)} "


def _say_fraction(match: re.Match[str]) -> str:
    whole, fraction = match[1], match[2]
    if fraction not in _FRACTIONS:
        return match[0]
    said = _FRACTIONS[fraction]
    if not said.startswith(("two", "three")):
        said = ("a " if whole or fraction == "1/2" else "one ") + said
    return f" {_say_number(whole)} and {said} " if whole else f" {said} "


def _one_by_one(digits: str) -> str:
    return " ".join(number_words(int(digit)) for digit in digits)
