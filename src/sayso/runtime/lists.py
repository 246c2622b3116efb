"""Slot lists that one stream brings along: the contacts of one user, the titles in one library.

Of a list of the domain only its own small network is compiled; the rest is shared with every other stream. A list for
an open slot, however long, is not compiled: what was heard there is looked up in it at the endpoint.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from sayso.core.errors import DomainError, UsageError, nearest
from sayso.core.result import Result, Slot
from sayso.decoding.graph import GraphSearch
from sayso.nlu.networks import compile_list
from sayso.nlu.retrieval import ListIndex, resolve
from sayso.nlu.spelling import Phones, speller_of
from sayso.runtime.choose import Expecting, Outcome
from sayso.runtime.engine import Engine
from sayso.runtime.present import slots_of

# values as spoken, or (spoken, out); for open slots also an index, which is made once and may change meanwhile
Lists = Mapping[str, Sequence[str | tuple[str, str]] | ListIndex]
OPEN = "open"  # source of a slot that holds any words


@dataclass(frozen=True)
class Brought:
    """What lists are to a stream: ``search`` holds those of the domain, ``indexes`` are for open slots, ``counts`` says
    how many values of each took effect."""

    search: GraphSearch | None
    indexes: Mapping[str, ListIndex] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)


class Before(Expecting, Protocol):
    """What was said before an utterance, and what it means then."""

    brought: Brought
    turn: int  # that the utterance will be, from 1

    def settle(self, result: Result, outcome: Outcome) -> Result:
        """The final result as it is meant here."""


def with_lists(engine: Engine, lists: Lists | None) -> Brought:
    """The search of a stream with these lists in place of the domain's, and what its open slots are looked up in.

    A list is called as the domain calls it, or as the open slot that it is for. Raises ``UsageError`` for one that the
    domain does not have, an empty one, or a value that cannot be spoken.
    """
    if not lists:
        return Brought(engine.search)
    automaton = engine.automaton
    if automaton is None:
        raise UsageError(f"bundle '{engine.manifest.name}' has no domain, so it has no lists to replace")
    opened = open_slots(engine)
    replaced, indexes, counts = {}, {}, {}
    try:
        speller = speller_of(automaton, engine.tokenizer)
    except DomainError as error:
        raise UsageError(f"lists of bundle '{engine.manifest.name}' cannot be replaced: {error}") from None
    for name, values in lists.items():
        if name not in automaton.lists and name not in opened:
            raise UsageError(f"the domain has no list '{name}'; {nearest(name, [*automaton.lists, *opened])}")
        if isinstance(values, str) or not values:
            raise UsageError(f"list '{name}' needs a sequence of values, each a text or a pair (spoken, value)")
        try:
            if name in opened:
                indexes[name] = values if isinstance(values, ListIndex) else ListIndex(values)
                counts[name] = len(indexes[name])
            elif isinstance(values, ListIndex):
                raise UsageError(
                    f"list '{name}' is searched while it is spoken: give its values; an index is for open slots"
                )
            else:
                pairs = [(value, value) if isinstance(value, str) else (value[0], value[1]) for value in values]
                replaced[name] = compile_list(pairs, speller)
                counts[name] = len(replaced[name].values)
        except DomainError as error:
            raise UsageError(f"list '{name}': {error}; give words that can be spoken") from None
    if not replaced:
        return Brought(engine.search, indexes, counts)
    new = (speller.pieces, speller.rows) if isinstance(speller, Phones) else ()
    search = GraphSearch(automaton.with_lists(replaced, *new), engine.graph_config)
    return Brought(search, indexes, counts)


def open_slots(engine: Engine) -> list[str]:
    """Slots of the domain that hold any words, by name; one that shares its name with a list is not among them."""
    automaton = engine.automaton
    if automaton is None:
        return []
    return sorted({call.slot for call in automaton.calls if call.list is None} - set(automaton.lists))


def indexed(engine: Engine, lists: Lists) -> Lists:
    """The same lists, with an index of each that is for an open slot: made once for many streams. Raises
    ``UsageError`` for a value that cannot be spoken."""
    opened = open_slots(engine)
    try:
        return {
            name: ListIndex(values) if name in opened and not isinstance(values, ListIndex) else values
            for name, values in lists.items()
        }
    except DomainError as error:
        raise UsageError(f"{error}; give words that can be spoken") from None


def looked_up(
    engine: Engine, search: GraphSearch, result: Result, outcome: Outcome, indexes: Mapping[str, ListIndex]
) -> tuple[Result, Outcome]:
    """A final result whose open slots hold the entries that were meant (source ``list:NAME``); what a list does not
    hold stays as it was heard, and open. All hypotheses have a say in what was heard."""
    found = {place: resolve(texts, indexes[place[0]]) for place, texts in _heard(engine, search, outcome, indexes)}

    def settled(slots: Sequence[Slot]) -> tuple[Slot, ...]:
        known = [(slot, found.get(place)) for place, slot in _open(slots, indexes)]
        entries = {id(slot): entry for slot, entry in known if entry is not None and entry.known}
        return tuple(
            slot.model_copy(update={"value": entries[id(slot)].value, "source": f"list:{slot.name}", "ambiguous": ()})
            if id(slot) in entries
            else slot
            for slot in slots
        )

    frames = tuple(frame.model_copy(update={"slots": settled(frame.slots)}) for frame in result.frames)
    result = result.model_copy(update={"slots": settled(result.slots), "frames": frames})
    return result, replace(outcome, slots=settled(outcome.slots))


Place = tuple[str, int]  # the name of an open slot, and which of those of that name


def _open(slots: Sequence[Slot], indexes: Mapping[str, ListIndex]) -> Iterator[tuple[Place, Slot]]:
    count: Counter[str] = Counter()
    for slot in slots:
        if slot.source == OPEN and slot.name in indexes:
            yield (slot.name, count[slot.name]), slot
            count[slot.name] += 1


def _heard(
    engine: Engine, search: GraphSearch, outcome: Outcome, indexes: Mapping[str, ListIndex]
) -> Iterator[tuple[Place, list[tuple[str, float]]]]:
    """What each open slot of the best hypothesis may have held, with the scores of the hypotheses, the best first."""
    readings: dict[Place, dict[str, float]] = {place: {} for place, _ in _open(outcome.slots, indexes)}
    for hypothesis in outcome.hypotheses if readings else ():
        for place, slot in _open(slots_of(engine, search, hypothesis), indexes):
            if place in readings:
                readings[place].setdefault(slot.text, hypothesis.score)
    for place, texts in readings.items():
        yield place, list(texts.items())
