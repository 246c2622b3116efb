"""Meanings as trees: what is written is read, what means the same is equal, frames come back."""

from __future__ import annotations

import pytest

from sayso.core.config import parse
from sayso.core.errors import ConfigError, DataError
from sayso.core.result import Slot
from sayso.core.trees import TreeSchema
from sayso.nlu.trees import (
    Tree,
    canonical,
    decoupled,
    flat_tree,
    frames_of,
    read_trees,
    schema_of,
    skeleton,
    trees_of,
    words,
    write_trees,
)

DEEP = (
    "please [IN:DIRECTIONS directions to "
    "[SL:TO the [IN:EVENT [SL:NAME eagles ] game [SL:AT [IN:DAY next friday ] ] ] ] ] "
    "and [IN:PLAY play [SL:WHAT jazz ] ]"
)


def test_what_is_written_is_read() -> None:
    parts = read_trees(DEEP)
    assert write_trees(parts) == DEEP
    assert " ".join(words(parts)) == "please directions to the eagles game next friday and play jazz"
    assert isinstance(parts[1], Tree) and (parts[1].name, parts[1].is_intent) == ("DIRECTIONS", True)
    assert read_trees("") == () and write_trees(read_trees("[IN:A ]")) == "[IN:A ]"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[IN:A turn on", r"'\[IN:A' is never closed"),
        ("[IN:A ] ]", "closes nothing"),
        ("[XX:A ]", r"'\[XX:A' is no word"),
        ("[IN: ]", r"'\[IN:' is no word"),
        ("[IN:A on]", r"'on\]' is no word"),
    ],
)
def test_what_is_no_meaning_is_named(text: str, why: str) -> None:
    with pytest.raises(DataError, match=why):
        read_trees(text)


def test_forms_for_comparing() -> None:
    parts = read_trees(DEEP)
    plain = "[IN:DIRECTIONS [SL:TO the [IN:EVENT [SL:NAME eagles ] [SL:AT [IN:DAY ] ] ] ] ] [IN:PLAY [SL:WHAT jazz ] ]"
    assert write_trees(decoupled(parts)) == plain
    assert write_trees(skeleton(parts)) == (
        "[IN:DIRECTIONS [SL:TO [IN:EVENT [SL:AT [IN:DAY ] ] [SL:NAME ] ] ] ] [IN:PLAY [SL:WHAT ] ]"
    )
    one, other = (
        read_trees("[IN:A put [SL:X red ] on [SL:Y two words ] ]"),
        read_trees("[IN:A on [SL:Y two words ] [SL:X red ] ]"),
    )
    assert canonical(one) == canonical(other) and one != other
    assert canonical(read_trees("[IN:A [SL:Y words two ] [SL:X red ] ]")) != canonical(one)
    assert canonical(canonical(parts)) == canonical(parts)


def test_frames_come_back() -> None:
    frames = frames_of(read_trees(DEEP))
    assert [(f.intent.name, f.parent) for f in frames] == [
        ("DIRECTIONS", None),
        ("EVENT", 0),
        ("DAY", 1),
        ("PLAY", None),
    ]
    assert frames[0].slots == (
        Slot(
            name="TO", value="the [IN:EVENT [SL:NAME eagles ] [SL:AT [IN:DAY ] ] ]", text="the eagles game next friday"
        ),
    )
    assert [(s.name, s.value, s.text) for s in frames[1].slots] == [
        ("NAME", "eagles", "eagles"),
        ("AT", "[IN:DAY ]", "next friday"),
    ]
    assert trees_of(frames) == decoupled(read_trees(DEEP))
    times = [(float(i), i + 0.5) for i in range(len(words(read_trees(DEEP))))]
    timed = frames_of(read_trees(DEEP), times)
    assert [(s.text, s.start, s.end) for frame in timed for s in frame.slots] == [
        ("the eagles game next friday", 3.0, 7.5),
        ("eagles", 4.0, 4.5),
        ("next friday", 6.0, 7.5),
        ("jazz", 10.0, 10.5),
    ]


def test_a_flat_meaning_around_its_words() -> None:
    slots = [Slot(name="area", value="Kitchen", text="kitchen"), Slot(name="name", value="x", text="the lamp")]
    tree = flat_tree("turn the lamp off in the kitchen", "off", slots)
    assert write_trees(tree) == "[IN:off turn [SL:name the lamp ] off in the [SL:area kitchen ] ]"
    unheard = [Slot(name="area", value="hall", text="hall"), Slot(name="domain", value="light")]
    assert write_trees(flat_tree("all off", "off", unheard)) == "[IN:off all off ]"
    twice = [Slot(name=name, value="red", text="red") for name in ("from", "to")]
    assert write_trees(flat_tree("red to red", "paint", twice)) == "[IN:paint [SL:from red ] to [SL:to red ] ]"


def test_the_schema_of_meanings() -> None:
    schema = schema_of([read_trees(DEEP), read_trees("[IN:PLAY [SL:WHO x ] ]")])
    assert schema.intents == {"DIRECTIONS": ("TO",), "EVENT": ("NAME", "AT"), "DAY": (), "PLAY": ("WHAT", "WHO")}
    assert schema.nested == {"TO": ("EVENT",), "AT": ("DAY",)}
    assert schema.labels[0] == "]" and schema.size(30) == 30 + 1 + 1 + 4 + 5
    assert schema_of([], schema) == schema and TreeSchema().size(30) == 31


@pytest.mark.parametrize(
    ("table", "why"),
    [
        ({"intents": {"a": ["x"]}, "nested": {"y": ["a"]}}, "'y' is no slot"),
        ({"intents": {"a": ["x"]}, "nested": {"x": ["b"]}}, "holds no known intent"),
        ({"intents": {"a b": []}}, "cannot be a label"),
    ],
)
def test_a_wrong_schema_is_named(table: dict[str, object], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        parse(TreeSchema, table, where="recipe")
