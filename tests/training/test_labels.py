"""Slots become tags on tokens; intents become classes."""

from __future__ import annotations

import pytest

from sayso.core.errors import ConfigError
from sayso.core.result import Slot
from sayso.models.heads import HeadConfig
from sayso.text.tokenizer import Tokenizer, train_tokenizer
from sayso.training.labels import Refinement, coarse_labels, head_config, intent_label, label_members, token_tags

HEADS = head_config(["turn_on", "lock"], ["area", "device"])


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    texts = ["turn on the living room light in the living room", "lock the kitchen door"] * 10
    return train_tokenizer(texts, tmp_path_factory.mktemp("t") / "t.model", vocab=32)


def tagged(text: str, slots: list[Slot], tokenizer: Tokenizer) -> list[tuple[str, str]]:
    """(piece, tag) of each token."""
    tags = token_tags(text, slots, tokenizer, HEADS)
    pieces = [tokenizer.pieces[token] for token in tokenizer.encode(text)]
    return [(piece, HEADS.tags[tag]) for piece, tag in zip(pieces, tags, strict=True)]


def words_of(pairs: list[tuple[str, str]], name: str) -> list[str]:
    """The spoken text of every run of B and I tags of a slot."""
    found: list[str] = []
    for piece, tag in pairs:
        if tag == f"B-{name}":
            found.append(piece)
        elif tag == f"I-{name}":
            found[-1] += piece
    return [text.replace("▁", " ").strip() for text in found]


def slot(name: str, text: str) -> Slot:
    return Slot(name=name, value=text, text=text)


def test_a_slot_of_several_words_begins_once(tokenizer: Tokenizer) -> None:
    pairs = tagged("turn on the living room light", [slot("area", "living room")], tokenizer)
    assert words_of(pairs, "area") == ["living room"]
    assert {tag for piece, tag in pairs if piece in ["▁turn", "▁on", "▁the"]} <= {"O"}


def test_equal_words_in_two_slots_take_turns(tokenizer: Tokenizer) -> None:
    slots = [slot("device", "living room"), slot("area", "living room")]
    pairs = tagged("turn on the living room light in the living room", slots, tokenizer)
    assert words_of(pairs, "device") == ["living room"]
    assert words_of(pairs, "area") == ["living room"]
    first = next(tag for _, tag in pairs if tag != "O")
    assert first == "B-device"


def test_slots_in_another_order_than_spoken(tokenizer: Tokenizer) -> None:
    slots = [slot("area", "living room"), slot("device", "light")]
    pairs = tagged("turn on the light in the living room", slots, tokenizer)
    assert (words_of(pairs, "area"), words_of(pairs, "device")) == (["living room"], ["light"])


def test_what_is_not_spoken_is_left_outside(tokenizer: Tokenizer) -> None:
    pairs = tagged("turn on the light", [slot("area", "kitchen"), slot("device", "")], tokenizer)
    assert {tag for _, tag in pairs} == {"O"}


def test_one_tag_for_every_token(tokenizer: Tokenizer) -> None:
    text = "lock the kitchen door in the living room"
    tags = token_tags(text, [slot("area", "kitchen")], tokenizer, HEADS)
    assert len(tags) == len(tokenizer.encode(text))
    assert token_tags(text, [], tokenizer, HeadConfig()) == ()


def test_intent_classes() -> None:
    assert intent_label("lock", False, HEADS) == 1
    assert intent_label(None, True, HEADS) == 2  # out of domain
    assert intent_label("lock", True, HEADS) == 2
    assert intent_label("dance", False, HEADS) == -1
    assert intent_label(None, False, HEADS) == -1
    assert intent_label("lock", False, HeadConfig()) == -1


REFINED = [
    Refinement(version=2, split={"home": ("light", "lock")}),
    Refinement(version=4, split={"light": ("turn_on", "turn_off")}),
]


def test_labels_of_every_version_mean_their_finest_children() -> None:
    intents = ["turn_on", "lock", "turn_off"]
    coarse = coarse_labels(REFINED, intents)
    assert coarse == {"home": ("turn_on", "turn_off", "lock"), "light": ("turn_on", "turn_off")}
    heads = head_config(intents, [])
    members = label_members(coarse, heads)
    assert members.tolist()[:4] == [[row == column for column in range(4)] for row in range(4)]
    assert members[4:].tolist() == [[True, True, True, False], [True, False, True, False]]  # the last: out of domain
    numbers = [intent_label(name, False, heads, tuple(coarse)) for name in ("lock", "home", "light", "dance")]
    assert numbers == [1, 4, 5, -1] and intent_label("home", True, heads, tuple(coarse)) == 3
    assert label_members({}, heads).tolist() == members.tolist()[:4]


@pytest.mark.parametrize(
    ("splits", "what"),
    [
        ([(2, {"light": ("turn_on", "turn_of")})], "'turn_of', which no later.*did you mean 'turn_off'"),
        ([(2, {"turn_on": ("lock", "turn_off")})], "'turn_on', which is an intent of model.heads too"),
        ([(3, {"a": ("lock",)}), (2, {"b": ("lock",)})], "versions must rise; found 3, 2"),
        ([(2, {"a": ("b", "lock")}), (3, {"b": ("a", "lock")})], "into 'a', which is split itself"),
        ([(2, {"a": ("lock",)}), (3, {"a": ("turn_on",)})], "splits 'a', which an earlier version split"),
    ],
)
def test_mistakes_of_a_schema_are_named(splits: list[tuple[int, dict[str, tuple[str, ...]]]], what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        coarse_labels([Refinement(version=v, split=split) for v, split in splits], ["turn_on", "turn_off", "lock"])
