"""Meaning as training targets: intent numbers, BIO tags on tokens found by matching slot words in the transcript, and
trees."""

from __future__ import annotations

from collections.abc import Sequence

from sayso.core.result import Slot
from sayso.models.heads import HeadConfig
from sayso.nlu.tree_grammar import TreeGrammar
from sayso.nlu.trees import flat_tree, read_trees, respelled, spoken_slots
from sayso.text.normalise import normalise
from sayso.text.tokenizer import Tokenizer

OUTSIDE = "O"


def head_config(intents: Sequence[str], slots: Sequence[str], width: int = 192) -> HeadConfig:
    """Head classes of a domain: its intents, and begin and inside tags of its slots."""
    tags = (OUTSIDE, *(f"{mark}-{slot}" for slot in slots for mark in "BI"))
    return HeadConfig(intents=tuple(intents), tags=tags, width=width)


def intent_label(intent: str | None, negative: bool, heads: HeadConfig) -> int:
    """Class number; the last class is out-of-domain; -1 where nothing is known."""
    if not heads.intents:
        return -1
    if negative:
        return len(heads.intents)
    return heads.intents.index(intent) if intent in heads.intents else -1


def token_tags(text: str, slots: Sequence[Slot], tokenizer: Tokenizer, heads: HeadConfig) -> tuple[int, ...]:
    """A tag per token of ``tokenizer.encode(text)``. Slots are looked for in order; one not found is left outside."""
    if not heads.tags:
        return ()
    words = text.split()
    tags = [OUTSIDE] * len(words)
    for slot, start, end in spoken_slots(words, slots):
        tags[start:end] = [f"B-{slot.name}"] + [f"I-{slot.name}"] * (end - start - 1)
    result: list[int] = []
    for word, tag in zip(words, tags, strict=True):
        inside = tag.replace("B-", "I-", 1)
        for position, _ in enumerate(tokenizer.encode(word)):
            result.append(heads.tags.index(tag if position == 0 else inside))
    return tuple(result)


def tree_tokens(
    text: str, meaning: tuple[str, Sequence[Slot]] | None, tree: str | None, grammar: TreeGrammar, tokenizer: Tokenizer
) -> tuple[int, ...]:
    """What a decoder is to write: ``tree``, else the ``meaning`` (intent and slots) around ``text``; where the schema
    has no intents, ``text``. Empty where none is known or the schema does not allow it."""
    if not grammar.schema.intents:
        parts = read_trees(text)
    elif tree is not None:
        parts = respelled(read_trees(tree), normalise)
    elif meaning is not None:
        parts = flat_tree(text, *meaning)
    else:
        return ()
    return grammar.encode(parts, tokenizer.encode) or ()
