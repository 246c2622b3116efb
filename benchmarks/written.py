"""Spoken to written over everything that can be enumerated, and over sentences with nothing to write.

    python benchmarks/written.py [--corpora FOLDER] [--largest 1000000]

Times: all 1440 of a day in every form in which ``clock_forms`` says them, in a sentence (the span and its value) and
alone (``value_of``); a form of twelve hours must name exactly the two times that it can be, one with the half of
the day exactly the one. Numbers: all integers from 0 to ``--largest``, as cardinals alone, as ordinals, and as values.
Plain sentences: those of SLURP's texts that hold no number word, in the recogniser's spelling; an edit of one is
false, unless it joins letters that were spelled one by one, which are counted apart. Speed: the time of ``write`` a
sentence, over sentences with and without numbers. Where ``wetext`` is installed, what it does without the rules: the
share of the same clock times that it writes (hour and minute as digits, in either count of hours, nothing of the time
left as words), its edits of the same plain sentences, its speed; and the speed of both together. One JSON line per
figure.
"""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
from _lines import corpora, emit, skip

from sayso.core.errors import MissingExtra
from sayso.text.normalise import normalise
from sayso.text.numbers import NUMBER_WORDS, ORDINAL_WORDS, number_words, ordinal_words
from sayso.text.wetext import WetextWriter
from sayso.text.written import Rules, Writer, value_of

BENCH = "written"
PLAIN = 10_000
SPELLED = re.compile(r"\b[a-z] [a-z]\b")
WORDS = {*NUMBER_WORDS, *ORDINAL_WORDS, "noon", "midnight", "midday"}


def clock_forms(hour: int, minute: int) -> Iterator[tuple[str, str, bool]]:
    """Ways to say a time of day: a name, the words, and whether they say which half of the day it is."""
    twelve, half = (hour - 1) % 12 + 1, "am" if hour < 12 else "pm"
    pair = f"{number_words(twelve)} {_minutes(minute)}".strip()
    yield "six thirty pm", f"{pair} {half}", True
    yield "six thirty p m", f"{pair} {half[0]} m", True
    yield "six thirty in the evening", f"{pair} {_day_part(hour)}", True
    if minute:
        yield "six thirty", pair, False
        yield "eighteen thirty", f"{_military(hour)} {_minutes(minute)} hours", True
    else:
        yield "six o'clock", f"{number_words(twelve)} o'clock", False
        yield "six o'clock pm", f"{number_words(twelve)} o'clock {half}", True
        yield "eighteen hundred hours", f"{_military(hour)} hundred hours", True
        if hour % 12 == 0:
            yield "noon", "noon" if hour else "midnight", True
    if 0 < minute <= 30:
        said = {15: "quarter", 30: "half"}.get(minute, f"{number_words(minute)} minute{'' if minute == 1 else 's'}")
        yield "ten minutes past six", f"{said} past {number_words(twelve)}", False
        yield "ten minutes past six pm", f"{said} past {number_words(twelve)} {half}", True
        yield "quarter past six", f"{said.removesuffix('s').removesuffix(' minute')} past {number_words(twelve)}", False
    elif minute:
        following = hour + 1
        name, later = number_words((following - 1) % 12 + 1), "am" if following % 24 < 12 else "pm"
        said = "a quarter" if minute == 45 else f"{number_words(60 - minute)} minute{'' if minute == 59 else 's'}"
        yield "ten minutes to six", f"{said} to {name}", False
        if following % 12:  # before twelve, "am" and "pm" change on the way
            yield "ten minutes to six pm", f"{said} to {name} {later}", True
        yield "quarter till six", f"{said} till {name}", False


def _minutes(minute: int) -> str:
    return "" if minute == 0 else f"oh {number_words(minute)}" if minute < 10 else number_words(minute)


def _military(hour: int) -> str:
    return f"oh {number_words(hour)}" if 0 < hour < 10 else number_words(hour)


def _day_part(hour: int) -> str:
    if hour < 12:
        return "in the morning"
    return "in the afternoon" if hour < 18 else "in the evening" if hour < 22 else "at night"


def clock_errors(writer: Writer, moments: Iterable[int] = range(1440)) -> Iterator[tuple[str, str, str]]:
    """Every form of every time (minutes of the day): its name, its words, and what is wrong with what was made of them
    ("" for nothing)."""
    for moment in moments:
        hour, minute = divmod(moment, 60)
        exact = f"{hour:02d}:{minute:02d}"
        other = f"{(hour + 12) % 24:02d}:{minute:02d}"
        for name, words, known in clock_forms(hour, minute):
            want = (exact, ()) if known else (f"{(hour - 1) % 12 + 1}:{minute:02d}", tuple(sorted((exact, other))))
            written = writer.write(f"wake me up at {words} please")
            found = [(span.value, span.ambiguous) for span in written.spans]
            alone = value_of(words, "time")
            wrong = "" if found == [want] else f"written {found}, not {want}"
            if alone is None or (alone.text, alone.ambiguous) != want:
                wrong = f"value {alone}, not {want}"
            yield name, words, wrong


