"""The page: well-formed, self-contained, escaped, and its numbers are those of ``evaluate``."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import soundfile

from sayso.core.result import Alternative, Example, Frame, Intent, Result, Slot, Timing
from sayso.evaluation.evaluate import Pair, evaluate
from sayso.evaluation.mistakes import failed, worst
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


def cost_by_hand(example: Example, result: Result) -> tuple[float, float]:
    """Had the guess been accepted, and as decided: 5 for wrong, 2 for refused. Every pair here has a guess."""
    guess = result.alternatives[0] if result.intent is None else None
    name = guess.intent if guess else result.intent.name if result.intent else None
    slots = guess.slots if guess else result.slots
    same = [(slot.name, slot.value) for slot in slots] == [(slot.name, slot.value) for slot in example.slots or ()]
    right = not example.negative and name == example.intent and same
    taken = 0.0 if right else 5.0
    return taken, (2.0 if right else 0.0) if result.decision == "reject" else taken


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
    assert page.tags.count("svg") == 4
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


def test_curves_and_costs_on_the_page_are_those_of_the_pairs() -> None:
    report = make_report()
    page = _Page(render(report))
    words, pairs = " ".join(page.words), report.sections[0].pairs
    costs = [cost_by_hand(*pair) for pair in pairs]
    answers = [pair for pair in pairs if pair[1].decision != "reject"]
    assert (
        f"{len(answers) / len(pairs):.3f} answered, at {np.mean([cost for _, cost in costs]):.3f} an utterance" in words
    )
    assert f"had every guess been accepted {np.mean([cost for cost, _ in costs]):.3f}." in words
    wrong = sum(failed(*pair) for pair in answers) / len(answers)
    assert f"{len(answers) / len(pairs):.3f} answered, {wrong:.3f} of these wrong" in words
    assert "How wrong are more answers?" in words and "What does the threshold cost?" in words


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


def _beep(example: Example) -> tuple[np.ndarray, int]:
    """Twenty seconds whose pitch tells the example's number."""
    pitch = 200 + 20 * int(Path(example.audio).stem) % 1000
    return np.sin(2 * np.pi * pitch * np.arange(20 * 16000) / 16000).astype(np.float32) * 0.3, 16000


def test_the_worst_can_be_listened_to_and_the_page_stays_small() -> None:
    sections = [Section(f"noise {i}", make_pairs(200, i), listen=_beep) for i in range(3)]
    text = render(Report("loud", sections))
    page = _Page(text)
    assert page.tags.count("audio") == 24 and len(text) < 1_500_000
    first = worst(sections[0].pairs, 8)
    for (example, _), link in zip(first, page.links, strict=False):
        kind, sound = link.split(",")
        assert kind == "data:audio/mpeg;base64"
        samples, rate = soundfile.read(io.BytesIO(base64.b64decode(sound)))
        assert rate == 16000 and 10.0 <= len(samples) / rate < 10.3  # cut; MP3 pads
        loudest = np.abs(np.fft.rfft(samples[:16000])).argmax()
        assert abs(loudest - (200 + 20 * int(Path(example.audio).stem) % 1000)) <= 1
    _Page(render(Report("alone", [Section("x", sections[0].pairs[:1], listen=_beep)])))


def test_the_worst_are_surely_done_and_wrong() -> None:
    pairs = make_pairs(300, 5)
    chosen = worst(pairs, 300)
    assert {id(example) for example, _ in chosen} == {
        id(example) for example, result in pairs if failed(example, result)
    }
    order = [{"accept": 2, "clarify": 1, "reject": 0}[result.decision] for _, result in chosen]
    assert order == sorted(order, reverse=True) and 0 in order and 2 in order
    sure = [result.intent.confidence or 0 for _, result in chosen if result.intent]
    assert sure == sorted(sure, reverse=True)
    words = [(Example(audio="a", text="one two"), Result(text=text)) for text in ("one two", "one", "three four five")]
    assert worst(words, 5) == [words[2], words[1]]


def test_groups_and_marked_words() -> None:
    pairs = [
        (example.model_copy(update={"custom": {"device": "phone" if i % 3 else "<far>"}}), result)
        for i, (example, result) in enumerate(make_pairs(90, 7))
    ]
    page = _Page(render(Report("groups", [Section("all", pairs)])))
    for name, count in (("phone", "60"), ("<far>", "30")):
        assert page.words[page.words.index(name) + 1] == count
    assert "Errors in intents and slots, per one expected (SemER)" in page.words
    example = Example(audio="1", intent="on", slots=(), text="turn on the kitchen light")
    wrong = Result(decision="reject", text="turn on the <chicken> light", reason="low_confidence")
    text = render(Report("marks", [Section("one", [(example, wrong)], listen=_beep)]))
    assert "turn on the <mark>&lt;chicken&gt;</mark> light" in text


def test_several_talkers_and_listed_words() -> None:
    """One stream for two people: every way of pairing leaves the words of one of them out."""
    said = [("anna", "turn it on"), ("bob", "stop")]
    heard = Result(text="turn it on")
    examples = [Example(audio="1", speaker=who, text=text, custom={"biased": "stop"}) for who, text in said]
    page = _Page(render(Report("talk", [Section("two", [(example, heard) for example in examples])])))
    assert not any("tcpWER" in word for word in page.words), "no times, no such figure"
    alone = [(example.model_copy(update={"audio": example.speaker}), heard) for example in examples]
    other = _Page(render(Report("one", [Section("each", alone)])))
    assert not any("cpWER" in word for word in other.words)
    for words, name, value in (
        (page.words, "(cpWER)", "0.250"),
        (page.words, "(ORC-WER)", "0.250"),
        (other.words, "Errors in words that are", "1.000"),
    ):
        at = next(at for at, word in enumerate(words) if word.endswith(name))
        assert words[at + 1].startswith(value), name
