"""Normalising: named cases, the alphabet, idempotence, and independence of neighbouring words."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sayso.text.display import display
from sayso.text.normalise import normalise
from sayso.text.numbers import number_words
from sayso.text.written import RULES

CASES = {
    "": "",
    "  \t\n ": "",
    "?!...": "",
    "Turn ON the kitchen lights, please!": "turn on the kitchen lights please",
    "Set it to 21°C.": "set it to twenty one degrees celsius",
    "70 °F": "seventy degrees fahrenheit",
    "21": "twenty one",
    "5:45": "five forty five",
    "at 5:05pm": "at five oh five pm",
    "7:00 a.m.": "seven o'clock am",
    "17:00": "seventeen hundred",
    "25:99": "twenty five ninety nine",
    "the 6th and the 21st": "the sixth and the twenty first",
    "$5": "five dollars",
    "$1": "one dollar",
    "$0.50": "fifty cents",
    "£2.01": "two pounds and one penny",
    "€1,000": "one thousand euros",
    "$3.5 million": "three point five million dollars",
    "50%": "fifty percent",
    "50 %": "fifty percent",
    "1,000,000": "one million",
    "3.14": "three point one four",
    "007": "zero zero seven",
    "in 1987": "in nineteen eighty seven",
    "-5 degrees": "minus five degrees",
    "−5°": "minus five degrees",
    "twenty-one": "twenty one",
    "5-10": "five ten",
    "Café NAÏVE Straße Łódź": "cafe naive strasse lodz",
    "don’t ‘quote’ 'me' rock 'n' roll dogs'": "don't quote me rock n roll dogs",
    "2½ cups": "two and a half cups",
    "1/2": "a half",
    "3/4": "three quarters",
    "Mr. Smith & Co.": "mister smith and co",
    "5km b2b": "five km b two b",
    "#5": "number five",
    "５：４５": "five forty five",
    "٣": "three",
    "привет": "",
    "1234567890123": "one two three four five six seven eight nine zero one two three",
    "i am": "i am",
}  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), CASES.items())
def test_named_cases(text: str, expected: str) -> None:
    assert normalise(text) == expected


MESSY = st.text(
    alphabet=st.one_of(st.sampled_from("abmprst 0123456789.,:;'’-–$£€%°#&@+/½ßé\"()\n"), st.characters()), max_size=40
)


@settings(max_examples=400, deadline=None)
@given(MESSY)
def test_alphabet_and_idempotence(text: str) -> None:
    once = normalise(text)
    assert re.fullmatch(r"(?:[a-z]+(?:'[a-z]+)*(?: (?!$)|$))*", once), once
    assert normalise(once) == once


WORD = st.one_of(
    st.from_regex(r"\A[a-z]{1,6}('[a-z]{1,2})?\Z"),
    st.integers(0, 10**7).map(str),
    st.integers(0, 999_999).map(lambda n: f"{n:,}"),
    st.tuples(st.integers(0, 23), st.integers(0, 59)).map(lambda t: f"{t[0]}:{t[1]:02d}"),
    st.sampled_from(["3.5", "21st", "7th", "50%", "21°", "-4", "well-known", "Mr.", "p.m.", "Hello,", "£3.20"]),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(WORD, min_size=1, max_size=6))
def test_words_do_not_depend_on_their_neighbours(words: list[str]) -> None:
    assert normalise(" ".join(words)) == " ".join(normalise(word) for word in words)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 1099) | st.integers(2100, 10**9))
def test_numbers_agree_with_number_words(n: int) -> None:
    assert normalise(str(n)) == number_words(n)
    assert normalise(f"{n:,}") == number_words(n)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("turn on the lights", "Turn on the lights"),
        ("what can i say i'm tired", "What can I say I'm tired"),
        ("i'll do it in a minute", "I'll do it in a minute"),
    ],
)
def test_display(text: str, shown: str) -> None:
    assert display(text) == shown
    assert display(shown) == shown


@settings(max_examples=100, deadline=None)
@given(MESSY)
def test_display_changes_only_what_is_written_otherwise(text: str) -> None:
    spoken = normalise(text)
    if not RULES.write(spoken).spans:
        assert normalise(display(spoken)) == spoken
