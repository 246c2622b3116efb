"""What may be said after the turns before, as sentences for the graph search: a domain's grammar accepts "turn on the
kitchen lights", a dialogue also "and the bedroom", "no, the second one" and "yes".

The phrases are those that ``nlu/context.py`` understands, over the domain's own lists and calls, as a small automaton
beside that of the domain: one more meaning, whose intent is ``FOLLOW_UP`` and which is read from its words. It is made
per history, in milliseconds, because the slots in question and the words behind them are those of the last turns; the
domain's network is shared in content and its lists not copied. Dialogue state as a bias of the recogniser's grammar is
as old as spoken dialogue (Young et al. 1989, "layered predictions").
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from sayso.core.automaton import Automaton, Ints, Meaning, Network
from sayso.core.errors import DomainError
from sayso.nlu import reference as ref
from sayso.nlu.context import History
from sayso.nlu.context_schema import ContextSchema
from sayso.nlu.networks import States, positions
from sayso.nlu.spelling import Phones, Pieces, ways

FOLLOW_UP = "<follow-up>"  # no domain can call an intent so: it is not a word of hassil
PRIOR = -3.0  # log; about that of one intent of two dozen
_Phrases = Iterable[Sequence[str]]


def with_follow_ups(
    automaton: Automaton, history: History, schema: ContextSchema, speller: Pieces | Phones
) -> Automaton:
    """``automaton`` that also accepts what may follow ``history``; itself where nothing may.

    ``speller`` is one of this automaton (``speller_of``) and may be used again for the next turn. A phrase with letters
    that the tokenizer lacks is left out.
    """
    if not history:
        return automaton
    meaning = len(automaton.meanings)
    network = _FollowUps(automaton, history, schema, speller).network(meaning)
    grown = replace(
        automaton,
        main=_beside(automaton.main, network),
        meanings=(*automaton.meanings, Meaning(intent=FOLLOW_UP, weight=PRIOR)),
    )
    if isinstance(speller, Phones):
        grown = replace(grown, pieces=speller.pieces, rows=speller.rows)
    return grown


class _FollowUps:
    """Builds the phrases from their ends, so that equal ends are one state."""

    def __init__(self, automaton: Automaton, history: History, schema: ContextSchema, speller: Pieces | Phones) -> None:
        self._speller, self._history = speller, history
        self._states = States()
        intents = {turn.intent for turn in history}
        taken = frozenset[str]().union(*(schema.takes.get(intent, frozenset()) for intent in intents))
        self._calls: dict[str, list[int]] = {}  # by slot
        for number, call in enumerate(automaton.calls):
            if call.list is not None and call.slot in taken:
                self._calls.setdefault(call.slot, []).append(number)
        self._units = {
            slot: sorted({word for intent in intents for word in schema.units.get((intent, slot), ())})
            for slot in self._calls
        }

    def network(self, meaning: int) -> Network:
        """All phrases, each ending in ``meaning``."""
        last = self._history[-1]
        end = self._states.add([meaning], [])
        polite = self._maybe([("please",)], end)
        begun = [self._say(ref.AGAIN, polite), self._values(polite)]
        if last.slots:
            begun.append(self._marked(self._say([("the", "other"), ("the", "other", "one")], polite)))
        if last.offered:
            begun.append(self._marked(self._chosen(polite)))
        if last.open:
            confirmed = self._maybe([phrase.split() for phrase in ref.CONFIRMING], end)
            begun += [self._say([(word,) for word in ref.AGREEING], confirmed), self._say(ref.REFUSALS, end)]
        return positions(self._states, self._either(begun))

    def _values(self, polite: int) -> int:
        """One or two values with the words around them; alone only behind a question."""
        late = self._say(ref.AFTERTHOUGHTS, polite)
        marked = self._before(self._mentioned(self._either([polite, late])))
        last = self._history[-1]
        waits = last.open or last.asked is not None
        alone = marked if waits else self._before(self._mentioned(late))
        return self._either([self._marked(marked, needed=True), alone])

    def _mentioned(self, then: int) -> int:
        """A value, a word behind it, and perhaps a value of another slot."""
        first = []
        for slot in self._calls:
            others = [self._value(other, then) for other in self._calls if other != slot]
            first.append(self._value(slot, self._either([then, self._before(self._either(others))])))
        return self._either(first)

    def _value(self, slot: str, then: int) -> int:
        behind = self._maybe([(word,) for word in self._units[slot]], self._maybe([("one",)], then))
        return self._states.add((), [(-1 - call, behind) for call in self._calls[slot]])

    def _before(self, then: int) -> int:
        """Little words before a value: "in the", "for", "my"."""
        named = self._maybe([(word,) for word in ref.ARTICLES], then)
        return self._maybe([(word,) for word in ref.PREPOSITIONS], named)

    def _marked(self, then: int, needed: bool = False) -> int:
        """Behind words that tie an utterance to the one before: "and", "no, I meant"."""
        corrected = self._say(ref.CORRECTIONS, then)
        tied = self._say((*ref.NEGATIONS, *ref.FOLLOWING), self._either([then, corrected]))
        also = self._say([("and",), ("okay",), ("no",)], self._say(ref.FOLLOWING, then))
        return self._either([corrected, tied, also] if needed else [then, corrected, tied, also])

    def _chosen(self, then: int) -> int:
        """ "the second one", "number two"."""
        placed = self._say([(word,) for word in ref.ORDER], self._maybe([("one",)], then))
        numbered = self._say([("number", word) for word in ref.NUMBERS], then)
        return self._either([self._maybe([("the",)], placed), numbered])

    def _say(self, phrases: _Phrases, then: int) -> int:
        """Any of ``phrases``, then what ``then`` accepts."""
        arcs = []
        for phrase in phrases:
            try:
                spelled = ways(self._speller, tuple(phrase))
            except DomainError:
                continue
            for first, *rest in spelled:
                state = then
                for token in reversed(rest):
                    state = self._states.add((), [(token, state)])
                arcs.append((first, state))
        return self._states.add((), arcs)

    def _maybe(self, phrases: _Phrases, then: int) -> int:
        return self._either([then, self._say(phrases, then)])

    def _either(self, states: Iterable[int]) -> int:
        found = list(states)
        return self._states.add(
            [output for state in found for output in self._states.outputs[state]],
            [arc for state in found for arc in self._states.arcs[state]],
        )


def _beside(first: Network, second: Network) -> Network:
    """One network that accepts what either does; the nodes of ``second`` stand behind those of ``first``."""
    shift = first.nodes

    def joined(ptr: Ints, more: Ints) -> Ints:
        return np.concatenate([ptr, more[1:] + ptr[-1]]).astype(np.int32)

    def behind(values: Ints, more: Ints, by: int) -> Ints:
        return np.concatenate([values, more + by]).astype(np.int32)

    return Network(
        token=behind(first.token, second.token, 0),
        call=behind(first.call, second.call, 0),
        succ_ptr=joined(first.succ_ptr, second.succ_ptr),
        succ=behind(first.succ, second.succ, shift),
        entry=behind(first.entry, second.entry, shift),
        final_ptr=joined(first.final_ptr, second.final_ptr),
        final_out=behind(first.final_out, second.final_out, 0),
    )
