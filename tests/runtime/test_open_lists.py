"""A user's own list for a slot that may hold any words: what was heard there is looked up, or stays what it is."""

from __future__ import annotations

from pathlib import Path

import pytest

import sayso
from sayso.core.errors import UsageError
from sayso.core.result import Slot
from sayso.nlu.retrieval import ListIndex
from sayso.runtime.lists import indexed, open_slots

RECORDING = Path(__file__).parents[2] / "examples" / "add-oat-milk-to-the-shopping-list.flac"
OTHERS = ["wholemeal bread", "washing powder", "six eggs"]  # nothing that sounds like what the slot may be heard as


@pytest.fixture(scope="module")
def home() -> sayso.Model:
    return sayso.load("home")


@pytest.fixture(scope="module")
def heard(home: sayso.Model) -> str:
    """What the slot holds by itself, right or not."""
    (slot,) = home.understand(RECORDING).slots
    assert (slot.name, slot.source, slot.value) == ("item", "open", slot.text)
    return slot.text


def _item(model: sayso.Model, entries: object) -> Slot:
    result = model.understand(RECORDING, lists={"item": entries})  # type: ignore[dict-item]
    assert result.intent is not None and result.intent.name == "add_to_shopping_list"
    assert result.slots == result.frames[0].slots
    assert result.applied.lists == {"item": len(entries)}  # type: ignore[arg-type]
    return result.slots[0]


def test_an_entry_that_is_added_is_understood_in_the_next_request(home: sayso.Model, heard: str) -> None:
    contents = ListIndex(OTHERS)
    before = _item(home, contents)
    assert (before.value, before.source) == (heard, "open")  # not in the list
    contents.add([(heard, "Article 7")])
    after = _item(home, contents)
    assert (after.value, after.text, after.source) == ("Article 7", heard, "list:item")
    assert (after.start, after.end, after.confidence) == (before.start, before.end, before.confidence)
    contents.remove(["Article 7"])
    assert _item(home, contents) == before


def test_values_are_as_good_as_an_index_and_need_not_be_heard_right(home: sayso.Model, heard: str) -> None:
    written = heard + ("s" if heard[-1] != "s" else "es")
    for entries in ([*OTHERS, (written, "Article 7")], ListIndex([*OTHERS, (written, "Article 7")])):
        assert _item(home, entries).value == "Article 7"


def test_a_session_has_its_list_all_along(home: sayso.Model, heard: str) -> None:
    session = home.session({"item": [*OTHERS, (heard, "Article 7")], "area": ["kitchen"]})
    for turn in (1, 2):
        result = session.understand(RECORDING)
        assert [slot.value for slot in result.slots] == ["Article 7"]
        assert (result.applied.lists, result.applied.turn) == ({"item": 4, "area": 1}, turn)


def test_what_takes_no_index_or_no_list_is_said(home: sayso.Model) -> None:
    assert open_slots(home.engine) == ["item"]
    assert isinstance(indexed(home.engine, {"item": ["bread"]})["item"], ListIndex)
    wrong = (
        ({"area": ListIndex(["kitchen"])}, "list 'area' is searched while it is spoken"),
        ({"item": []}, "list 'item' needs a sequence of values"),
        ({"item": ["?!"]}, "list 'item': list entry '\\?!' has no spoken words"),
        ({"items": ["bread"]}, "has no list 'items'; did you mean 'item'"),
    )
    for lists, says in wrong:
        with pytest.raises(UsageError, match=says):
            home.stream(lists)  # type: ignore[arg-type]
