"""Number words: named values, the inverse over the whole range, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sayso.text.numbers import LARGEST, number_words, ordinal_words, words_to_number, year_words


@pytest.mark.parametrize(
    ("n", "words"),
    [
        (0, "zero"),
        (13, "thirteen"),
        (40, "forty"),
        (42, "forty two"),
        (100, "one hundred"),
        (105, "one hundred five"),
        (1000, "one thousand"),
        (12_345, "twelve thousand three hundred forty five"),
        (1_000_001, "one million one"),
        (10**9, "one billion"),
        (-7, "minus seven"),
    ],
)
def test_named_values(n: int, words: str) -> None:
    assert number_words(n) == words
    assert words_to_number(words) == n


def test_round_trip_is_exact_and_spellings_differ() -> None:
    numbers = [*range(3000), *range(3000, 100_001, 37), 100_000]
    said = [number_words(n) for n in numbers]
    assert len(set(said)) == len(numbers)
    assert [words_to_number(words) for words in said] == numbers


@settings(max_examples=150, deadline=None)
@given(st.integers(-LARGEST, LARGEST))
def test_round_trip_far_out(n: int) -> None:
    assert words_to_number(number_words(n)) == n


@pytest.mark.parametrize(
    ("words", "n"),
    [
        ("one hundred and five", 105),
        ("Forty-Two", 42),
        ("a hundred", 100),
        ("a thousand and one", 1001),
        ("a hundred and twenty thousand", 120_000),
        ("fifteen hundred", 1500),
        ("nineteen hundred and five", 1905),
        ("two million and three thousand", 2_003_000),
        ("negative three", -3),
    ],
)
def test_liberal_reading(words: str, n: int) -> None:
    assert words_to_number(words) == n


@pytest.mark.parametrize(
    "words",
    [
        *("", "minus", "and", "a", "hundred", "thousand", "and five", "five and", "two hundred and"),
        *("twenty twenty six", "one two three", "five ten", "twenty ten", "one thousand two million"),
        *("one thousand one thousand", "two a hundred", "a five", "zero five"),
        *("one hundred two hundred", "ten hundred", "fifteen hundred thousand", "first", "one point five"),
        *("five and six", "kitchen"),
        *("five kitchen", "one thousand billion billion", "minus minus five"),
    ],
)  # fmt: skip
def test_refused(words: str) -> None:
    assert words_to_number(words) is None


@pytest.mark.parametrize(
    ("n", "words"),
    [
        (0, "zeroth"),
        (1, "first"),
        (2, "second"),
        (3, "third"),
        (5, "fifth"),
        (8, "eighth"),
        (9, "ninth"),
        (12, "twelfth"),
        (20, "twentieth"),
        (21, "twenty first"),
        (100, "one hundredth"),
        (1000, "one thousandth"),
    ],
)
def test_ordinals(n: int, words: str) -> None:
    assert ordinal_words(n) == words


@pytest.mark.parametrize(
    ("n", "words"),
    [
        (1984, "nineteen eighty four"),
        (1905, "nineteen oh five"),
        (1900, "nineteen hundred"),
        (2000, "two thousand"),
        (2006, "two thousand six"),
        (2026, "twenty twenty six"),
        (1066, "ten sixty six"),
    ],
)
def test_years(n: int, words: str) -> None:
    assert year_words(n) == words


def test_out_of_range_is_refused() -> None:
    for call in (
        lambda: number_words(LARGEST + 1),
        lambda: number_words(-LARGEST - 1),
        lambda: ordinal_words(-1),
        lambda: year_words(999),
    ):
        with pytest.raises(ValueError, match="legal is"):
            call()
