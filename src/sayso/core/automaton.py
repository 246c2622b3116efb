"""A compiled domain: what ``nlu`` writes and ``decoding`` walks, with neither knowing the other.

A ``Network`` is an epsilon-free, acyclic automaton in *position* form (Glushkov): every node carries exactly one
token, or one *call* of a list, so that "the token just emitted" is a property of the node. Edges are packed in CSR
form. Sentences of all intents share one minimised ``main`` network; each slot list is a network of its own that call
nodes refer to, never inlined, so that a stream may replace one list without touching anything else. A call of the
list ``None`` is an open slot (any bounded token sequence).

Shape letters: ``N`` nodes, ``E`` edges.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int32]


@dataclass(frozen=True, kw_only=True)
class Network:
    """Packed positions. ``token[n]`` >= 0 is a token id; -1 marks a call node, whose ``call[n]`` indexes
    ``Automaton.calls``.

    ``succ[succ_ptr[n]:succ_ptr[n+1]]`` are the nodes that may follow ``n``; ``entry`` the nodes that may begin;
    ``final_out[final_ptr[n]:final_ptr[n+1]]`` the outputs if a path may end after ``n`` (empty: not final). An output
    indexes ``Automaton.meanings`` in the main network and ``SlotList.values`` in a list's. Successors and entries are
    sorted.
    """

    token: Ints  # (N,)
    call: Ints  # (N,)
    succ_ptr: Ints  # (N+1,)
    succ: Ints  # (E,)
    entry: Ints
    final_ptr: Ints  # (N+1,)
    final_out: Ints

    @property
    def nodes(self) -> int:
        """N."""
        return int(self.token.shape[0])

    def arrays(self, prefix: str) -> dict[str, NDArray[Any]]:
        """Named arrays for ``numpy.savez``; ``Network.from_arrays`` reads them back."""
        return {f"{prefix}/{name}": getattr(self, name) for name in _FIELDS}

    @staticmethod
    def from_arrays(arrays: dict[str, NDArray[Any]], prefix: str) -> Network:
        """Inverse of ``arrays``; raises ``KeyError`` when one is missing."""
        return Network(**{name: np.ascontiguousarray(arrays[f"{prefix}/{name}"], dtype=np.int32) for name in _FIELDS})


_FIELDS = ("token", "call", "succ_ptr", "succ", "entry", "final_ptr", "final_out")


@dataclass(frozen=True, kw_only=True)
class Call:
    """A place in the main network where a list (or, with ``list`` None, an open slot) is spoken for ``slot``."""

    list: str | None
    slot: str
    max_tokens: int = 24  # bound of an open slot
    type: str | None = None  # what an open slot's words are read as (number, time, ...); None: they are the value


@dataclass(frozen=True, kw_only=True)
class SlotList:
    """A list's network and its values: ``values[i]`` is the ``out`` string, ``texts[i]`` one spoken form, and
    ``weights[i]`` what saying it adds to a path's score (None: nothing)."""

    network: Network
    values: tuple[str, ...]
    texts: tuple[str, ...]
    weights: NDArray[np.float64] | None = None


@dataclass(frozen=True, kw_only=True)
class Meaning:
    """What a complete path of the main network means: an intent, slots that the template fixes, and its log prior."""

    intent: str
    slots: tuple[tuple[str, str], ...] = ()  # (name, value) fixed by the template
    template: int = -1  # index of the sentence template, for hold-out and reports
    weight: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Automaton:
    """The whole domain. ``tokenizer`` is the sha256 of the tokenizer model its ids belong to; ``pieces[i]`` the text
    of token ``i`` ('▁' opens a word); token 0 is blank and never occurs in a network.

    A domain is spelled or pronounced. Spelled, its tokens are the tokenizer's. Pronounced, ``lexicon`` (the sha256 of
    the one it was compiled with) is not empty, and a token is a sound in its place: ``rows[i]`` is the phone that token
    ``i`` is heard as; the first phone of a word is a token of that word, whose whole text it carries, others carry
    none; ``open_tokens`` are the phones inside open slots; and from ``spelled`` on come the tokenizer's pieces, in
    which what an open slot holds is written once it is known.
    """

    main: Network
    lists: dict[str, SlotList]
    calls: tuple[Call, ...]
    meanings: tuple[Meaning, ...]
    pieces: tuple[str, ...]
    tokenizer: str
    domain: str = ""
    meta: dict[str, str] = field(default_factory=dict)
    lexicon: str = ""
    rows: Ints = field(default_factory=lambda: np.zeros(0, np.int32))
    open_tokens: tuple[int, ...] = ()
    spelled: int = 0

    @property
    def units(self) -> int:
        """How many posteriors a frame has: pieces or phones, the blank among them."""
        return int(self.rows.max()) + 1 if self.lexicon else len(self.pieces)

    def text(self, tokens: Iterable[int]) -> str:
        """What tokens say."""
        return text_of(self.pieces[token] for token in tokens)

    def with_lists(
        self, lists: dict[str, SlotList], pieces: tuple[str, ...] | None = None, rows: Ints | None = None
    ) -> Automaton:
        """The same domain with some lists replaced (contacts of one user); the main network is shared, not copied.

        Words that are new to a pronounced domain come as more ``pieces`` and ``rows`` behind those that are there.
        """
        unknown = set(lists) - set(self.lists)
        if unknown:
            raise KeyError(f"lists not in this domain: {sorted(unknown)}; it has {sorted(self.lists)}")
        return replace(
            self,
            lists={**self.lists, **lists},
            pieces=self.pieces if pieces is None else pieces,
            rows=self.rows if rows is None else rows,
        )


def text_of(pieces: Iterable[str]) -> str:
    """The text that pieces make."""
    return "".join(piece for piece in pieces if is_text(piece)).replace("▁", " ").strip()


def is_text(piece: str) -> bool:
    """Whether a piece is part of a text: not a mark such as ``<blk>``."""
    return not (piece.startswith("<") and piece.endswith(">"))
