"""Meaning as training targets: intent numbers, and BIO tags on tokens found by matching slot words in the
transcript."""

from __future__ import annotations

from collections.abc import Sequence

from sayso.core.result import Slot
from sayso.models.heads import HeadConfig
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
    result: list[int] = []
    for word, tag in zip(words, word_tags(words, slots), strict=True):
        inside = tag.replace("B-", "I-", 1)
        for position, _ in enumerate(tokenizer.encode(word)):
            result.append(heads.tags.index(tag if position == 0 else inside))
    return tuple(result)


def word_tags(words: Sequence[str], slots: Sequence[Slot]) -> list[str]:
    """A BIO tag per word. Slots are looked for in order; one not found is left outside."""
    tags = [OUTSIDE] * len(words)
    taken = 0
    for slot in slots:
        spoken = slot.text.split()
        if not spoken:
            continue
        for start in [*range(taken, len(words)), *range(0, taken)]:
            place = slice(start, start + len(spoken))
            if list(words[place]) == spoken and set(tags[place]) == {OUTSIDE}:
                tags[place] = [f"B-{slot.name}"] + [f"I-{slot.name}"] * (len(spoken) - 1)
                taken = start + len(spoken)
                break
    return tags
