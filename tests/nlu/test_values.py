"""Words of slots, and the values that they stand for."""

from __future__ import annotations

from sayso.core.result import Slot
from sayso.nlu.values import SpokenValues, spoken_forms, tag_spans


def test_words_mean_their_value_also_misheard_and_unknown_ones_themselves() -> None:
    labels = [
        Slot(name="area", value="garden", text="yard"),
        Slot(name="area", value="living room", text="Lounge"),
        Slot(name="level", value="29", text="twenty nine"),
        Slot(name="area", value="other", text="yard"),
        Slot(name="fixed", value="on"),
    ]
    forms = spoken_forms(labels)
    assert forms["area"] == {
        "yard": "garden",
        "garden": "garden",
        "lounge": "living room",
        "living room": "living room",
        "other": "other",
    }
    assert forms["level"] == {"twenty nine": "29"} and forms["fixed"] == {"on": "on"}
    values = SpokenValues(forms)
    assert values.slot("area", "living rom") == Slot(name="area", value="living room", text="living rom")
    assert values.slot("level", "twenty nine").value == "29"
    assert values.slot("area", "attic").value == "attic" and values.slot("item", "milk").value == "milk"
    assert SpokenValues(forms, alike=1.0).slot("area", "living rom").value == "living rom"


def test_tags_make_spans() -> None:
    assert tag_spans(["O", "B-a", "I-a", "B-a", "O", "I-b", "I-b", "I-c"]) == [
        ("a", 1, 3),
        ("a", 3, 4),
        ("b", 5, 7),
        ("c", 7, 8),
    ]
    assert tag_spans([]) == []
