"""The sentence of a domain that is nearest to a text by letters, and what it means: phrase matching for recognisers
that know nothing of the domain.

Exact: the Levenshtein distance to every sentence of the compiled automaton at once, a column of letters at a time
(Wagner & Fischer 1974, over a graph). Shape letters: ``L`` letters of the text.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sayso.core.automaton import Automaton, Network, SlotList
from sayso.core.errors import UsageError
from sayso.core.result import Slot
from sayso.nlu.cascade import Guess
from sayso.text.normalise import normalise

Ints = NDArray[np.int64]
_FAR = 1 << 40


@dataclass
class _Column:
    """For every number of letters of the text that are behind us: the fewest edits, and where that path came from."""

    cost: Ints  # (L+1,)
    origin: Ints  # (L+1,)

    def least(self, other: _Column | None) -> _Column:
        """Of two ways here the better one."""
        if other is None:
            return self
        mine = self.cost <= other.cost
        return _Column(np.where(mine, self.cost, other.cost), np.where(mine, self.origin, other.origin))


@dataclass
class Nearest:
    """Finds the nearest sentence of a spelled automaton without open slots."""

    automaton: Automaton
    _letters: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    _said: list[tuple[int, Slot]] = field(default_factory=list)  # by path: the path before it, and what it added

    def __post_init__(self) -> None:
        if self.automaton.lexicon or any(call.list is None for call in self.automaton.calls):
            raise UsageError("the nearest sentence is looked for in a spelled domain without open slots")

    def __call__(self, text: str) -> list[Guess]:
        """The nearest sentence's meaning, as an understander of a cascade gives it."""
        self._letters, self._said = _codes(" " + normalise(text)), []
        size, network = len(self._letters) + 1, self.automaton.main
        nothing = _Column(np.arange(size), np.full(size, -1))
        best: tuple[int, int, int] | None = None  # edits, meaning, path
        for node, column in self._through(network, nothing).items():
            for meaning in network.final_out[network.final_ptr[node] : network.final_ptr[node + 1]]:
                found = (int(column.cost[-1]), int(meaning), int(column.origin[-1]))
                best = found if best is None or found[0] < best[0] else best
        if best is None:
            return [Guess(intent=None, text=text)]
        edits, number, path = best
        meaning = self.automaton.meanings[number]
        slots = [Slot(name=name, value=value) for name, value in meaning.slots]
        while path >= 0:
            path, slot = self._said[path]
            slots.append(slot)
        certain = 1 - min(edits, size - 1) / (size - 1)
        return [Guess(intent=meaning.intent, slots=tuple(slots), text=text, probability=certain)]

    def _through(self, network: Network, entered: _Column) -> dict[int, _Column]:
        """Columns behind every node, for paths that begin with ``entered``."""
        before: dict[int, _Column] = {int(node): entered for node in network.entry}
        behind: dict[int, _Column] = {}
        for node in _forwards(network):
            token = int(network.token[node])
            behind[node] = (
                self._call(int(network.call[node]), before.pop(node))
                if token < 0
                else self._spell(before.pop(node), self.automaton.pieces[token])
            )
            for after in network.succ[network.succ_ptr[node] : network.succ_ptr[node + 1]]:
                before[int(after)] = behind[node].least(before.get(int(after)))
        return behind

    def _spell(self, column: _Column, piece: str) -> _Column:
        """Behind the letters of a piece: each is the text's next letter, another one, or not in the text at all."""
        cost, origin, places = column.cost, column.origin, np.arange(len(column.cost))
        for letter in _codes(piece.replace("▁", " ")):
            kept = np.concatenate([[_FAR], cost[:-1] + (self._letters != letter)])
            missing = cost + 1
            moved = kept <= missing
            cost = np.where(moved, kept, missing)
            origin = np.where(moved, np.concatenate([[-1], origin[:-1]]), origin)
            level = cost - places  # letters of the text that the sentence does not have
            least = np.minimum.accumulate(level)
            source = np.maximum.accumulate(np.where(level == least, places, 0))
            cost, origin = least + places, origin[source]
        return _Column(cost, origin)

    def _call(self, number: int, column: _Column) -> _Column:
        """Behind a list: one of its values, remembered with the path that led to it."""
        call = self.automaton.calls[number]
        spoken: SlotList = self.automaton.lists[call.list or ""]
        places = np.arange(len(column.cost))
        best: _Column | None = None
        value = np.zeros(len(places), np.int64)
        network = spoken.network
        for node, found in self._through(network, _Column(column.cost, places)).items():
            outputs = network.final_out[network.final_ptr[node] : network.final_ptr[node + 1]]
            if len(outputs):
                better = np.full(len(places), True) if best is None else found.cost < best.cost
                value = np.where(better, int(outputs[0]), value)
                best = found if best is None else best.least(found)
        if best is None:
            return _Column(np.full(len(places), _FAR), np.full(len(places), -1))
        first = len(self._said)
        for place in places:
            slot = Slot(name=call.slot, value=spoken.values[value[place]], text=spoken.texts[value[place]])
            self._said.append((int(column.origin[best.origin[place]]), slot))
        return _Column(best.cost, first + places)


def _codes(text: str) -> Ints:
    return np.array([ord(letter) for letter in text], np.int64)


def _forwards(network: Network) -> list[int]:
    """Nodes that can be reached, each before those that may follow it."""
    done: dict[int, None] = {}
    stack = [(int(node), False) for node in network.entry]
    while stack:
        node, left = stack.pop()
        if left:
            done.setdefault(node)
        elif node not in done:
            stack.append((node, True))
            after = network.succ[network.succ_ptr[node] : network.succ_ptr[node + 1]]
            stack += [(int(other), False) for other in after if int(other) not in done]
    return list(done)[::-1]
