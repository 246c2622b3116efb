"""The domain file: what people may say, what it means, and how careful to be with it.

The format is Home Assistant's (``intents``, ``lists``, ``expansion_rules``; sentences parsed by ``hassil``) plus one
block of ours, ``sayso:``, with intent risk, clarifying questions, slot types and sentences that must be rejected. A
folder of files is merged as Home Assistant does it; a single file of such a folder brings its ``_common.yaml`` along.
Words are spoken words: sentences and values are normalised (lower case, digits in words) when they are spoken, while a
value's ``out`` stays verbatim.

``requires_context`` and ``excludes_context`` are read and kept on the template but do not change the language: what a
home contains is not known when the domain is compiled. ``skip_words`` may be said once before and once after a
sentence.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from sayso.nlu.grammar import Node, count, digest
from sayso.text.written import VALUE_TYPES

Risk = Literal["none", "confirm"]
SlotType = Literal["text", "number", "time", "date", "duration", "open"]
ListKind = Literal["text", "range", "wildcard"]
RISKS: tuple[str, ...] = get_args(Risk)
SLOT_TYPES: tuple[str, ...] = get_args(SlotType)


@dataclass(frozen=True, kw_only=True)
class IntentSpec:
    """How an intent is handled: ``confirm`` asks back before it acts; ``clarify`` is the question when a slot is
    unsure."""

    risk: Risk = "none"
    clarify: str | None = None


@dataclass(frozen=True, kw_only=True)
class ListSpec:
    """A slot list. ``forms`` are (spoken text, ``out``) pairs in the order of the file; empty for a wildcard."""

    name: str
    kind: ListKind
    forms: tuple[tuple[str, str], ...] = ()
    file: str = ""
    line: int = 0

    @property
    def values(self) -> tuple[str, ...]:
        """The distinct ``out`` values."""
        return tuple(dict.fromkeys(out for _, out in self.forms))


@dataclass(frozen=True, kw_only=True)
class SlotSpec:
    """A slot's type and the lists that may fill it."""

    type: SlotType
    lists: tuple[str, ...]

    @property
    def read_as(self) -> str | None:
        """What open words of the slot are read as; None where they are its value."""
        return self.type if self.type in VALUE_TYPES else None


@dataclass(frozen=True, kw_only=True)
class Template:
    """One sentence template: its source ``text`` and place, its parsed ``tree``, and the slots that it fixes."""

    intent: str
    text: str
    file: str
    line: int
    tree: Node = field(compare=False, repr=False)
    weight: float = 1.0
    slots: tuple[tuple[str, str], ...] = ()
    requires_context: tuple[str, ...] = ()
    excludes_context: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Domain:
    """A checked domain. ``templates`` keep the order of the file: their index is the ``template`` of meanings and
    samples."""

    name: str
    language: str
    intents: dict[str, IntentSpec]
    lists: dict[str, ListSpec]
    slots: dict[str, SlotSpec]
    templates: tuple[Template, ...]
    out_of_domain: tuple[str, ...] = ()
    path: Path | None = None

    @property
    def fingerprint(self) -> str:
        """sha256 over everything that changes what is understood; places and file names do not count."""
        seen: dict[int, str] = {}
        content = {
            "name": self.name,
            "language": self.language,
            "intents": {k: [v.risk, v.clarify] for k, v in self.intents.items()},
            "lists": {k: [v.kind, v.forms] for k, v in self.lists.items()},
            "slots": {k: [v.type, v.lists] for k, v in self.slots.items()},
            "templates": [[t.intent, digest(t.tree, seen), t.weight, t.slots] for t in self.templates],
            "out_of_domain": self.out_of_domain,
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def sentences(self) -> float:
        """How many ways of speaking the templates allow (an upper bound on distinct sentences; an open slot counts
        once)."""
        sizes = {name: float(max(1, len(spec.forms))) for name, spec in self.lists.items()}
        return sum(count(template.tree, sizes.__getitem__) for template in self.templates)


ListValues = Mapping[str, Sequence[str | tuple[str, str]]]
