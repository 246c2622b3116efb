"""Spoken to written: hand cases, all clock times, numbers, what must stay, and that every edit can be undone."""

from __future__ import annotations

import datetime as dt
import json
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sayso.core.errors import UsageError
from sayso.text.display import display
from sayso.text.normalise import normalise
from sayso.text.numbers import NUMBER_WORDS, ORDINAL_WORDS, number_words, ordinal_words
from sayso.text.wetext import WetextWriter
from sayso.text.written import RULES, Written, slot_readings, slot_value, value_of
from sayso.text.written_dates import MONTHS

HERE = Path(__file__).parent
BENCHMARKS = HERE.parents[1] / "benchmarks"


def lines(name: str) -> Iterator[str]:
    for line in (HERE / name).read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            yield line


CASES = [
    (said, written or said) for said, _, written in (line.partition(" -> ") for line in lines("written_cases.txt"))
]
VALUES = [tuple(part.strip() for part in line.split("|")) for line in lines("written_values.txt")]


@pytest.fixture(scope="module")
def bench() -> dict[str, Any]:
    """The sweep's own names: the benchmark and this suite say times alike."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        return runpy.run_path(str(BENCHMARKS / "written.py"))


def undone(written: Written) -> str:
    """The spoken words, put together from what the spans say they cover."""
    words: list[str] = []
    at = 0
    for span in written.spans:
        assert at <= span.start < span.end <= len(written.words) and span.text and span.value
        words += [*written.words[at : span.start], *written.words[span.start : span.end]]
        at = span.end
    return " ".join([*words, *written.words[at:]])


def test_there_are_enough_cases() -> None:
    assert len(CASES) >= 500 and len(set(CASES)) == len(CASES)


@pytest.mark.parametrize(("said", "written"), CASES, ids=[said for said, _ in CASES])
def test_hand_cases(said: str, written: str) -> None:
    found = RULES.write(said)
    assert found.text == written
    assert undone(found) == found.spoken == said


@pytest.mark.parametrize("case", VALUES, ids=[" ".join(case[:2]) for case in VALUES])
def test_values(case: tuple[str, ...]) -> None:
    kind, said, value, *readings = case
    found = value_of(said, kind)
    if value == "-":
        assert found is None
    else:
        assert found is not None
        assert (found.text, found.ambiguous) == (value, tuple(readings[0].split()) if readings else ())


def test_clock_times(bench: dict[str, Any]) -> None:
    """Two thousand of the forms of the sweep: all those of times drawn from the day."""
    moments = np.random.default_rng(0).permutation(1440)[:260].tolist()
    errors = list(bench["clock_errors"](RULES, moments))
    assert len(errors) >= 2000
    assert [error for error in errors if error[2]] == []


def test_every_time_has_six_forms(bench: dict[str, Any]) -> None:
    assert min(len(list(bench["clock_forms"](*divmod(moment, 60)))) for moment in range(1440)) >= 6


def test_numbers() -> None:
    for number in [*range(1000), *np.random.default_rng(0).integers(1000, 10**6, 1000).tolist(), 10**6]:
        said = number_words(number)
        written = RULES.write(said)
        assert [span.value for span in written.spans] == [str(number)]
        assert normalise(written.text) == said
        value = value_of(said, "number")
        assert value is not None and value.text == str(number)
        if number > 12:
            assert RULES.write(f"the {ordinal_words(number)} one").spans[0].value == str(number)


OTHERS = (
    "and a an the point oh half quarter past to of at in on am pm p m minus percent dollars cents pounds minutes hour "
    "seconds o'clock noon midnight degrees street b x i double plus room from people"
)
WORDS = sorted({*NUMBER_WORDS, *ORDINAL_WORDS, *MONTHS, *OTHERS.split()})


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(WORDS), max_size=9))
def test_any_words_can_be_undone(words: list[str]) -> None:
    """Number words in any order: no crash, spans in order and apart, and the spoken words come back."""
    text = " ".join(words)
    assert undone(RULES.write(text)) == text
    for kind in ("number", "time", "date", "duration"):
        value_of(text, kind)


@pytest.mark.corpus
def test_plain_sentences_stay(corpora: Path, bench: dict[str, Any]) -> None:
    """Sentences of SLURP without number words: none is edited, but for letters that were spelled."""
    plain = bench["plain_sentences"](bench["sentences"](corpora))[:10_000]
    assert len(plain) == 10_000
    for text in plain:
        written = RULES.write(text)
        edits = [span for span in written.spans if span.text != " ".join(written.words[span.start : span.end])]
        assert all(span.kind == "letters" and span.end - span.start > 1 for span in edits), written.text


@pytest.mark.corpus
def test_transcripts_stay(corpora: Path, bench: dict[str, Any]) -> None:
    """The same for what people read aloud and said, whose sentences are longer."""
    files = sorted(corpora.glob("*/*.jsonl"))
    rows = [json.loads(line) for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    texts = list(dict.fromkeys(normalise(row.get("text") or "") for row in rows))
    plain = bench["plain_sentences"](texts)
    assert len(plain) > 5000
    changed = [RULES.write(text) for text in plain if RULES.write(text).text != text]
    assert len(changed) <= 3 and {span.kind for written in changed for span in written.spans} <= {"letters"}


def test_a_value_needs_a_type() -> None:
    with pytest.raises(UsageError, match="did you mean 'number'"):
        value_of("five", "numbr")


@pytest.mark.parametrize(
    ("said", "today", "value", "readings"),
    [
        ("tomorrow", "2026-02-28", "2026-03-01", ()),
        ("the day after tomorrow", "2026-11-29", "2026-12-01", ()),
        ("yesterday", "2026-01-01", "2025-12-31", ()),
        ("on tuesday", "2026-11-29", "2026-12-01", ()),  # a Sunday
        ("sunday", "2026-11-29", "2026-11-29", ("2026-11-29", "2026-12-06")),
        ("next monday", "2026-11-29", "2026-11-30", ("2026-11-30", "2026-12-07")),
        ("last sunday", "2026-11-29", "2026-11-22", ()),
        ("june first", "2026-11-29", "--06-01", ()),
    ],
)
def test_days_from_today(said: str, today: str, value: str, readings: tuple[str, ...]) -> None:
    found = value_of(said, "date", today=dt.date.fromisoformat(today))
    assert found is not None and (found.text, found.ambiguous) == (value, readings)


def test_slot_values_are_typed_where_a_type_says_so() -> None:
    assert slot_value("a quarter to six", "time") == "5:45"
    assert slot_readings("a quarter to six", "time") == ("5:45", ("05:45", "17:45"))
    assert slot_readings("a quarter to six in the evening", "time") == ("17:45", ())
    assert slot_value("a quarter to six", None) == "a quarter to six"
    assert slot_value("sixteen ounce", "open") == "sixteen ounce"
    assert slot_value("olive oil", "number") == "olive oil"


def test_display_shows_the_written_form() -> None:
    assert display("wake me up at a quarter to six on monday") == "Wake me up at 5:45 on Monday"
    assert display("i want it by five") == "I want it by five"
    assert display("june first") == "June 1st"
    assert display("") == ""


def test_wetext_writes_what_it_is_asked_for() -> None:
    pytest.importorskip("wetext")
    writer = WetextWriter()
    written = writer.write(
        "wake me at a quarter to six it is two hundred and five miles per hour to twenty one dollars"
    )
    assert written.text == "wake me at 5:45 it is 205 mph to $21"
    assert [span.value for span in written.spans] == ["5:45", "205 mile/hour", "21 USD"]
    assert undone(written) == written.spoken
    assert writer.write("second to none").text == "second to none" != writer.alone("second to none")
