"""The grammar graph: every sentence of a compiled domain, searched frame by frame on CTC posteriors.

Viterbi (max-plus, natural logs) with a beam over grammar positions. Sentences share their prefixes and
suffixes; a list is one sub-graph that positions enter and return from, so replacing a list costs nothing; an
open slot is a bounded token loop inside the path; hypotheses that meet in a position stay apart (up to
``histories``) while their slot values differ, so that the n-best list is exact over meanings. Without pruning
the search equals brute force over all sentences. Filled pauses cost little between words: people say "turn on
the uh light", and no grammar does.

Shape letters: ``T`` frames, ``V`` tokens, ``n`` frontier rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from sayso.core.automaton import Automaton
from sayso.core.config import Config
from sayso.decoding.filler import Filler
from sayso.decoding.graph_nbest import Ending, can_grow, endings, trace
from sayso.decoding.graph_nbest import GraphHypothesis as GraphHypothesis
from sayso.decoding.graph_nbest import SlotMatch as SlotMatch
from sayso.decoding.graph_state import Doubles, Frontier, GraphState, History
from sayso.decoding.graph_step import Entries, Expander, Merged, merge
from sayso.decoding.graph_tables import Longs, Tables, build_tables

_NEVER = -np.inf
_COMMIT_FRAMES = 4


class GraphConfig(Config):
    """Search settings; scores are natural logs."""

    kind: Literal["graph"] = "graph"
    beam: float = Field(default=16.0, gt=0)  # inf: no beam
    max_active: int | None = Field(default=800, ge=1)  # positions that survive a frame
    histories: int | None = Field(default=4, ge=1)  # hypotheses per position that differ in slot values
    open_top_k: int | None = Field(default=8, ge=1)  # tokens per frame that an open slot considers
    open_counts: bool = False  # hypotheses of one open slot stay apart by length: its bound is exact, the search slower
    open_penalty: float = 0.5  # per token of an open slot
    filler_penalty: float = 0.5  # per token of the filler
    pauses: tuple[int, ...] = ()  # posteriors (phones of "uh", "um") that between words may be as good as blank
    pause_penalty: float = Field(default=1.0, ge=0)  # per frame of them
    blank_penalty: float = Field(default=0.0, ge=0)  # per frame of blank: what noise covers, CTC takes for nothing said
    nbest: int = Field(default=4, ge=1)
    commit_beam: float | None = Field(
        default=8.0, gt=0
    )  # drop rivals of the prefix common to all within it; None: none

    def build(self, automaton: Automaton) -> GraphSearch:
        """A search over ``automaton``."""
        return GraphSearch(automaton, self)

    @staticmethod
    def exact(open_penalty: float = 0.5, filler_penalty: float = 0.5) -> GraphConfig:
        """No pruning of any kind: for tests and for measuring search errors."""
        return GraphConfig(
            beam=np.inf,
            max_active=None,
            histories=None,
            open_top_k=None,
            open_counts=True,
            commit_beam=None,
            open_penalty=open_penalty,
            filler_penalty=filler_penalty,
        )


class GraphSearch:
    """Searches one compiled domain; holds no stream. A stream with lists of its own makes one from ``with_lists``."""

    def __init__(self, automaton: Automaton, config: GraphConfig | None = None) -> None:
        self.config = config or GraphConfig()
        self.automaton = automaton
        self._tables: Tables = build_tables(automaton)
        self._expand = Expander(self._tables, open_top_k=self.config.open_top_k, open_penalty=self.config.open_penalty)
        self._filler = Filler(automaton.units, self.config.filler_penalty)
        self._pauses = np.array(self.config.pauses, dtype=np.int64)

    def start(self) -> GraphState:
        """A stream before any frame."""
        none = np.full(1, -1)
        frontier = Frontier(
            node=np.full(1, self._tables.start),
            call=none,
            count=np.zeros(1, dtype=np.int64),
            values=np.zeros(1, dtype=np.int64),
            tok=np.full(1, _NEVER),
            blk=np.zeros(1),
            tok_hist=none,
            blk_hist=none,
        )
        return GraphState(frontier=frontier, history=History(), filler=self._filler.start())

    def step(self, state: GraphState, log_probs: NDArray[np.floating]) -> GraphState:
        """Advance ``state`` in place over (T, V) log posteriors of pieces or phones (T may be 0) and return it."""
        if log_probs.ndim != 2 or log_probs.shape[1] != self.automaton.units:
            raise ValueError(f"log_probs are {log_probs.shape}, expected (T, {self.automaton.units})")
        frames = np.array(log_probs, dtype=np.float64)
        frames[:, 0] -= self.config.blank_penalty
        for frame in frames:
            self._advance(state, frame)
        return state

    def nbest(
        self,
        state: GraphState,
        n: int | None = None,
        final: bool = True,
        bonus: Mapping[str, float] | None = None,
    ) -> list[GraphHypothesis]:
        """At most ``n`` hypotheses, best first, no two of the same intent and slot values.

        ``bonus`` is added by intent name. With ``final`` False incomplete live hypotheses compete too (meaning None).
        """
        n = self.config.nbest if n is None else n
        found = sorted(endings(self._tables, state, bonus or {}, partial=not final), key=lambda e: -e.score)
        chosen: list[Ending] = []
        seen: set[tuple[str | None, int]] = set()
        for ending in found:
            if len(chosen) == n:
                break
            if ending.identity not in seen:
                seen.add(ending.identity)
                chosen.append(ending)
        return [trace(self._tables, state, ending) for ending in chosen]

    def intent_scores(self, state: GraphState) -> dict[str, float]:
        """The best complete hypothesis of every intent that has one: its score with the meaning's weight."""
        best: dict[str, float] = {}
        for ending in endings(self._tables, state, {}, partial=False):
            intent = ending.identity[0]
            assert intent is not None
            best[intent] = max(best.get(intent, _NEVER), ending.score)
        return best

    def stable(self, state: GraphState) -> tuple[int, ...]:
        """Tokens that every live hypothesis begins with; only ever grows."""
        frontier = state.frontier
        last = state.history.common(_live_hists(frontier, frontier.best() > _NEVER))
        if last >= 0:
            tokens = tuple(int(token) for token in state.history.trace(last)[0][0])
            if len(tokens) > len(state.stable):
                state.stable = tokens
        return state.stable

    def margin(self, state: GraphState, final: bool = True) -> float:
        """Best complete (or, with ``final`` False, best live) in-grammar score minus the filler's, per non-blank frame.

        Meaning weights do not count. Minus infinity where nothing is complete; 0 before any frame of a live stream.
        """
        found = endings(self._tables, state, {}, partial=not final)
        best = max((ending.acoustic for ending in found), default=_NEVER)
        if best == _NEVER:
            return _NEVER
        return (best - state.filler.best) / max(1, state.nonblank)

    def can_extend(self, state: GraphState) -> bool:
        """Whether the best complete hypothesis also begins a longer sentence; True where none is complete."""
        found = endings(self._tables, state, {}, partial=False)
        if not found:
            return True
        return can_grow(self._tables, state, max(found, key=lambda e: e.score).hist)

    def _advance(self, state: GraphState, frame: Doubles) -> None:
        config, frontier = self.config, state.frontier
        self._filler.step(state.filler, frame)
        state.nonblank += int(frame.argmax() != 0)
        best = frontier.best()
        quiet: float | Doubles = frame[0]
        if self._pauses.size:
            paused = float(frame[self._pauses].max()) - config.pause_penalty - config.blank_penalty
            quiet = np.where(self._tables.between[frontier.node], max(frame[0], paused), frame[0])
        held = Frontier(
            node=frontier.node,
            call=frontier.call,
            count=frontier.count,
            values=frontier.values,
            tok=frontier.tok + frame[self._tables.heard[frontier.node]],
            blk=best + quiet,
            tok_hist=frontier.tok_hist,
            blk_hist=frontier.hist(),
        )
        threshold = (float(held.best().max()) if best.size else _NEVER) - config.beam
        rows = np.flatnonzero(best + frame[1:].max() >= threshold)
        entries = self._expand(frontier, rows, frame, threshold)
        if entries.score.size:
            threshold = max(threshold, float(entries.score.max()) - config.beam)
        kept = held.best()
        kept_rows = np.flatnonzero((kept >= threshold) & (kept > _NEVER))
        entries = self._limit(entries, threshold)
        merged = merge(self._tables, held.take(kept_rows), entries, by_count=config.open_counts)
        state.frontier = self._commit(state, self._survive(merged), entries, frame)
        state.frame += 1
        if config.commit_beam is not None and state.frame % _COMMIT_FRAMES == 0:
            self._drop_rivals(state, config.commit_beam)
        self._collect(state)

    def _limit(self, entries: Entries, threshold: float) -> Entries:
        """Drop candidates under the beam, and the weakest of far too many, before they are sorted."""
        good = np.flatnonzero(entries.score >= threshold)
        limit = self.config.max_active
        if limit is not None and good.size > 2 * limit:
            good = np.sort(good[np.argpartition(-entries.score[good], 2 * limit - 1)[: 2 * limit]])
        return entries.take(good)

    def _survive(self, merged: Merged) -> Merged:
        """Apply ``histories`` per position, then ``max_active``."""
        config = self.config
        score = merged.frontier.best()
        rows = np.arange(score.size)
        if config.histories is not None and rows.size:
            fresh = np.ones(rows.size, dtype=bool)
            fresh[1:] = merged.key[1:] != merged.key[:-1]
            begin = np.flatnonzero(fresh)
            counts = np.diff(np.append(begin, rows.size))
            if int(counts.max()) > config.histories:
                order = np.lexsort((-score, merged.key))
                rank = rows - np.repeat(begin, counts)
                rows = np.sort(order[rank < config.histories])
        if config.max_active is not None and rows.size > config.max_active:
            rows = np.sort(rows[np.argpartition(-score[rows], config.max_active - 1)[: config.max_active]])
        if rows.size == score.size:
            return merged
        return Merged(frontier=merged.frontier.take(rows), key=merged.key[rows], entry=merged.entry[rows])

    def _commit(self, state: GraphState, merged: Merged, entries: Entries, frame: Doubles) -> Frontier:
        """Write the history of what survived; the frontier then points to it."""
        before, frontier, history = state.frontier, merged.frontier, state.history
        token, heard = self._tables.token[frontier.node], self._tables.heard[frontier.node]
        holding = np.flatnonzero((merged.entry < 0) & (frontier.tok_hist >= 0) & (frontier.tok > _NEVER))
        history.raise_peak(frontier.tok_hist[holding], frame[heard[holding]])
        new = np.flatnonzero(merged.entry >= 0)
        entry = merged.entry[new]
        source = entries.source[entry]
        needs_blank = heard[new] == self._tables.heard[before.node[source]]
        parent = np.where(needs_blank, before.blk_hist[source], before.hist()[source])
        frontier.tok_hist[new] = history.append(
            parent, token[new], frontier.call[new], entries.left[entry], frame[heard[new]], state.frame
        )
        return frontier

    def _drop_rivals(self, state: GraphState, beam: float) -> None:
        frontier = state.frontier
        best = frontier.best()
        if not best.size:
            return
        ancestor = state.history.common(_live_hists(frontier, best >= best.max() - beam))
        if ancestor < 0:
            return
        frontier.tok[~state.history.descends(frontier.tok_hist, ancestor)] = _NEVER
        frontier.blk[~state.history.descends(frontier.blk_hist, ancestor)] = _NEVER
        alive = frontier.best() > _NEVER
        if not alive.all():
            state.frontier = frontier.take(alive)

    def _collect(self, state: GraphState) -> None:
        frontier = state.frontier
        frontier.tok_hist, frontier.blk_hist = state.history.collect([frontier.tok_hist, frontier.blk_hist])


def _live_hists(frontier: Frontier, rows: NDArray[np.bool_]) -> Longs:
    tok = rows & (frontier.tok > _NEVER)
    blk = rows & (frontier.blk > _NEVER)
    return np.concatenate([frontier.tok_hist[tok], frontier.blk_hist[blk]])
