"""One frame of the graph search: where every hypothesis may go, and how those that meet are merged.

CTC topology (Graves et al. 2006) over grammar positions: a position is either "in its token" (which may be
held) or "in blank after it"; entering a position with the same token needs the blank. All candidates of a frame
are made by a few CSR expansions and merged by sorting; nothing is done per arc in Python.

Shape letters: ``n`` frontier rows, ``p`` places, ``m`` candidates, ``V`` tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sayso.decoding.graph_state import Doubles, Frontier
from sayso.decoding.graph_tables import Longs, Tables, expand, mix

_NEVER = -np.inf


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where frontier rows stand after possibly leaving a list: ``left`` is that list's global value, -1 for none, and
    ``gain`` what the value adds to the score."""

    source: Longs  # frontier row
    node: Longs
    call: Longs
    values: Longs
    left: Longs
    gain: Doubles


@dataclass(frozen=True, kw_only=True)
class Entries:
    """Candidates that emit a new token, from frontier row ``source`` into a position."""

    source: Longs
    node: Longs
    call: Longs
    count: Longs
    values: Longs
    left: Longs
    score: Doubles

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> Entries:
        """Some candidates."""
        return Entries(**{name: getattr(self, name)[rows] for name in _NAMES})

    @staticmethod
    def join(parts: list[Entries]) -> Entries:
        """All candidates of all parts; at least one part."""
        if len(parts) == 1:
            return parts[0]
        return Entries(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in _NAMES})


_NAMES = ("source", "node", "call", "count", "values", "left", "score")
_PLACE_NAMES = ("source", "node", "call", "values", "left", "gain")


def list_ends(tables: Tables, frontier: Frontier, rows: Longs) -> Places:
    """Rows that may leave their list or open slot here, once per value; ``node`` is the call node they return to."""
    inside = rows[frontier.call[rows] >= 0]
    which, arcs = expand(tables.fin_ptr, frontier.node[inside])
    source = inside[which]
    left = tables.fin_out[arcs]
    call = frontier.call[source]
    values = frontier.values[source]
    gain = tables.value_weight[left]
    if source.size:
        values = values + mix(tables.node_slot[call], tables.value_id[left])
    if tables.has_open:
        opened = inside[frontier.count[inside] > 0]
        source, call = np.concatenate([source, opened]), np.concatenate([call, frontier.call[opened]])
        left, gain = np.concatenate([left, np.full(opened.size, -1)]), np.concatenate([gain, np.zeros(opened.size)])
        values = np.concatenate([values, frontier.values[opened]])
    return Places(source=source, node=call, call=np.full(source.size, -1), values=values, left=left, gain=gain)


class Expander:
    """Makes the candidates of a frame. ``open_top_k`` limits open slots to the best tokens of the frame (None: all)."""

    def __init__(self, tables: Tables, *, open_top_k: int | None, open_penalty: float) -> None:
        self.tables = tables
        self._top_k, self._penalty = open_top_k, open_penalty
        self._fillers = np.arange(tables.open_tokens.size)
        self._rows = tables.heard[tables.open_base :]

    def __call__(self, frontier: Frontier, rows: Longs, frame: Doubles, threshold: float) -> Entries:
        """Candidates of score >= ``threshold`` (and above minus infinity) from ``rows``; ``frame`` is (V,)."""
        tables = self.tables
        places = self._places(frontier, rows)
        make = _Maker(tables, frontier, places, frame, threshold)
        which, arcs = expand(tables.succ_ptr, places.node)
        target = tables.succ[arcs]
        calling = tables.token[target] < 0
        plain = ~calling
        parts = [make(which[plain], target[plain], places.call[which[plain]])]
        if calling.any():
            which, target = which[calling], target[calling]
            lists = tables.node_list[target]
            listed = lists >= 0
            inner, arcs = expand(tables.ent_ptr, lists[listed])
            parts.append(make(which[listed][inner], tables.ent[arcs], target[listed][inner]))
            if tables.has_open and not listed.all():
                opener = self._best_of(tables.opens, frame)
                where, node = _cross(which[~listed], opener + tables.open_base)
                call, _ = _cross(target[~listed], opener)
                parts.append(make(where, node, call, count=np.ones(where.size, dtype=np.int64), penalty=self._penalty))
        if tables.has_open:
            parts.append(self._continue_open(make, frontier, places, frame))
        return Entries.join(parts)

    def _places(self, frontier: Frontier, rows: Longs) -> Places:
        here = Places(
            source=rows,
            node=frontier.node[rows],
            call=frontier.call[rows],
            values=frontier.values[rows],
            left=np.full(rows.size, -1),
            gain=np.zeros(rows.size),
        )
        if not (self.tables.has_lists or self.tables.has_open):
            return here
        ends = list_ends(self.tables, frontier, rows)
        if not ends.source.size:
            return here
        return Places(**{name: np.concatenate([getattr(here, name), getattr(ends, name)]) for name in _PLACE_NAMES})

    def _continue_open(self, make: _Maker, frontier: Frontier, places: Places, frame: Doubles) -> Entries:
        count = frontier.count[places.source]
        staying = (count > 0) & (places.call >= 0)
        inside = np.flatnonzero(staying)
        inside = inside[count[inside] < self.tables.node_max[places.call[inside]]]
        best = self._best_of(self._fillers, frame)
        where, node = _cross(inside, best + self.tables.open_base)
        return make(where, node, places.call[where], count=count[where] + 1, penalty=self._penalty)

    def _best_of(self, opened: Longs, frame: Doubles) -> Longs:
        """Of open tokens, by number, the likeliest."""
        if self._top_k is None or opened.size <= self._top_k:
            return opened
        return np.sort(opened[np.argpartition(-frame[self._rows[opened]], self._top_k - 1)[: self._top_k]])


