"""The lexicon: listed words and variants, endings, compounds, words nobody listed, and files that are none."""

from __future__ import annotations

import hashlib
import io
import itertools
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sayso.core.errors import DataError
from sayso.text import lexicon as module
from sayso.text.lexicon import PHONES, LetterRules, Lexicon
from sayso.text.normalise import normalise

ROOT = Path(__file__).parents[2]
FILE = ROOT / "src" / "sayso" / "text" / "data" / "lexicon.en.npz"
WORDS = st.from_regex(r"[a-z]+('[a-z]+)*", fullmatch=True)


@pytest.fixture(scope="module")
def lexicon() -> Lexicon:
    return Lexicon.load()


def said(lexicon: Lexicon, word: str, most: int = 4) -> list[str]:
    return [" ".join(PHONES[phone] for phone in spoken) for spoken in lexicon.pronounce(word, most)]


def test_the_phones_are_arpabet_without_stress() -> None:
    assert len(PHONES) == 40 and PHONES[0] == "<blk>" and list(PHONES[1:]) == sorted(set(PHONES[1:]))
    assert all(phone.isalpha() and phone.isupper() for phone in PHONES[1:])


@pytest.mark.parametrize(
    ("word", "pronunciations"),
    [
        ("kitchen", ["K IH CH AH N"]),
        ("the", ["DH AH", "DH IY"]),
        ("read", ["R EH D", "R IY D"]),
        ("a", ["AH", "EY"]),
        ("b", ["B IY"]),
        ("w", ["D AH B AH L Y UW"]),
        ("am", ["AE M", "EY EH M"]),  # "a.m." as well
        ("pm", ["P IY EH M"]),
        ("o'clock", ["AH K L AA K"]),
        ("macchiato", ["M AE K IY AA T OW"]),
        ("flurbit", ["F L ER B IH T"]),
        ("mqtt", ["EH M K Y UW T IY T IY"]),  # no vowel: spelled
        ("hh", ["EY CH EY CH"]),
        ("", []),
        ("'", []),
    ],
)
def test_words(lexicon: Lexicon, word: str, pronunciations: list[str]) -> None:
    assert said(lexicon, word) == pronunciations


def test_known_is_what_the_dictionary_lists(lexicon: Lexicon) -> None:
    assert lexicon.known("kitchen") and lexicon.known("a") and lexicon.known("zywicki")
    assert not any(map(lexicon.known, ("flurbit", "macchiato", "", "zzzz", "Kitchen")))


@pytest.mark.parametrize(
    ("word", "base", "ending"),
    [
        ("espresso's", "espresso", "Z"),
        ("playlist's", "playlist", "S"),
        ("latte's", "latte", "Z"),
        ("lattes", "latte", "Z"),
        ("sandwich's", "sandwich", "IH Z"),
        ("fridge's", "fridge", "IH Z"),
        ("flurbit's", "flurbit", "S"),
        ("bedroomlights", "bedroomlight", "S"),
    ],
)
def test_an_s_follows_the_sound_before_it(lexicon: Lexicon, word: str, base: str, ending: str) -> None:
    assert not lexicon.known(word), "listed: tests nothing"
    assert said(lexicon, word) == [f"{spoken} {ending}" for spoken in said(lexicon, base)]


def test_two_nouns_in_one_are_said_one_after_the_other(lexicon: Lexicon) -> None:
    word = "coffeemachine"
    assert not lexicon.known(word)
    assert said(lexicon, word, 1) == [said(lexicon, "coffee")[0] + " " + said(lexicon, "machine")[0]]
    both = itertools.product(lexicon.pronounce("coffee"), lexicon.pronounce("machine"))
    assert lexicon.pronounce(word) == tuple(one + other for one, other in both)[:4]
    assert said(lexicon, "zipable")[0].endswith("AH B AH L")  # "able" is an ending, not a half


def test_variants_are_all_different_and_as_many_as_asked_for(lexicon: Lexicon) -> None:
    for word in ("the", "and", "tomatoes", "february", "coffeemachine's"):
        every = lexicon.pronounce(word, 100)
        assert len(set(every)) == len(every)
        assert [lexicon.pronounce(word, most) for most in (1, 2, 4)] == [every[:1], every[:2], every[:4]]