def clocks(writer: Writer, case: str) -> None:
    """Shares of right forms, by form."""
    counts: dict[str, list[int]] = {}
    for name, _, wrong in clock_errors(writer):
        counts.setdefault(name, []).append(not wrong)
    for name, right in counts.items():
        emit(BENCH, f"{case}/{name}", "accuracy", float(np.mean(right)))
    every = [value for right in counts.values() for value in right]
    emit(BENCH, case, "forms", len(every))
    emit(BENCH, case, "accuracy", float(np.mean(every)))


def numbers(writer: Writer, largest: int) -> None:
    """All integers: written alone, written as ordinals, and read as values."""
    wrong = {"cardinal": 0, "ordinal": 0, "value": 0, "round trip": 0}
    for n in range(largest + 1):
        said = number_words(n)
        written = writer.write(said)
        wrong["cardinal"] += [span.value for span in written.spans] != [str(n)]
        wrong["round trip"] += normalise(written.text) != said
        spans = writer.write(f"the {ordinal_words(n)} one").spans
        wrong["ordinal"] += n > 12 and [span.value for span in spans] != [str(n)]
        found = value_of(said, "number")
        wrong["value"] += found is None or found.text != str(n)
    for name, count in wrong.items():
        emit(BENCH, f"integers 0 to {largest}", f"{name}_errors", count)


def sentences(folder: Path) -> list[str]:
    """SLURP's texts in the recogniser's spelling, each once."""
    lines = (folder / "text" / "slurp" / "lm.txt").read_text(encoding="utf-8").splitlines()
    return list(dict.fromkeys(text for text in map(normalise, lines) if text))


def plain_sentences(texts: list[str]) -> list[str]:
    """Those with no number word in them."""
    return [text for text in texts if WORDS.isdisjoint(text.split())]


def clocks_alone(write: Callable[[str], str], case: str) -> None:
    """Shares of forms in which the time alone is left of its words."""
    counts: dict[str, list[int]] = {}
    for moment in range(1440):
        hour, minute = divmod(moment, 60)
        for name, words, _ in clock_forms(hour, minute):
            left = write(f"wake me up at {words} please").removeprefix("wake me up at ").removesuffix(" please")
            figures = {f"{h}:{minute:02d}" for h in (hour, (hour - 1) % 12 + 1)}
            figures |= {f"{h:02d}:{minute:02d}" for h in (hour, (hour - 1) % 12 + 1)} | (
                {words} if name == "noon" else set()
            )
            shown, _, half = left.partition(" ")
            right = shown in figures and WORDS.isdisjoint(half.split())
            counts.setdefault(name, []).append(right)
    for name, found in counts.items():
        emit(BENCH, f"{case}/{name}", "accuracy", float(np.mean(found)))
    emit(BENCH, case, "accuracy", float(np.mean([value for found in counts.values() for value in found])))


def edits(write: Callable[[str], str], texts: list[str], case: str) -> None:
    """What is changed in sentences with nothing to write."""
    spelled = false = 0
    for text in texts:
        written = write(text)
        joined = written.lower().replace(" ", "") == text.replace(" ", "") and SPELLED.search(text) is not None
        spelled += written != text and joined
        false += written != text and not joined
    emit(BENCH, case, "sentences", len(texts))
    emit(BENCH, case, "false_edits", false)
    emit(BENCH, case, "spelled_letters_joined", spelled)


def speed(write: Callable[[str], object], texts: list[str], case: str) -> None:
    """Milliseconds a sentence."""
    times = []
    for text in texts:
        began = time.perf_counter()
        write(text)
        times.append(1000 * (time.perf_counter() - began))
    for metric, share in (("p50_ms", 50), ("p95_ms", 95), ("max_ms", 100)):
        emit(BENCH, case, metric, float(np.percentile(times, share)))


def main() -> None:
    """Measure all of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpora", type=Path, default=None, help="default: SAYSO_CORPORA")
    parser.add_argument("--largest", type=int, default=10**6)
    arguments = parser.parse_args()
    rules = Rules()
    clocks(rules, "times")
    numbers(rules, arguments.largest)
    folder = arguments.corpora or corpora()
    texts = sentences(folder) if (folder / "text" / "slurp" / "lm.txt").is_file() else []
    if not texts:
        skip("sentences", f"no SLURP texts under {folder}")
    plain = plain_sentences(texts)[:PLAIN]
    if texts:
        edits(lambda text: rules.write(text).text, plain, "plain sentences/rules")
        speed(rules.write, texts, "sentences/rules")
    try:
        other = WetextWriter()
    except MissingExtra as error:
        skip("wetext", str(error))
        return
    clocks_alone(other.alone, "times/wetext alone")
    if texts:
        edits(other.alone, plain, "plain sentences/wetext alone")
        speed(other.alone, texts[:PLAIN], "sentences/wetext alone")
        speed(other.write, texts[:PLAIN], "sentences/rules and wetext")


if __name__ == "__main__":
    main()
