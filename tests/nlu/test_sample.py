"""Sampling: meaning and spans are those of the text, sentences do not repeat, hold-outs hold."""

from __future__ import annotations

from collections import Counter

import pytest

from sayso.nlu.domain import Domain, load_domain, parse_domain
from sayso.nlu.sample import other_values, sample, split_domain
from sayso.text.written import VALUE_TYPES, value_of

from .conftest import ROOT
from .test_compile import SMALL, brute


@pytest.fixture(scope="module")
def home() -> Domain:
    return load_domain(ROOT / "domains" / "home.yaml")


def test_spans_are_the_slots_words(home: Domain) -> None:
    for utterance in sample(home, 1000, seed=1):
        for slot, span in zip(utterance.slots, utterance.spans, strict=True):
            assert span is not None and utterance.text[slice(*span)] == slot.text
            forms = (
                home.lists[slot.source.removeprefix("list:")].forms
                if slot.source != "open"
                else [(slot.text, slot.value)]
            )
            assert (slot.text, slot.value) in forms


def test_no_repeats_and_the_same_for_the_same_seed(home: Domain) -> None:
    first = sample(home, 500, seed=4)
    assert len({(u.text, u.intent) for u in first}) == len(first) == 500
    assert first == sample(home, 500, seed=4)
    assert first != sample(home, 500, seed=5)


def test_a_small_domain_gives_all_it_has() -> None:
    domain = parse_domain(SMALL)
    found = sample(domain, 100_000, seed=0)
    spoken = {(u.text, u.intent) for u in found}
    every = {(text, intent) for text, intent, _ in brute(domain)}
    assert spoken <= every and len(spoken) >= 0.97 * len(every)
    with_slots = {
        (u.text, u.intent, tuple((s.name, s.value) for s in u.slots if s.source != "template")) for u in found
    }
    assert with_slots <= brute(domain)


def test_templates_are_drawn_by_weight() -> None:
    domain = parse_domain(
        "intents:\n  a: {data: [{weight: 3, sentences: ['a {x}']}]}\n  b: {data: [{sentences: ['b {x} {x:y}']}]}\n"
        "lists: {x: {range: {from: 0, to: 9999}}}"
    )
    counts = Counter(u.intent for u in sample(domain, 2000, seed=2))
    assert 0.72 < counts["a"] / 2000 < 0.78


def test_values_are_drawn_evenly_however_many_forms_they_have() -> None:
    domain = parse_domain("intents: {i: {data: [{sentences: ['go {x} {n}']}]}}\n"
        "lists:\n  n: {range: {from: 0, to: 9999}}\n"
                          "  x: {values: [{in: '(a|b|c|d|e|f|g|h|i)', out: many}, {in: k, out: one}]}")  # fmt: skip
    counts = Counter(u.slots[0].value for u in sample(domain, 2000, seed=3))
    assert 0.45 < counts["one"] / 2000 < 0.55


def test_hold_out_by_template_and_by_value(home: Domain) -> None:
    split = split_domain(home, seed=7, template_fraction=0.2, value_fraction=0.2)
    assert split == split_domain(home, seed=7, template_fraction=0.2, value_fraction=0.2)
    train = sample(home, 1000, seed=1, exclude_templates=split.templates, exclude_values=split.values)
    held = {(slot, value) for slot, values in split.values.items() for value in values}
    assert len(train) == 1000 and held
    assert not {u.template for u in train} & split.templates
    assert not {(s.name, s.value) for u in train for s in u.slots} & held
    assert {u.intent for u in train} == set(home.intents), "every intent keeps a template"
    unseen = sample(home, 300, seed=2, only_templates=split.templates)
    assert len(unseen) == 300 and {u.template for u in unseen} <= split.templates
    areas = sample(home, 200, seed=3, exclude_values=other_values(home, {"area": split.values["area"]}))
    spoken = {s.value for u in areas for s in u.slots if s.name == "area"}
    assert spoken and spoken <= split.values["area"]


def test_open_slots_take_the_callers_phrases() -> None:
    domain = parse_domain("intents: {add: {data: [{sentences: ['add {item}']}]}}\nlists: {item: {wildcard: true}}")
    assert {u.text for u in sample(domain, 50, seed=0, phrases=["Ice Cream", "7 eggs"])} == {
        "add ice cream",
        "add seven eggs",
    }
    assert {u.text for u in sample(domain, 50, seed=0, phrases={"item": ["tea"]})} == {"add tea"}


@pytest.mark.parametrize("kind", VALUE_TYPES)
def test_typed_open_slots_hold_values_of_their_type(kind: str) -> None:
    domain = parse_domain(
        "intents: {set: {data: [{sentences: ['set {it}']}]}}\nlists: {it: {wildcard: true}}\n"
        f"sayso: {{slots: {{it: {{type: {kind}}}}}}}"
    )
    utterances = sample(domain, 100, seed=0, phrases=["ice cream"])
    assert len(utterances) == 100
    for utterance in utterances:
        found = value_of(utterance.slots[0].text, kind)
        assert found is not None and utterance.slots[0].value == found.text
    assert sample(domain, 1, seed=0, phrases={"it": ["ice cream"]})[0].slots[0].value == "ice cream"


def test_nothing_left_gives_nothing() -> None:
    domain = parse_domain("intents: {i: {data: [{sentences: ['go {x}']}]}}\nlists: {x: {values: [a]}}")
    assert sample(domain, 5, seed=0, exclude_values={"x": {"a"}}) == []
    assert sample(domain, 0, seed=0) == []
