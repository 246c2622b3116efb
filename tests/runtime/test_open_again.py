"""A bundle with a model of its open slots hears them again at the endpoint; the rest of the sentence stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sayso.core.errors import BundleError
from sayso.decoding.arpa import save_ngram
from sayso.decoding.kneser_ney import estimate
from sayso.nlu.automaton_io import save_automaton
from sayso.nlu.compile import compile_domain
from sayso.nlu.domain import parse_domain
from sayso.runtime.model import Model

OPEN = """
language: en
intents: {call: {data: [{sentences: ["call {who}"]}]}}
lists: {who: {wildcard: true}}
"""


def opened(tones: Any, folder: Path, known: list[str] | None, *, domain: str = OPEN, **settings: Any) -> Model:
    """The tone language with one open slot, and a model of ``known`` phrases where they are given."""
    save_automaton(compile_domain(parse_domain(domain), tones.tokenizer), folder)
    files = {name: (folder / name).read_bytes() for name in ("domain.npz", "domain.json")}
    fields: dict[str, Any] = {"intents": ()}
    if known is not None:
        pieces = tones.tokenizer.pieces
        model = estimate([[pieces[i] for i in tones.tokenizer.encode(text)] for text in known], 3, pieces[1:])
        save_ngram(model, folder / "open.npz")
        files["open.npz"] = (folder / "open.npz").read_bytes()
        fields["open_slots"] = {"file": "open.npz", **settings}
    found: Model = tones.model(files=files, **fields)
    return found


def unclear(tones: Any) -> np.ndarray:
    """ "call bob" whose first letter of the name is mixed with a louder wrong one."""
    clear: np.ndarray = tones.say("call bob")
    tokens = tones.tokenizer.encode("call bob")
    name = tones.tokenizer.encode("bob")
    wrong = name[1] + 1
    time_s = np.arange(3840) / 16000
    start = round(0.16 * 16000) + (len(tokens) - len(name) + 1) * 6400
    clear[start : start + 3840] += 0.4 * np.sin(2 * np.pi * tones.hz(wrong) * time_s)
    return clear


def test_an_open_slot_is_heard_again(tones: Any, cut: Any, tmp_path: Path) -> None:
    samples = unclear(tones)
    alone = opened(tones, tmp_path, None).understand(samples, sample_rate=16000)
    helped = opened(tones, tmp_path, ["bob", "bob bob", "anna bob"], weight=3.0)
    result = helped.understand(samples, sample_rate=16000)
    assert alone.slots[0].value != "bob"
    assert result.text == "call bob" and result.slots[0].value == result.slots[0].text == "bob"
    start, end = result.slots[0].start, result.slots[0].end
    assert start is not None and end is not None and 0 < start < end <= len(samples) / 16000

    stream = helped.stream(sample_rate=16000)
    for packet in cut(samples, np.random.default_rng(0)):
        stream.accept(packet)
    final = stream.finish()
    assert final.model_dump(exclude={"timing"}) == result.model_dump(exclude={"timing"})


def test_an_open_slot_with_a_type_has_a_typed_value(tones: Any, tmp_path: Path) -> None:
    typed = opened(tones, tmp_path, None, domain=OPEN + "sayso: {slots: {who: {type: number}}}\n")
    slots = [typed.understand(tones.say(text)).slots[0] for text in ("call nine", "call bob")]
    assert [(slot.value, slot.text) for slot in slots] == [("9", "nine"), ("bob", "bob")]
    assert opened(tones, tmp_path, None).understand(tones.say("call nine")).slots[0].value == "nine"
    timed = opened(tones, tmp_path, None, domain=OPEN + "sayso: {slots: {who: {type: time}}}\n")
    (slot,) = timed.understand(tones.say("call nine")).slots
    assert (slot.value, slot.ambiguous) == ("9:00", ("09:00", "21:00"))


def test_a_damaged_model_is_said(tones: Any, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"open_slots.*'wieght'"):
        opened(tones, tmp_path, ["bob"], wieght=1.0)
    with pytest.raises(BundleError, match=r"the model of open slots needs the file lost\.npz"):
        opened(tones, tmp_path, ["bob"], file="lost.npz")
