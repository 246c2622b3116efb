"""Reading a graph search: which hypotheses may end here, what they mean, and their tokens, frames and slots."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sayso.decoding.graph_state import GraphState
from sayso.decoding.graph_step import list_ends
from sayso.decoding.graph_tables import Tables, expand


@dataclass(frozen=True, kw_only=True)
class SlotMatch:
    """A slot's place in the tokens, ``first`` and ``last`` inclusive. ``list`` None: open, and ``value`` is empty.

    ``value`` is None where the hypothesis ends inside the list (incomplete hypotheses only).
    """

    slot: str
    list: str | None
    value: str | None
    first: int
    last: int


@dataclass(frozen=True, kw_only=True)
class GraphHypothesis:
    """One sentence of the grammar, or the beginning of one (``complete`` False, ``meaning`` None)."""

    tokens: tuple[int, ...]
    frames: tuple[int, ...]  # first frame of each token
    scores: tuple[float, ...]  # best log posterior of each token while it was held
    score: float  # with the meaning's weight and the intent's bonus
    acoustic: float  # without them
    meaning: int | None
    slots: tuple[SlotMatch, ...]
    complete: bool


@dataclass(frozen=True, kw_only=True)
class Ending:
    """A frontier row that may end, or (``meaning`` -1) one under way. ``identity`` is what n-best distinguishes."""

    hist: int
    meaning: int
    left: int  # global value of the list the sentence ends with, -1 for none
    acoustic: float
    score: float
    identity: tuple[str | None, int]


def endings(tables: Tables, state: GraphState, bonus: Mapping[str, float], *, partial: bool) -> list[Ending]:
    """Every way to end now; with ``partial`` every live row besides."""
    frontier = state.frontier
    rows = np.arange(frontier.node.size)
    best, hist = frontier.best(), frontier.hist()
    ends = list_ends(tables, frontier, rows)
    in_main = rows[frontier.call < 0]
    source = np.concatenate([in_main, ends.source])
    node = np.concatenate([frontier.node[in_main], ends.node])
    left = np.concatenate([np.full(in_main.size, -1), ends.left])
    gain = np.concatenate([np.zeros(in_main.size), ends.gain])
    values = np.concatenate([frontier.values[in_main], ends.values])
    which, arcs = expand(tables.fin_ptr, node)
    meanings = tables.automaton.meanings
    found: list[Ending] = []
    for place, meaning in zip(which.tolist(), tables.fin_out[arcs].tolist(), strict=True):
        row, spec = int(source[place]), meanings[meaning]
        acoustic = float(best[row])
        found.append(
            Ending(
                hist=int(hist[row]),
                meaning=meaning,
                left=int(left[place]),
                acoustic=acoustic,
                score=acoustic + float(gain[place]) + spec.weight + bonus.get(spec.intent, 0.0),
                identity=(spec.intent, _wrap(int(values[place]) + int(tables.meaning_hash[meaning]))),
            )
        )
    if partial:
        for row in rows.tolist():
            score = float(best[row])
            identity = (None, int(frontier.values[row]))
            found.append(
                Ending(
                    hist=int(hist[row]),
                    meaning=-1,
                    left=-1,
                    acoustic=score,
                    score=score,
                    identity=identity,
                )
            )
    return found


def can_grow(tables: Tables, state: GraphState, hist: int) -> bool:
    """Whether any live row with the tokens of history ``hist`` has a token that may follow."""
    frontier = state.frontier
    rows = np.flatnonzero(state.history.same_tokens(frontier.hist(), hist))
    node, call = frontier.node[rows], frontier.call[rows]
    grows = tables.succ_ptr[node + 1] > tables.succ_ptr[node]
    returns = np.maximum(call, 0)
    grows |= (call >= 0) & (tables.succ_ptr[returns + 1] > tables.succ_ptr[returns])
    grows |= (frontier.count[rows] > 0) & (frontier.count[rows] < tables.node_max[returns])
    return bool(grows.any())


def trace(tables: Tables, state: GraphState, ending: Ending) -> GraphHypothesis:
    """Tokens and slots of an ending, by its back-pointers."""
    (token, frame, call, left), peak = state.history.trace(ending.hist)
    return GraphHypothesis(
        tokens=tuple(token.tolist()),
        frames=tuple(frame.tolist()),
        scores=tuple(peak.tolist()),
        score=ending.score,
        acoustic=ending.acoustic,
        meaning=None if ending.meaning < 0 else ending.meaning,
        slots=_slots(tables, call.tolist(), left.tolist(), ending),
        complete=ending.meaning >= 0,
    )


def _slots(tables: Tables, call: list[int], left: list[int], ending: Ending) -> tuple[SlotMatch, ...]:
    automaton, slots, first = tables.automaton, [], 0
    for i in range(len(call)):
        ends_here = i + 1 == len(call) or call[i + 1] != call[i]
        if call[i] >= 0 and ends_here:
            spec = automaton.calls[int(automaton.main.call[call[i]])]
            value = left[i + 1] if i + 1 < len(call) else ending.left
            text = "" if spec.list is None else (tables.values[value] if value >= 0 else None)
            slots.append(SlotMatch(slot=spec.slot, list=spec.list, value=text, first=first, last=i))
        if ends_here:
            first = i + 1
    return tuple(slots)


def _wrap(value: int) -> int:
    """Sums of hashes wrap as int64 does."""
    return (value + (1 << 63)) % (1 << 64) - (1 << 63)
