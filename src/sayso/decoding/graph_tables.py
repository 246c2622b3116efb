"""One index space over a compiled domain, so that the frontier of the graph search is a handful of flat arrays.

Global nodes are, in order: the ``M`` main nodes, one start node, the nodes of every list, and one node per
token that an open slot may hold. Successor, final and entry arcs are CSR arrays over that space. Building is
concatenation only (a stream with its own contact list builds one in well under a millisecond of numpy) and
never multiplies a list by the calls that use it: which call a list position belongs to is part of the hypothesis.

Shape letters: ``G`` global nodes, ``M`` main nodes, ``L`` lists, ``V`` tokens, ``K`` arcs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sayso.core.automaton import Automaton, Network, SlotList, is_text

Longs = NDArray[np.int64]
_TOKEN, _OPEN = -1, -2  # main nodes that call no list


@dataclass(frozen=True, kw_only=True)
class Tables:
    """The packed domain. ``fin_out`` holds meanings for main nodes and global value ids for list nodes."""

    automaton: Automaton
    start: int  # == M
    open_base: int  # global node of open token i is open_base + i
    open_tokens: Longs  # (O,)
    token: Longs  # (G,); -1 for calls, 0 for the start
    heard: Longs  # (G,): the posterior that is its token's; any for calls
    succ_ptr: Longs
    succ: Longs
    fin_ptr: Longs
    fin_out: Longs
    node_list: Longs  # (M,): list index of a call node, -1 for a token node, -2 for an open slot
    node_slot: Longs  # (M,): slot id of a call node
    node_max: Longs  # (M,): bound of an open slot
    ent_ptr: Longs  # (L+1,)
    ent: Longs  # list entries as global nodes
    value_id: Longs  # global value -> id of its string, equal for equal strings
    values: tuple[str, ...]  # global value -> string
    value_weight: NDArray[np.float64]  # global value -> what it adds to the score
    meaning_hash: Longs  # per meaning: hash of the slots its template fixes
    between: NDArray[np.bool_]  # (G,): whether a word may begin, or the sentence end, after it
    opens: Longs  # open tokens (their numbers, below O) that may begin an open slot
    has_lists: bool
    has_open: bool

    def key(self, node: Longs, call: Longs) -> Longs:
        """One integer per search position; room for a factor of 256 is left."""
        return node * (self.start + 1) + call + 1


def build_tables(automaton: Automaton) -> Tables:
    """Pack ``automaton``; ``ValueError`` for a call of a list it does not have or an open slot beyond 255 tokens."""
    main = automaton.main
    names = sorted(automaton.lists)
    networks = [automaton.lists[name].network for name in names]
    bases = np.cumsum([main.nodes + 1, *[network.nodes for network in networks]]).astype(np.int64)
    value_bases = np.cumsum([0, *[len(automaton.lists[name].values) for name in names]]).astype(np.int64)
    open_base = int(bases[-1])
    opened, opens = _open_tokens(automaton)
    strings: dict[str, int] = {}
    values = tuple(value for name in names for value in automaton.lists[name].values)
    value_id = np.array([strings.setdefault(value, len(strings)) for value in values], dtype=np.int64)
    node_list, node_slot, node_max, slots = _calls(automaton, names)
    empty = np.zeros(opened.size, dtype=np.int64)
    token = _join([main.token, [0], *[n.token for n in networks], opened])
    succ = _join([main.succ, main.entry, *_shift(networks, "succ", bases)])
    succ_counts: list[ArrayLike] = [
        np.diff(main.succ_ptr),
        [main.entry.size],
        *[np.diff(n.succ_ptr) for n in networks],
        empty,
    ]
    fin_counts: list[ArrayLike] = [np.diff(main.final_ptr), [0], *[np.diff(n.final_ptr) for n in networks], empty]
    succ_ptr, fin_ptr = _pointers(succ_counts), _pointers(fin_counts)
    return Tables(
        automaton=automaton,
        start=main.nodes,
        open_base=open_base,
        open_tokens=opened,
        token=token,
        heard=automaton.rows.astype(np.int64)[token] if automaton.lexicon else token,
        succ_ptr=succ_ptr,
        succ=succ,
        fin_ptr=fin_ptr,
        fin_out=_join([main.final_out, *_shift(networks, "final_out", value_bases)]),
        node_list=node_list,
        node_slot=node_slot,
        node_max=node_max,
        ent_ptr=_pointers([[n.entry.size for n in networks]]),
        ent=_join(_shift(networks, "entry", bases)),
        value_id=value_id,
        values=values,
        value_weight=_weights([automaton.lists[name] for name in names]),
        meaning_hash=_meaning_hashes(automaton, slots, strings),
        between=_between(automaton, token, succ_ptr, succ, fin_ptr),
        opens=opens,
        has_lists=bool((node_list >= 0).any()),
        has_open=bool((node_list == _OPEN).any()),
    )


def _between(automaton: Automaton, token: Longs, succ_ptr: Longs, succ: Longs, fin_ptr: Longs) -> NDArray[np.bool_]:
    """Nodes after which a word, a list or an open slot may begin, or something ends; the start among them."""
    begins = np.array([piece.startswith("▁") for piece in automaton.pieces] + [True])[token]  # -1 calls
    behind = np.concatenate([[0], np.cumsum(begins[succ])])
    found: NDArray[np.bool_] = behind[succ_ptr[1:]] > behind[succ_ptr[:-1]]
    found |= np.diff(fin_ptr) > 0
    found[automaton.main.nodes] = True
    return found


def mix(slot: Longs, value: Longs) -> Longs:
    """A 64-bit hash per (slot id, value id); sums of it stand for sets of slots, whatever their order."""
    x = (slot + 1) * np.int64(0x1E3779B97F4A7C15) + (value + 1) * np.int64(0x3F58476D1CE4E5B9)
    x = (x ^ (x >> 29)) * np.int64(0x14D049BB133111EB)
    mixed: Longs = x ^ (x >> 32)
    return mixed


def expand(ptr: Longs, rows: Longs) -> tuple[Longs, Longs]:
    """CSR expansion: for every arc of every row, the position in ``rows`` and the arc's index."""
    begin = ptr[rows]
    counts = ptr[rows + 1] - begin
    ends = np.cumsum(counts)
    which = np.repeat(np.arange(rows.size), counts)
    return which, np.arange(which.size) + np.repeat(begin - ends + counts, counts)


