"""Meaning as training targets: intent numbers, BIO tags on tokens found by matching slot words in the transcript, and
trees.

Labels may come in phases: what one version of a schema calls ``light`` a later one splits into ``turn_on`` and
``turn_off``. Clips keep the label that they were given; a coarse one is a number behind those of the classes, and means
any of the classes that it was split into in the end.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from sayso.core.config import Config
from sayso.core.errors import ConfigError, nearest
from sayso.core.result import Slot
from sayso.models.heads import HeadConfig
from sayso.nlu.tree_grammar import TreeGrammar
from sayso.nlu.trees import Tree, flat_tree, read_trees, respelled, spoken_slots
from sayso.text.normalise import normalise
from sayso.text.tokenizer import Tokenizer

OUTSIDE = "O"


class Refinement(Config):
    """One version of the schema beyond the first: ``split`` says which labels became which finer ones."""

    version: int = Field(ge=2)
    split: dict[str, tuple[str, ...]]

    @model_validator(mode="after")
    def _splits_something(self) -> Self:
        for name, children in self.split.items():
            if not children or len(set(children)) < len(children):
                raise ValueError(f"version {self.version}: '{name}' must be split into labels that differ")
        return self


def coarse_labels(refinements: Sequence[Refinement], intents: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The ``intents`` that each label means which some version split, in the order of the versions.

    ``ConfigError`` for versions out of order, a label that is split twice or comes back, and a child that is neither an
    intent nor split later.
    """
    children: dict[str, tuple[str, ...]] = {}
    versions = [refinement.version for refinement in refinements]
    if versions != sorted(set(versions)):
        raise ConfigError(f"data.refinements: versions must rise; found {', '.join(map(str, versions))}")
    for refinement in refinements:
        where = f"data.refinements: version {refinement.version}"
        for name, finer in refinement.split.items():
            if name in children:
                raise ConfigError(
                    f"{where} splits '{name}', which an earlier version split already; split its children"
                )
            back = [child for child in finer if child in children or child in refinement.split]
            if back:
                raise ConfigError(
                    f"{where} splits '{name}' into '{back[0]}', which is split itself; give it a new name"
                )
        children |= refinement.split
    for name, finer in children.items():
        if name in intents:
            raise ConfigError(
                f"data.refinements splits '{name}', which is an intent of model.heads too; take it out there"
            )
        for child in finer:
            if child not in children and child not in intents:
                raise ConfigError(
                    f"data.refinements: '{name}' is split into '{child}', which no later version splits and which is "
                    f"no intent of model.heads; {nearest(child, intents)}"
                )

    def finest(name: str) -> Iterable[str]:
        for child in children[name]:
            yield from finest(child) if child in children else (child,)

    return {name: tuple(dict.fromkeys(finest(name))) for name in children}


def label_members(coarse: Mapping[str, Sequence[str]], heads: HeadConfig) -> NDArray[np.bool_]:
    """(L,C): the classes that each label may mean; first the classes themselves, the last of which is out-of-domain."""
    count = len(heads.intents) + 1
    members = np.zeros((count + len(coarse), count), np.bool_)
    members[:count] = np.eye(count, dtype=np.bool_)
    for row, finest in enumerate(coarse.values(), count):
        members[row, [heads.intents.index(name) for name in finest]] = True
    return members


def head_config(intents: Sequence[str], slots: Sequence[str], width: int = 192) -> HeadConfig:
    """Head classes of a domain: its intents, and begin and inside tags of its slots."""
    tags = (OUTSIDE, *(f"{mark}-{slot}" for slot in slots for mark in "BI"))
    return HeadConfig(intents=tuple(intents), tags=tags, width=width)


def intent_label(intent: str | None, negative: bool, heads: HeadConfig, coarse: Sequence[str] = ()) -> int:
    """Class number; the last class is out-of-domain, behind it are ``coarse`` labels; -1 where nothing is known."""
    if not heads.intents:
        return -1
    if negative:
        return len(heads.intents)
    if intent in coarse:
        return len(heads.intents) + 1 + coarse.index(intent)
    return heads.intents.index(intent) if intent in heads.intents else -1


def token_tags(text: str, slots: Sequence[Slot], tokenizer: Tokenizer, heads: HeadConfig) -> tuple[int, ...]:
    """A tag per token of ``tokenizer.encode(text)``. Slots are looked for in order; one not found is left outside."""
    if not heads.tags:
        return ()
    words = text.split()
    result: list[int] = []
    for word, tag in zip(words, word_tags(words, slots), strict=True):
        inside = tag.replace("B-", "I-", 1)
        for position, _ in enumerate(tokenizer.encode(word)):
            result.append(heads.tags.index(tag if position == 0 else inside))
    return tuple(result)


def word_tags(words: Sequence[str], slots: Sequence[Slot]) -> list[str]:
    """A BIO tag per word. Slots are looked for in order; one not found is left outside."""
    tags = [OUTSIDE] * len(words)
    for slot, start, end in spoken_slots(words, slots):
        tags[start:end] = [f"B-{slot.name}"] + [f"I-{slot.name}"] * (end - start - 1)
    return tags


def tree_tokens(
    text: str, meaning: tuple[str, Sequence[Slot]] | None, tree: str | None, grammar: TreeGrammar, tokenizer: Tokenizer
) -> tuple[int, ...]:
    """What a decoder is to write: ``tree``, else the ``meaning`` (intent and slots) around ``text``; where the schema
    has no intents, ``text``. Without ``text`` it is the intent with those slots that the schema has, in their order,
    which only decoupled trees can say. Empty where none is known or the schema does not allow it."""
    if not grammar.schema.intents:
        parts = read_trees(text)
    elif tree is not None:
        parts = respelled(read_trees(tree), normalise)
    elif meaning is not None and text:
        parts = flat_tree(text, *meaning)
    elif meaning is not None:
        known = [slot for slot in meaning[1] if slot.text and slot.name in grammar.schema.intents.get(meaning[0], ())]
        inside = tuple(Tree(f"SL:{slot.name}", tuple(slot.text.split())) for slot in known)
        parts = (Tree(f"IN:{meaning[0]}", inside),)
    else:
        return ()
    return grammar.encode(parts, tokenizer.encode) or ()
