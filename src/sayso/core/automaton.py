"""A compiled domain: what ``nlu`` writes and ``decoding`` walks, with neither knowing the other.

A ``Network`` is an epsilon-free, acyclic automaton in *position* form (Glushkov): every node carries exactly one
token, or one *call* of a list, so that "the token just emitted" is a property of the node. Edges are packed in CSR
form. Sentences of all intents share one minimised ``main`` network; each slot list is a network of its own that call
nodes refer to, never inlined, so that a stream may replace one list without touching anything else. A call of the
list ``None`` is an open slot (any bounded token sequence).

Shape letters: ``N`` nodes, ``E`` edges.
"""

from __future__ import annotations

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
    """A list's network and its values: ``values[i]`` is the ``out`` string, ``texts[i]`` one spoken form."""

    network: Network
    values: tuple[str, ...]
    texts: tuple[str, ...]


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
    of token ``i`` ('▁' opens a word); token 0 is blank and never occurs in a network."""

    main: Network
    lists: dict[str, SlotList]
    calls: tuple[Call, ...]
    meanings: tuple[Meaning, ...]
    pieces: tuple[str, ...]
    tokenizer: str
    domain: str = ""
    meta: dict[str, str] = field(default_factory=dict)

    def with_lists(self, lists: dict[str, SlotList]) -> Automaton:
        """The same domain with some lists replaced (contacts of one user); the main network is shared, not copied."""
        unknown = set(lists) - set(self.lists)
        if unknown:
            raise KeyError(f"lists not in this domain: {sorted(unknown)}; it has {sorted(self.lists)}")
        return replace(self, lists={**self.lists, **lists})