def _calls(automaton: Automaton, names: list[str]) -> tuple[Longs, Longs, Longs, dict[str, int]]:
    slots: dict[str, int] = {}
    position = {name: i for i, name in enumerate(names)}
    per_call = np.zeros((len(automaton.calls), 3), dtype=np.int64)
    for i, call in enumerate(automaton.calls):
        if call.list is not None and call.list not in position:
            raise ValueError(f"call of list '{call.list}', which this automaton does not have: {names}")
        if call.list is None and not 1 <= call.max_tokens <= 255:
            raise ValueError(f"open slot '{call.slot}': max_tokens is {call.max_tokens}, legal are 1 to 255")
        list_index = _OPEN if call.list is None else position[call.list]
        per_call[i] = list_index, slots.setdefault(call.slot, len(slots)), call.max_tokens
    columns = np.full((automaton.main.nodes, 3), _TOKEN, dtype=np.int64)
    is_call = automaton.main.token < 0
    columns[is_call] = per_call[automaton.main.call[is_call]]
    return columns[:, 0].copy(), columns[:, 1].copy(), columns[:, 2].copy(), slots


def _meaning_hashes(automaton: Automaton, slots: dict[str, int], strings: dict[str, int]) -> Longs:
    hashes = np.zeros(len(automaton.meanings), dtype=np.int64)
    for i, meaning in enumerate(automaton.meanings):
        pairs = [(slots.setdefault(s, len(slots)), strings.setdefault(v, len(strings))) for s, v in meaning.slots]
        if pairs:
            array = np.array(pairs, dtype=np.int64)
            hashes[i] = mix(array[:, 0], array[:, 1]).sum()
    return hashes


def _weights(lists: Sequence[SlotList]) -> NDArray[np.float64]:
    parts = [np.zeros(len(each.values)) if each.weights is None else each.weights for each in lists]
    return np.concatenate([np.zeros(0), *parts])


def _open_tokens(automaton: Automaton) -> tuple[Longs, Longs]:
    """The tokens that an open slot may hold, and which of them may begin one: of pieces those that open a word."""
    if automaton.lexicon:
        return np.array(automaton.open_tokens, dtype=np.int64), np.arange(len(automaton.open_tokens))
    tokens = [i for i, piece in enumerate(automaton.pieces) if i > 0 and is_text(piece)]
    opens = [at for at, token in enumerate(tokens) if automaton.pieces[token].startswith("▁")]
    return np.array(tokens, dtype=np.int64), np.array(opens, dtype=np.int64)


def _shift(networks: list[Network], name: str, bases: Longs) -> list[Longs]:
    return [getattr(network, name) + bases[i] for i, network in enumerate(networks)]


def _join(parts: Sequence[ArrayLike]) -> Longs:
    return np.concatenate([np.asarray(part, dtype=np.int64) for part in parts]) if parts else np.zeros(0, np.int64)


def _pointers(counts: Sequence[ArrayLike]) -> Longs:
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(_join(counts))])
