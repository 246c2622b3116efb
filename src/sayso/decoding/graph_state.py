"""What a stream of the graph search remembers: an append-only token history and the frontier that points into it.

A history entry is one emitted token with its parent, so that hypotheses share their past. A parent always
precedes its children; collection keeps what the frontier can still reach, in the same order, so that memory is
bounded by the longest sentence times the frontier however long the stream is, and results do not depend on when
it happens.

Shape letters: ``n`` frontier rows.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sayso.decoding.filler import FillerState
from sayso.decoding.graph_tables import Longs

Doubles = NDArray[np.float64]
_PARENT, _TOKEN, _FRAME, _CALL, _LEFT, _HASH, _DEPTH, _FIELDS = range(8)
_STEP = np.int64(0x5851F42D4C957F2D)


class History:
    """Token entries; id -1 is the empty history."""

    def __init__(self, limit: int = 1 << 10) -> None:
        self._rows = np.zeros((_FIELDS, 1024), dtype=np.int64)
        self._peak = np.zeros(1024)
        self.size = 0
        self._limit = self._floor = limit

    def append(self, parent: Longs, token: Longs, call: Longs, left: Longs, peak: Doubles, frame: int) -> Longs:
        """Add entries; ``left`` is the global value of the list just left (-1: none). Returns their ids."""
        n = parent.size
        while self.size + n > self._peak.size:
            self._rows = np.concatenate([self._rows, np.zeros_like(self._rows)], axis=1)
            self._peak = np.concatenate([self._peak, np.zeros_like(self._peak)])
        block = self._rows[:, self.size : self.size + n]
        block[_PARENT], block[_TOKEN], block[_FRAME], block[_CALL], block[_LEFT] = parent, token, frame, call, left
        block[_HASH] = (np.where(parent < 0, 0, self._rows[_HASH, parent]) + token + 1) * _STEP
        block[_DEPTH] = np.where(parent < 0, 0, self._rows[_DEPTH, parent]) + 1
        self._peak[self.size : self.size + n] = peak
        self.size += n
        return np.arange(self.size - n, self.size)

    def raise_peak(self, ids: Longs, log_prob: Doubles) -> None:
        """The token of entry ``ids[i]`` was held for one more frame with this log posterior. Ids are distinct."""
        self._peak[ids] = np.maximum(self._peak[ids], log_prob)

    def trace(self, last: int) -> tuple[Longs, Doubles]:
        """Entries from the first token to ``last``: rows (token, frame, call, left) (4, U) and peak log posteriors."""
        ids: list[int] = []
        parents = self._rows[_PARENT]
        while last >= 0:
            ids.append(last)
            last = int(parents[last])
        ids.reverse()
        return self._rows[_TOKEN : _LEFT + 1, ids], self._peak[ids]

    def common(self, ids: Longs) -> int:
        """The entry (one of them, -1 for none) up to which the histories ``ids`` hold the same tokens."""
        parent, depth, prefix = self._rows[_PARENT], self._rows[_DEPTH], self._rows[_HASH]
        ids = np.unique(ids)
        if ids.size == 0 or ids[0] < 0:
            return -1
        shallow = int(depth[ids].min())
        while int(depth[ids].max()) > shallow:
            ids = np.unique(np.where(depth[ids] > shallow, parent[ids], ids))
        while not np.all(prefix[ids] == prefix[ids[0]]):
            ids = np.unique(parent[ids])
            if ids[0] < 0:
                return -1
        return int(ids[0])

    def descends(self, ids: Longs, ancestor: int) -> NDArray[np.bool_]:
        """Which histories begin with the tokens of ``ancestor``."""
        parent, depth, prefix = self._rows[_PARENT], self._rows[_DEPTH], self._rows[_HASH]
        wanted, level = prefix[ancestor], depth[ancestor]
        ids = ids.copy()
        while True:
            deeper = (ids >= 0) & (depth[ids] > level)
            if not deeper.any():
                break
            ids = np.where(deeper, parent[ids], ids)
        beginning: NDArray[np.bool_] = (ids >= 0) & (prefix[ids] == wanted)
        return beginning

    def same_tokens(self, ids: Longs, other: int) -> NDArray[np.bool_]:
        """Which histories hold the same tokens as ``other`` (>= 0)."""
        same: NDArray[np.bool_] = (ids >= 0) & (self._rows[_HASH, ids] == self._rows[_HASH, other])
        return same

    def collect(self, live: list[Longs]) -> list[Longs]:
        """Drop entries that ``live`` cannot reach once the store has doubled; returns ``live`` renumbered."""
        if self.size <= self._limit:
            return live
        keep = np.zeros(self.size + 1, dtype=bool)  # the last one stands for id -1
        current = np.unique(np.concatenate(live))
        while current.size:
            keep[current] = True
            following = self._rows[_PARENT, current[current >= 0]]
            current = np.unique(following[~keep[following]])
        kept = np.flatnonzero(keep[:-1])
        number = np.full(self.size + 1, -1, dtype=np.int64)
        number[kept] = np.arange(kept.size)
        rows = self._rows[:, kept]
        rows[_PARENT] = number[rows[_PARENT]]
        self._rows, self._peak, self.size = np.ascontiguousarray(rows), self._peak[kept], kept.size
        self._limit = max(self._floor, 2 * self.size)
        if self.size == 0:
            self._rows, self._peak = np.zeros((_FIELDS, 1024), dtype=np.int64), np.zeros(1024)
        return [number[ids] for ids in live]


@dataclass(kw_only=True)
class Frontier:
    """Live positions, unique in (position, slot values), each scored "in its token" and "in blank after it"."""

    node: Longs  # global node
    call: Longs  # main call node a list or open position returns to, else -1
    count: Longs  # tokens so far inside an open slot, else 0
    values: Longs  # hash of the slot values already passed
    tok: Doubles
    blk: Doubles
    tok_hist: Longs
    blk_hist: Longs

    def best(self) -> Doubles:
        """(n,) the better of the two scores."""
        return np.maximum(self.tok, self.blk)

    def hist(self) -> Longs:
        """(n,) the history behind ``best``."""
        return np.where(self.tok > self.blk, self.tok_hist, self.blk_hist)

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> Frontier:
        """Some rows."""
        return Frontier(
            node=self.node[rows],
            call=self.call[rows],
            count=self.count[rows],
            values=self.values[rows],
            tok=self.tok[rows],
            blk=self.blk[rows],
            tok_hist=self.tok_hist[rows],
            blk_hist=self.blk_hist[rows],
        )


@dataclass(kw_only=True)
class GraphState:
    """One stream. Only ``GraphSearch`` looks inside; ``frame`` and ``nonblank`` count frames so far."""

    frontier: Frontier
    history: History
    filler: FillerState
    frame: int = 0
    nonblank: int = 0
    stable: tuple[int, ...] = field(default=())