class _Maker:
    """Scores transitions from places into nodes and keeps those that are good enough."""

    def __init__(self, tables: Tables, frontier: Frontier, places: Places, frame: Doubles, threshold: float) -> None:
        self._tables, self._places, self._frame, self._threshold = tables, places, frame, threshold
        self._best = frontier.best()[places.source] + places.gain
        self._blank = frontier.blk[places.source] + places.gain
        self._heard = tables.heard[frontier.node[places.source]]

    def __call__(
        self, place: Longs, node: Longs, call: Longs, count: Longs | None = None, penalty: float = 0.0
    ) -> Entries:
        heard = self._tables.heard[node]
        before = np.where(heard == self._heard[place], self._blank[place], self._best[place])
        score = before + self._frame[heard] - penalty
        good = np.flatnonzero((score >= self._threshold) & (score > _NEVER))
        place = place[good]
        return Entries(
            source=self._places.source[place],
            node=node[good],
            call=call[good],
            count=np.zeros(good.size, dtype=np.int64) if count is None else count[good],
            values=self._places.values[place],
            left=self._places.left[place],
            score=score[good],
        )


def _cross(rows: Longs, tokens: Longs) -> tuple[Longs, Longs]:
    return np.repeat(rows, tokens.size), np.tile(tokens, rows.size)


@dataclass(frozen=True, kw_only=True)
class Merged:
    """The next frontier, not pruned. ``entry[i]`` is the candidate behind ``frontier.tok[i]``, -1 where held."""

    frontier: Frontier
    key: Longs
    entry: Longs


def merge(tables: Tables, held: Frontier, entries: Entries, *, by_count: bool) -> Merged:
    """Keep the best of all that meet in one (position, slot values); ``held`` rows are already distinct.

    With ``by_count`` open positions differ by the number of tokens in the slot too, so that its bound is exact.
    The result is sorted by position. Ties go to held rows, then to the earlier candidate, so a run can be repeated.
    """
    n, m = held.node.size, entries.node.size
    key = tables.key(np.concatenate([held.node, entries.node]), np.concatenate([held.call, entries.call]))
    if by_count:
        key = key * 256 + np.concatenate([held.count, entries.count])
    values = np.concatenate([held.values, entries.values])
    tok = np.concatenate([held.tok, entries.score])
    order = np.lexsort((-tok, values, key))
    key, values = key[order], values[order]
    fresh = np.ones(n + m, dtype=bool)
    fresh[1:] = (key[1:] != key[:-1]) | (values[1:] != values[:-1])
    begin = np.flatnonzero(fresh)
    winner = order[begin]
    blank = np.concatenate([held.blk, np.full(m, _NEVER)])[order]
    blank_hist = np.concatenate([held.blk_hist, np.full(m, -1)])[order]
    held_win = winner < n
    frontier = Frontier(
        node=np.concatenate([held.node, entries.node])[winner],
        call=np.concatenate([held.call, entries.call])[winner],
        count=np.concatenate([held.count, entries.count])[winner],
        values=values[begin],
        tok=tok[winner],
        blk=np.maximum.reduceat(blank, begin) if begin.size else blank,
        tok_hist=np.where(held_win, np.concatenate([held.tok_hist, np.full(m, -1)])[winner], -1),
        blk_hist=np.maximum.reduceat(blank_hist, begin) if begin.size else blank_hist,
    )
    return Merged(frontier=frontier, key=key[begin], entry=np.where(held_win, -1, winner - n))
