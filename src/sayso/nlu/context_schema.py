"""What the turns of a domain may refer to, read off its compiled automaton and its lists of the moment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from sayso.core.automaton import Automaton
from sayso.nlu.policy import Risk

Meanings = dict[int, frozenset[int]]  # by node of the main network: what may still be meant there


@dataclass(frozen=True)
class Value:
    """One way to say a slot's value."""

    slot: str
    value: str
    source: str


@dataclass(frozen=True, kw_only=True)
class ContextSchema:
    """The slots that each intent takes, how values are said, which single words the domain says directly behind them
    (``units``: "thirty percent", "the kitchen lights"), and how risky intents are and how one asks about them."""

    takes: Mapping[str, frozenset[str]]
    values: Mapping[str, tuple[Value, ...]]  # by spoken text
    lists: Mapping[str, tuple[str, ...]]  # slot: its different values
    units: Mapping[tuple[str, str], frozenset[str]] = field(default_factory=dict)  # by intent and slot
    manners: Mapping[str, tuple[Risk, str | None]] = field(default_factory=dict)


def schema_of(automaton: Automaton, manners: Mapping[str, tuple[Risk, str | None]] | None = None) -> ContextSchema:
    """The schema of a compiled domain, with the lists that it has now."""
    values: dict[str, dict[Value, None]] = {}
    lists: dict[str, dict[str, None]] = {}
    for call in automaton.calls:
        if call.list is None:
            continue
        slot_list = automaton.lists[call.list]
        for text, value in zip(slot_list.texts, slot_list.values, strict=True):
            values.setdefault(text, {})[Value(call.slot, value, f"list:{call.list}")] = None
            lists.setdefault(call.slot, {})[value] = None
    intents = [meaning.intent for meaning in automaton.meanings]
    takes: dict[str, set[str]] = {intent: set() for intent in intents}
    for meaning in automaton.meanings:
        takes[meaning.intent].update(name for name, _ in meaning.slots)
    units: dict[tuple[str, str], set[str]] = {}
    reach = _reach(automaton)
    for node, meanings in reach.items():
        if automaton.main.call[node] < 0:
            continue
        slot = automaton.calls[int(automaton.main.call[node])].slot
        for number in meanings:
            takes[intents[number]].add(slot)
        for following in _following(automaton, node):
            for word, meant in _words(automaton, reach, following, ""):
                for number in meant:
                    units.setdefault((intents[number], slot), set()).add(word)
    return ContextSchema(
        takes={intent: frozenset(slots) for intent, slots in takes.items()},
        values={text: tuple(found) for text, found in values.items()},
        lists={slot: tuple(found) for slot, found in lists.items()},
        units={key: frozenset(words) for key, words in units.items()},
        manners=manners or {},
    )


def _reach(automaton: Automaton) -> Meanings:
    """What may still be meant at each node, from the ends backwards."""
    main = automaton.main
    reach: Meanings = {}
    stack = [int(node) for node in main.entry]
    while stack:
        node = stack[-1]
        following = _following(automaton, node)
        waiting = [n for n in following if n not in reach]
        if node in reach or waiting:
            stack.extend(waiting)
            if node in reach:
                stack.pop()
            continue
        reach[stack.pop()] = frozenset(_ends(automaton, node).union(*(reach[n] for n in following)))
    return reach


def _words(automaton: Automaton, reach: Meanings, node: int, begun: str) -> Iterator[tuple[str, set[int]]]:
    """The word that begins at ``node``, or goes on there, and what may be meant behind it; ends of words that a list
    began are none."""
    main = automaton.main
    if main.token[node] < 0:
        return
    text = begun + automaton.pieces[int(main.token[node])]
    if not text.startswith("▁"):
        return
    meant = _ends(automaton, node)
    for following in _following(automaton, node):
        token = int(main.token[following])
        if token < 0 or automaton.pieces[token].startswith("▁"):
            meant |= reach[following]
        else:
            yield from _words(automaton, reach, following, text)
    if meant:
        yield text.removeprefix("▁"), meant


def _following(automaton: Automaton, node: int) -> list[int]:
    main = automaton.main
    return [int(n) for n in main.succ[main.succ_ptr[node] : main.succ_ptr[node + 1]]]


def _ends(automaton: Automaton, node: int) -> set[int]:
    main = automaton.main
    return {int(m) for m in main.final_out[main.final_ptr[node] : main.final_ptr[node + 1]]}
