"""What a semantic parser may write next: a push-down automaton over tokens, from a schema.

Words are spelled in a tokenizer's pieces, labels are tokens of their own. At every step ``legal`` masks the tokens
after which the meaning can still be completed within the limit, so no walk ends but in a well-formed meaning: brackets
balance, labels stand where the schema has them, slots are not empty, words are whole. A coupled intent is not empty
either, words may stand between intents, and there is at least one intent where the schema has any.

Shape letters: ``V`` tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sayso.core.trees import CLOSE, INTENT, SLOT, TreeSchema
from sayso.nlu.grammar import Chars, Node, Ref, Seq
from sayso.nlu.schema import Domain
from sayso.nlu.trees import Parts, Tree, decoupled
from sayso.text.tokenizer import UNKNOWN

Mask = NDArray[np.bool_]
_NO_WORD, _IN_WORD, _HALF_WORD = range(3)  # a half word has its space but no letter


def domain_trees(domain: Domain) -> TreeSchema:
    """The schema of a domain: every intent with the slots that its templates speak; nothing nested."""
    found: dict[str, dict[str, None]] = {name: {} for name in domain.intents}
    for template in domain.templates:
        _refer(template.tree, found.setdefault(template.intent, {}), set())
    return TreeSchema(intents={name: tuple(slots) for name, slots in found.items()})


class Place(NamedTuple):
    """Where a walk stands: open labels with whether anything is inside, the word before, what was written, how many
    tokens may still come (the end is one)."""

    open: tuple[tuple[int, bool], ...]
    word: int
    framed: bool
    left: int


class TreeGrammar:
    """The automaton of ``schema`` over the ``pieces`` of a tokenizer; holds no walk."""

    def __init__(self, schema: TreeSchema, pieces: Sequence[str]) -> None:
        self.schema, self.pieces = schema, tuple(pieces)
        self.end, self.size = len(pieces), schema.size(len(pieces))
        self._labels = schema.labels
        self._numbers = {label: self.end + 1 + i for i, label in enumerate(self._labels)}
        known = range(UNKNOWN + 1, self.end)
        bare = {i for i in known if not pieces[i].strip("▁")}
        first = {i for i in known if pieces[i].startswith("▁")} - bare
        self._first, self._more = self._mask(first), self._mask(set(known) - first - bare)
        self._bare = self._mask(bare if self._more.any() else ())
        if not self._first.any() and not self._bare.any():
            raise ValueError("a tokenizer without a piece that opens a word; give one that sentencepiece trained")
        self._a_word = 1 if self._first.any() else 2
        self._close = self._mask([self._numbers[CLOSE]] if self._labels else [])
        self._end = self._mask([self.end])
        self._inside = {0: self._mask(self._numbers[INTENT + name] for name in schema.intents)}
        for name, slots in schema.intents.items():
            self._inside[self._numbers[INTENT + name]] = self._mask(self._numbers[SLOT + slot] for slot in slots)
        for slot in schema.slots:
            held = schema.nested.get(slot, ())
            self._inside[self._numbers[SLOT + slot]] = self._mask(self._numbers[INTENT + name] for name in held)
        self._intents = {self._numbers[INTENT + name] for name in schema.intents}
        self._coupled = schema.form == "coupled"

    @property
    def shortest(self) -> int:
        """Tokens of the shortest meaning, the end included."""
        return self._needed(Place((), _NO_WORD, False, 0))

    def start(self, limit: int) -> Place:
        """Nothing written, and ``limit`` tokens to come at most; ``ValueError`` where no meaning is that short."""
        if limit < self.shortest:
            raise ValueError(f"no meaning has {limit} tokens; the shortest has {self.shortest}")
        return Place((), _NO_WORD, False, limit)

    def legal(self, place: Place) -> Mask:
        """(V,): the tokens that may come next; none after the end."""
        spare = place.left - 1  # for what follows the token in question
        mask = np.zeros(self.size, dtype=np.bool_)
        if place.left <= 0:
            return mask
        for tokens, one in self._choices(place):
            token = int(tokens.argmax())  # all of a group leave the walk equally far from its end
            if tokens[token] and (one or self._needed(self.advance(place, token)) <= spare):
                mask |= tokens
        return mask

    def advance(self, place: Place, token: int) -> Place:
        """``place`` after a legal ``token``; the end leaves nothing to come."""
        left = place.left - 1
        if token == self.end:
            return Place((), _NO_WORD, place.framed, 0)
        if token < self.end:
            return Place(_filled(place.open), _HALF_WORD if self._bare[token] else _IN_WORD, place.framed, left)
        if self._close[token]:
            return Place(place.open[:-1], _NO_WORD, place.framed, left)
        return Place((*_filled(place.open), (token, False)), _NO_WORD, True, left)

    def encode(self, parts: Parts, spell: Callable[[str], Sequence[int]]) -> tuple[int, ...] | None:
        """Tokens without the end, words as ``spell`` spells them, in the schema's form; None where the schema or the
        tokenizer has no such meaning."""
        tokens = tuple(self._written(parts if self._coupled else decoupled(parts), spell))
        place = self.start(max(len(tokens) + 1, self.shortest))
        for token in (*tokens, self.end):
            if token is None or not self.legal(place)[token]:
                return None
            place = self.advance(place, token)
        return tuple(token for token in tokens if token is not None)

    def decode(self, tokens: Sequence[int]) -> Parts:
        """The meaning of tokens, with or without the end; ``ValueError`` where they are none."""
        tokens = tokens[:-1] if len(tokens) and tokens[-1] == self.end else tokens
        place = self.start(max(len(tokens) + 1, self.shortest))
        open_: list[tuple[str, list[str | Tree]]] = [("", [])]
        for number, token in enumerate((*tokens, self.end)):
            if not 0 <= token < self.size or not self.legal(place)[token]:
                raise ValueError(f"token {token} at place {number} of {list(tokens)} is not legal there")
            if token < self.end and self._more[token]:
                open_[-1][1][-1] = f"{open_[-1][1][-1]}{self.pieces[token]}"
            elif token < self.end:
                open_[-1][1].append(self.pieces[token].replace("▁", ""))
            elif token == self._numbers.get(CLOSE):
                label, parts = open_.pop()
                open_[-1][1].append(Tree(label, tuple(parts)))
            elif token != self.end:
                open_.append((self._labels[token - self.end - 1][1:], []))
            place = self.advance(place, token)
        return tuple(open_[0][1])

    def _choices(self, place: Place) -> list[tuple[Mask, bool]]:
        """Groups of tokens that the schema allows here, and whether the walk is over with them."""
        if place.word == _HALF_WORD:
            return [(self._more, False)]
        found = [(self._more, False)] if place.word == _IN_WORD else []
        label, filled = place.open[-1] if place.open else (0, True)
        slot = bool(place.open) and label not in self._intents
        if self._coupled or slot:
            found += [(self._first, False), (self._bare, False)]
        found.append((self._inside[label], False))
        if place.open and (filled or self._may_be_empty(label)):
            found.append((self._close, False))
        if not place.open and (place.framed or not self._intents):
            found.append((self._end, True))
        return found

    def _needed(self, place: Place) -> int:
        """The fewest tokens to the end, it included."""
        needed = 1 + len(place.open) + (place.word == _HALF_WORD)
        if place.open:
            label, filled = place.open[-1]
            return needed + (0 if filled or self._may_be_empty(label) else self._a_word)
        if place.framed or not self._intents:
            return needed
        return needed + 2 + (self._a_word if self._coupled else 0)

    def _may_be_empty(self, label: int) -> bool:
        return not self._coupled and label in self._intents

    def _written(self, parts: Parts, spell: Callable[[str], Sequence[int]]) -> Iterable[int | None]:
        for part in parts:
            if isinstance(part, str):
                yield from spell(part)
            else:
                yield self._numbers.get(f"[{part.label}")
                yield from self._written(part.parts, spell)
                yield self._numbers.get(CLOSE)

    def _mask(self, tokens: Iterable[int]) -> Mask:
        mask = np.zeros(self.size, dtype=np.bool_)
        mask[list(tokens)] = True
        return mask


def _refer(node: Node, slots: dict[str, None], seen: set[int]) -> None:
    """Add the slots of all lists below ``node``; rules are shared between templates, each is looked at once."""
    if id(node) in seen or isinstance(node, Chars):
        return
    seen.add(id(node))
    if isinstance(node, Ref):
        slots[node.slot] = None
        return
    for part in node.parts if isinstance(node, Seq) else node.options:
        _refer(part, slots, seen)


def _filled(open_: tuple[tuple[int, bool], ...]) -> tuple[tuple[int, bool], ...]:
    """With something inside the innermost label."""
    return (*open_[:-1], (open_[-1][0], True)) if open_ else ()
