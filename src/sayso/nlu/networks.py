"""Networks of tokens: hash-consed states, position form, and a list's values as a network.

Apart from the compilation of whole domains, so that a running model that swaps a list, or reads a compiled domain,
loads no grammar parser.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from sayso.core.automaton import Ints, Network, SlotList
from sayso.core.errors import DomainError
from sayso.nlu.spelling import Speller, ways
from sayso.text.normalise import normalise


def compile_list(values: Sequence[tuple[str, str]], speller: Speller) -> SlotList:
    """The network of a list from (spoken text, ``out``) pairs; text is normalised here, repeats are dropped.

    Raises ``DomainError`` when there is nothing to say or ``speller`` has no tokens for it.
    """
    forms = list(dict.fromkeys((normalise(text), out) for text, out in values))
    if not forms or not all(text for text, _ in forms):
        empty = next((out for text, out in forms if not text), None)
        raise DomainError(
            "a list needs at least one value" if empty is None else f"list value '{empty}' has no spoken words"
        )
    states = States()
    root = _Trie()
    for number, (text, _) in enumerate(forms):
        for tokens in ways(speller, text.split()):
            here = root
            for token in tokens:
                here = here.children.setdefault(token, _Trie())
            here.outputs.append(number)
    try:
        start = root.pack(states)
    except RecursionError:
        raise DomainError("a list has a value that is too long to compile; values are a few words") from None
    return SlotList(
        network=positions(states, start),
        values=tuple(out for _, out in forms),
        texts=tuple(text for text, _ in forms),
    )


class States:
    """Hash-consed states of an acyclic automaton: equal outputs and equal arcs are one state. A symbol is a token (>=
    0) or call ``c`` as ``-1 - c``."""

    def __init__(self) -> None:
        self.outputs: list[tuple[int, ...]] = []
        self.arcs: list[tuple[tuple[int, int], ...]] = []
        self._known: dict[tuple[tuple[int, ...], tuple[tuple[int, int], ...]], int] = {}

    def add(self, outputs: Iterable[int], arcs: Iterable[tuple[int, int]]) -> int:
        """The state with these outputs and (symbol, target) arcs."""
        key = (tuple(sorted(set(outputs))), tuple(sorted(set(arcs))))
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = len(self.outputs)
            self.outputs.append(key[0])
            self.arcs.append(key[1])
        return known


def positions(states: States, start: int) -> Network:
    """Position form of what can be said from ``start``: a node per (symbol, target state), in order of first reach."""
    number: dict[tuple[int, int], int] = {}
    order: list[tuple[int, int]] = []

    def visit(state: int) -> list[int]:
        found = []
        for arc in states.arcs[state]:
            if arc not in number:
                number[arc] = len(order)
                order.append(arc)
            found.append(number[arc])
        return sorted(found)

    entry = visit(start)
    following: dict[int, list[int]] = {}
    succ: list[list[int]] = []
    for _, target in order:  # grows while it is read: a breadth-first walk
        if target not in following:
            following[target] = visit(target)
        succ.append(following[target])
    final = [states.outputs[target] for _, target in order]
    return Network(
        token=np.array([max(symbol, -1) for symbol, _ in order], dtype=np.int32),
        call=np.array([-1 - symbol if symbol < 0 else -1 for symbol, _ in order], dtype=np.int32),
        succ_ptr=_pointers(succ),
        succ=np.array([n for nodes in succ for n in nodes], dtype=np.int32),
        entry=np.array(entry, dtype=np.int32),
        final_ptr=_pointers(final),
        final_out=np.array([o for outs in final for o in outs], dtype=np.int32),
    )


class _Trie:
    """A list's values by their tokens."""

    def __init__(self) -> None:
        self.children: dict[int, _Trie] = {}
        self.outputs: list[int] = []

    def pack(self, states: States) -> int:
        """The hash-consed state of this node."""
        return states.add(self.outputs, [(token, child.pack(states)) for token, child in self.children.items()])


def _pointers(rows: Sequence[Sequence[int]]) -> Ints:
    return np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int32)