def test_a_text_is_its_words_first_pronunciations(lexicon: Lexicon) -> None:
    text = normalise("Turn on the kitchen's flurbit at 7 a.m.!")
    spoken = "T ER N AA N DH AH K IH CH AH N Z F L ER B IH T AE T S EH V AH N AE M"
    assert [PHONES[phone] for phone in lexicon.phones(text)] == spoken.split()
    assert lexicon.phones("") == []


@settings(max_examples=150, deadline=None)
@given(WORDS)
def test_any_word_has_phones(word: str) -> None:
    lexicon = Lexicon.load()
    spoken = lexicon.pronounce(word)
    assert spoken and all(0 < phone < len(PHONES) for one in spoken for phone in one)
    assert all(spoken) and len(spoken) <= 4
    assert spoken == lexicon.pronounce(word)


def test_loaded_once_and_not_before_it_is_asked_for(lexicon: Lexicon) -> None:
    assert Lexicon.load("en") is lexicon
    assert lexicon.sha256 == hashlib.sha256(FILE.read_bytes()).hexdigest()
    code = "import sys, sayso; assert 'sayso.text.lexicon' not in sys.modules; from sayso.text import lexicon as l"
    code += "; assert l._load.cache_info().currsize == 0; l.Lexicon.load(); assert l._load.cache_info().currsize == 1"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("language", ["tlh", "", "../en", "EN"])
def test_a_language_without_a_lexicon_is_named(language: str) -> None:
    with pytest.raises(DataError, match=rf"'{language}'.*Legal: en"):
        Lexicon.load(language)


def test_a_damaged_file_is_refused_by_name() -> None:
    data = FILE.read_bytes()
    flipped = [bytearray(data) for _ in range(8)]
    for number, one in enumerate(flipped):
        one[len(data) * (number + 1) // 10] ^= 0x55
    for bad in (b"", b"PK", data[: len(data) // 2], data[100:], *map(bytes, flipped)):
        with pytest.raises(DataError, match=r"en\.npz: not a lexicon"):
            Lexicon(bad, where="en.npz")


def content() -> dict[str, Any]:
    with np.load(FILE, allow_pickle=False) as archive:
        return {name: archive[name].copy() for name in archive.files}


def file_of(arrays: dict[str, Any]) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("words", b"a\nb"),
        ("words", "\xe9".encode()),
        ("phones", bytes([77])),
        ("question", 250),
        ("other", 10**6),
        ("other", -1),
        ("other", 0),  # a question that leads back
        ("roots", 10**7),
    ],
)
def test_a_foreign_file_is_refused(name: str, value: bytes | int) -> None:
    arrays = content()
    if isinstance(value, bytes):
        arrays[name] = np.concatenate([np.frombuffer(value, np.uint8), arrays[name][len(value) :]])
    else:
        arrays[name][arrays["question"] != module.LEAF if name == "other" else slice(None)] = value
    with pytest.raises(DataError, match="not a lexicon"):
        Lexicon(file_of(arrays))
    missing = content()
    del missing[name]
    with pytest.raises(DataError, match="not a lexicon"):
        Lexicon(file_of(missing))
    Lexicon(file_of(content()))  # untouched it is one


def test_rules_grown_on_short_words_say_others(lexicon: Lexicon, monkeypatch: pytest.MonkeyPatch) -> None:
    """The benchmark's own functions on some words of five letters, then on the words between them."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    made = runpy.run_path(str(ROOT / "benchmarks" / "lexicon.py"))
    listed = [word for word in lexicon._words if word.isalpha() and len(word) == 5]
    train = {word: lexicon.pronounce(word) for word in listed[::5]}
    aligned = made["align"](train)
    rules = made["grow"](aligned)
    letters, edits = LetterRules(rules), made["edits"]
    assert len(aligned) > 0.95 * len(train)
    shown = {word: tuple(p for chunk in path for p in divmod(chunk, len(PHONES)) if p) for word, path in aligned}
    assert all(shown[word] == train[word][0] == letters.pronounce(word) for word in shown)
    wrong = phones = 0
    for word in listed[2::50]:
        guess = letters.pronounce(word)
        errors, length = min((edits(guess, one), len(one)) for one in lexicon.pronounce(word))
        wrong, phones = wrong + errors, phones + length
    assert 0 < wrong / phones < 0.3
    data = made["packed"](train, rules)
    assert data == made["packed"](train, made["grow"](aligned))
    small = Lexicon(data)
    assert all(small.pronounce(word) == spoken for word, spoken in train.items())
