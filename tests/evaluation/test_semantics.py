"""SemER and its kin by hand; trees against every order in which they may be written."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from sayso.core.result import Example, Frame, Intent, Result, Slot
from sayso.evaluation.semantics import (
    canonical,
    concept_errors,
    exact_match,
    name_counts,
    semantic_errors,
    span_counts,
    tree_match,
)


def _slots(*pairs: tuple[str, str]) -> tuple[Slot, ...]:
    return tuple(Slot(name=name, value=value) for name, value in pairs)


def _example(intent: str | None, *pairs: tuple[str, str], text: str | None = None) -> Example:
    return Example(audio="a", intent=intent, slots=_slots(*pairs), negative=intent is None, text=text)


def _result(intent: str | None, *pairs: tuple[str, str], text: str = "") -> Result:
    if intent is None:
        return Result(decision="reject", reason="out_of_domain", text=text)
    return Result(intent=Intent(name=intent), slots=_slots(*pairs), decision="accept", text=text)


LIGHT = _example("turn_on", ("area", "kitchen"), ("level", "5"))


@pytest.mark.parametrize(
    ("example", "result", "expected"),
    [  # hits, substitutions, deletions, insertions
        (LIGHT, _result("turn_on", ("level", "5"), ("area", "kitchen")), (3, 0, 0, 0)),
        (LIGHT, _result("turn_off", ("level", "5"), ("area", "hall")), (1, 2, 0, 0)),
        (LIGHT, _result("turn_on", ("level", "5")), (2, 0, 1, 0)),
        (LIGHT, _result("turn_on", ("level", "5"), ("area", "kitchen"), ("who", "me")), (3, 0, 0, 1)),
        (LIGHT, _result("turn_on", ("level", "5"), ("room", "kitchen")), (2, 0, 1, 1)),  # a wrong name is no substitute
        (LIGHT, _result(None), (0, 1, 2, 0)),
        (_example("add", ("item", "milk"), ("item", "tea")), _result("add", ("item", "tea")), (2, 0, 1, 0)),
        (_example("add", ("item", "tea")), _result("add", ("item", "milk"), ("item", "beer")), (1, 1, 0, 1)),
        (_example(None), _result(None), (1, 0, 0, 0)),
        (_example(None), _result("add", ("item", "tea")), (0, 1, 0, 1)),
    ],
)
def test_semantic_errors_by_hand(example: Example, result: Result, expected: tuple[int, ...]) -> None:
    counts = semantic_errors(example, result)
    assert counts == expected and counts.length == 1 + len(example.slots or ())


def test_concepts_align_in_the_order_of_speech() -> None:
    example = _example("go", ("to", "rome"), ("from", "bonn"), text="from bonn to rome")
    same = _result("go", ("to", "rome"), ("from", "bonn"), text="from bonn to rome")
    assert concept_errors(example, same, values=True) == (2, 0, 0, 0)
    swapped = _result("go", ("to", "bonn"), ("from", "rome"), text="to bonn from rome")
    assert concept_errors(example, swapped).errors == 2  # from-to against to-from: one goes, one comes
    other = _result("go", ("to", "paris"), ("from", "bonn"), text="from bonn to paris")
    assert concept_errors(example, other).errors == 0 and concept_errors(example, other, values=True) == (1, 1, 0, 0)
    silent = _example("go", ("to", "rome"), ("from", "bonn"))
    assert concept_errors(silent, swapped).errors == 0  # no order is known
    timed = Result(
        intent=Intent(name="go"),
        slots=(Slot(name="to", value="rome", start=1.0), Slot(name="from", value="bonn", start=0.2)),
        decision="accept",
        text="from born two room",
    )
    assert concept_errors(example, timed, values=True).errors == 0
    assert concept_errors(example, _result(None, text="x")) == (0, 0, 2, 0)


def test_names_alone_are_slues_label_f1() -> None:
    example = _example("go", ("to", "rome"), ("to", "bonn"), ("when", "now"))
    result = _result("go", ("to", "paris"), ("when", "later"), ("who", "me"), text="x")
    assert name_counts(example, result) == (2, 1, 1)
    assert name_counts(example, _result(None, text="x")) == (0, 0, 3)


@pytest.mark.parametrize(
    ("heard", "slots", "expected"),
    [  # of "from bonn to new york to rome": from bonn (1, 1), to new york (3, 4), to rome (6, 6)
        ("from bonn to new york to rome", (("from", "bonn"), ("to", "new york"), ("to", "rome")), (3, 0, 0)),
        ("from born to new york to rome", (("from", "born"), ("to", "new york"), ("to", "rome")), (3, 0, 0)),
        ("from bonn to new york to rome", (("to", "bonn"), ("to", "york"), ("to", "rome")), (1, 2, 2)),
        ("from from bonn to york to rome", (("from", "bonn"), ("to", "york"), ("to", "rome")), (2, 1, 1)),
        ("from bonn to new york to rome", (("from", "bonn"), ("to", "oslo")), (1, 1, 2)),
        ("", (), (0, 0, 3)),
    ],
)
def test_spans_stand_where_their_words_are_aligned(
    heard: str, slots: tuple[tuple[str, str], ...], expected: tuple[int, ...]
) -> None:
    text = "From Bonn to New York to Rome"
    example = _example("go", ("from", "bonn"), ("to", "new york"), ("to", "rome"), text=text)
    assert span_counts(example, _result("go", *slots, text=heard)) == expected
    assert span_counts(example, _result(None, text=heard)) == (0, 0, 3)


def test_values_do_not_count_in_spans_and_equal_words_have_places_of_their_own() -> None:
    def slot(value: str) -> Slot:
        return Slot(name="n", value=value, text="two")

    example = Example(audio="a", intent="i", slots=(slot("2"), slot("2")), text="two by two")
    both = Result(intent=Intent(name="i"), slots=(slot("3"), slot("4")), decision="accept", text="two by two")
    assert span_counts(example, both) == (2, 0, 0)
    assert span_counts(example, both.model_copy(update={"slots": (slot("2"),) * 3})) == (2, 1, 0)


def _frame(name: str, *pairs: tuple[str, str], parent: int | None = None) -> Frame:
    return Frame(intent=Intent(name=name), slots=_slots(*pairs), parent=parent)


TREE = (
    _frame("remind", ("who", "me"), ("when", "five  pm")),
    _frame("call", ("who", "anna"), parent=0),
    _frame("call", ("who", "ben"), parent=0),
    _frame("find", ("where", "home"), parent=2),
    _frame("lights_off"),
)


def _written(order: tuple[int, ...], rng: np.random.Generator) -> tuple[Frame, ...]:
    """The same frames in another order, parents renumbered, slots shuffled."""
    frames = []
    for old in order:
        parent, slots = TREE[old].parent, list(TREE[old].slots)
        rng.shuffle(slots)  # type: ignore[arg-type]
        new = None if parent is None else order.index(parent)
        frames.append(TREE[old].model_copy(update={"parent": new, "slots": tuple(slots)}))
    return tuple(frames)


def test_a_tree_is_the_same_in_every_order() -> None:
    rng = np.random.default_rng(0)
    forms = {canonical(_written(order, rng)) for order in itertools.permutations(range(5))}
    assert len(forms) == 1


def test_what_makes_another_tree() -> None:
    other = list(TREE)
    other[3] = TREE[3].model_copy(update={"parent": 1})  # found for Anna's call, not Ben's
    assert canonical(other) != canonical(TREE) and canonical(other, values=False) == canonical(TREE, values=False)
    flat = [frame.model_copy(update={"parent": None}) for frame in TREE]
    assert canonical(flat, values=False) != canonical(TREE, values=False)
    for index, parent in ((0, 9), (0, 3)):  # none such; a circle
        broken = list(TREE)
        broken[index] = TREE[index].model_copy(update={"parent": parent})
        with pytest.raises(ValueError, match=r"parent|ancestors"):
            canonical(broken)


def test_exact_and_tree_match() -> None:
    example = Example(audio="a", intent="remind", slots=TREE[0].slots, frames=TREE)
    right = Result(intent=TREE[0].intent, slots=TREE[0].slots, frames=TREE, decision="accept")
    assert exact_match(example, right) and tree_match(example, right)
    changed = (*TREE[:4], _frame("lights_on"))
    assert not tree_match(example, right.model_copy(update={"frames": changed}))
    changed = (_frame("remind", ("who", "you"), ("when", "five pm")), *TREE[1:])
    other = right.model_copy(update={"frames": changed})
    assert tree_match(example, other) and not exact_match(example, other)
    assert not exact_match(example, right.model_copy(update={"decision": "reject"}))
    assert exact_match(_example("lock", ("door", "front")), _result("lock", ("door", "front")))
    assert exact_match(_example(None), _result(None)) and not tree_match(_example(None), _result("lock"))
