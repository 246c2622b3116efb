"""The page: well-formed, self-contained, escaped, and its numbers are those of ``evaluate``."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np

from sayso.core.result import Alternative, Example, Frame, Intent, Result, Slot, Timing
from sayso.evaluation.evaluate import Pair, evaluate
from sayso.evaluation.predict import Failure
from sayso.evaluation.report import Report, Section, render, write_report

NASTY = "<script>alert('x')</script>&\""


class _Page(HTMLParser):
    """Checks nesting and keeps tags, attributes and text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.links: list[str] = []
        self.words: list[str] = []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data")]
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def make_pairs(n: int, seed: int) -> list[Pair]:
    rng = np.random.default_rng(seed)
    intents, areas = ["turn_on", "turn_off", "lock", "set_timer"], ["kitchen", "hall", "bedroom"]
    pairs: list[Pair] = []
    for index in range(n):
        name, area, sure = str(rng.choice(intents)), str(rng.choice(areas)), float(rng.beta(5, 1))
        negative, right = rng.random() < 0.15, rng.random() < sure
        got = name if right else str(rng.choice(intents))
        slot = Slot(name="area", value=area if right else str(rng.choice(areas)))
        timing = Timing(audio_s=2.0, final_s=float(rng.gamma(4, 0.01)), rtf=float(rng.uniform(0.02, 0.05)))
        text = f"{name.replace('_', ' ')} the {area}"
        example = Example(
            audio=f"clips/{index:04}.flac",
            text=text,
            intent=None if negative else name,
            slots=None if negative else (Slot(name="area", value=area),),
            negative=bool(negative),
        )
        if sure < 0.5 or (negative and rng.random() < 0.8):
            guess = Alternative(text=text, intent=got, slots=(slot,), score=float(np.log(sure * 0.4)))
            result = Result(decision="reject", reason="out_of_domain", alternatives=(guess,), timing=timing, text=text)
        else:
            frame = Frame(intent=Intent(name=got, confidence=sure), slots=(slot,))
            result = Result(
                intent=frame.intent, slots=frame.slots, frames=(frame,), decision="accept", timing=timing, text=text
            )
        pairs.append((example, result))
    return pairs


def make_report() -> Report:
    return Report(
        title="home.bundle",
        sections=[
            Section("clean", make_pairs(300, 0), note="voices, templates and values that training never heard"),
            Section("kitchen noise at 6 dB", make_pairs(300, 1), [Failure("clips/bad.wav", "bad.wav: not audio")]),
        ],
        bundle={"size": "18.2 MB", "precision": "int8"},
        training={"minutes": "20", "base": "models/base"},
    )


def test_page_is_well_formed_and_alone(tmp_path: Path) -> None:
    path = write_report(tmp_path / "r.html", make_report())
    text = path.read_text(encoding="utf-8")
    page = _Page(text)
    assert page.links == []
    assert "script" not in page.tags and not re.search(r"https?:|url\(|@import", text)
    assert page.tags.count("svg") == 2
    assert "prefers-color-scheme:dark" in text and "width=device-width" in text


def test_numbers_are_those_of_evaluate() -> None:
    report = make_report()
    words = " ".join(_Page(render(report)).words)
    for section in report.sections:
        for key in ("command_acceptance", "wer", "rejection_auroc", "ece"):
            figure = evaluate(section.pairs)[key]
            assert isinstance(figure, dict)
            assert f"{figure['value']:.3f}\n[{figure['low']:.3f}, {figure['high']:.3f}]" in words
    assert "bad.wav: not audio" in words and "18.2 MB" in words and "models/base" in words


def test_text_from_outside_is_escaped() -> None:
    example = Example(audio=NASTY, intent=NASTY, slots=(Slot(name=NASTY, value=NASTY),))
    frame = Frame(intent=Intent(name="other" + NASTY), slots=(Slot(name=NASTY, value="else"),))
    result = Result(intent=frame.intent, slots=frame.slots, frames=(frame,), decision="accept", text=NASTY)
    failures = [Failure(NASTY, NASTY)]
    page = _Page(render(Report(NASTY, [Section(NASTY, [(example, result)], failures, NASTY)], {NASTY: NASTY})))
    assert "script" not in page.tags
    assert sum(NASTY in word for word in page.words) >= 8


def test_nothing_judged_and_nothing_known() -> None:
    _Page(render(Report("empty", [])))
    page = _Page(render(Report("empty", [Section("none", [])])))
    assert "No figure applies to this data." in page.words
    bare = _Page(render(Report("text", [Section("words", [(Example(audio="a", text="hi"), Result(text="hi"))])])))
    assert "svg" not in bare.tags
