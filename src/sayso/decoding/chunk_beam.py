"""Beam search of a chunk decoder (Zeineldeen et al. 2024), alignment-synchronous: hypotheses with equally many symbols,
labels and ends of chunks, compete.

A hypothesis hears one chunk of frames until it writes the chunk's end. A step waits until the hypothesis that is
furthest has its chunk, so nothing depends on how the frames came, and no hypothesis hears what comes after its chunk.
Hypotheses with equal labels stand in the same chunk then and become one: their probabilities add up, and the likelier
one's state is kept, which is exact where the decoder's opinion does not depend on when chunks ended.

Shape letters: ``T`` frames, ``D`` encoder width, ``V`` tokens, ``n`` hypotheses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
from pydantic import Field

from sayso.core.config import Config
from sayso.decoding.beam import (
    COMMIT_EVERY,
    Alive,
    Doubles,
    Longs,
    Mark,
    Prefix,
    Prefixes,
    Scorers,
    alive,
    release,
    survivors,
    totals,
)
from sayso.decoding.predictor import Floats
from sayso.decoding.speller import Memory, Speller, SpellerBeam, State, joined, log_softmax, stacked, tail


class ChunkBeamConfig(Config):
    """Search settings; scores are natural logs. None or inf: no limit. The frames are the decoder's."""

    kind: Literal["chunk"] = "chunk"
    chunk_frames: int = Field(default=8, ge=1)
    left_frames: int = Field(default=0, ge=0)
    beam: int | None = Field(default=4, ge=1)  # hypotheses that survive a step
    margin: float = Field(default=16.0, gt=0)  # a hypothesis worse than the best by more is dropped
    top_k: int | None = Field(default=16, ge=1)  # labels that a hypothesis goes on with
    max_symbols: int = Field(default=24, ge=1)  # labels in a chunk, on average so far
    commit_chunks: int | None = Field(default=8, ge=1)  # what the best reading heard before that is settled
    nbest: int = Field(default=4, ge=1)

    def build(self, speller: Speller, end: int, scorers: Scorers | None = None) -> ChunkBeam:
        """A search in which ``end`` ends a chunk, with weighted ``scorers`` by name."""
        return ChunkBeam(self, speller, end, scorers)


class _Live(NamedTuple):
    """One hypothesis: its labels, their score and their places, the last symbol and the decoder's state before it, the
    chunk that it hears and how many labels it wrote there."""

    prefix: Prefix
    score: float
    mark: Mark | None
    symbol: int
    state: State
    chunk: int
    labels: int


@dataclass(kw_only=True)
class ChunkState:
    """One stream: hypotheses, frames (D,) that make no whole chunk yet, chunks from number ``first`` on that some
    hypothesis still needs."""

    prefixes: Prefixes
    live: list[_Live]
    waiting: list[Floats] = field(default_factory=list)
    chunks: list[Memory] = field(default_factory=list)
    first: int = 0
    history: Memory | None = None  # the frames on the left of the next chunk
    frames: int = 0  # so far
    settled: int = 0  # chunks up to which readings were compared

    @property
    def count(self) -> int:
        """Chunks so far."""
        return self.first + len(self.chunks)


class ChunkBeam(SpellerBeam[ChunkState]):
    """Searches encoder frames; holds no stream."""

    def __init__(self, config: ChunkBeamConfig, speller: Speller, end: int, scorers: Scorers | None = None) -> None:
        super().__init__(speller, end, scorers, config.nbest)
        self.config = config

    def start(self, context: Mapping[str, Any] | None = None) -> ChunkState:
        """A stream before any frame; ``context`` goes to the scorers."""
        root = self._fusion.root(context)
        live = _Live(root, 0.0, None, 0, self._speller.start(), 0, 0)
        return ChunkState(prefixes=Prefixes(root), live=[live])

    def step(self, state: ChunkState, encoded: Floats) -> ChunkState:
        """Advance in place over (T, D) encoder frames and return ``state``."""
        for frame in encoded:
            state.waiting.append(np.array(frame))
            state.frames += 1
            if len(state.waiting) == self.config.chunk_frames:
                self._hear(state)
        return state

    def _ended(self, state: ChunkState) -> Alive:
        """What is left of the frames is the last chunk."""
        chunks, count = list(state.chunks), state.count
        if state.waiting:
            chunks.append(self._chunk(state))
            count += 1
        done: list[_Live] = []
        live = state.live
        while live:
            done += [h for h in live if h.chunk == count]
            live = [h for h in live if h.chunk < count]
            if done and live:
                floor = self._floor(totals(done))
                live = [h for h, total in zip(live, totals(live), strict=True) if total > floor]
            if live:
                live = self._forward(state, live, chunks)
        return alive(_merged(done))

    def _hear(self, state: ChunkState) -> None:
        """One more chunk."""
        state.chunks.append(self._chunk(state))
        state.waiting = []
        if self.config.left_frames:
            state.history = tail(state.chunks[-1], self.config.left_frames)
        while max(h.chunk for h in state.live) < state.count:
            before = state.live
            state.live = self._forward(state, before, state.chunks)
            release([h.prefix for h in before], [h.prefix for h in state.live])
        self._settle(state)
        needed = min(h.chunk for h in state.live)
        del state.chunks[: needed - state.first]
        state.first = needed

    def _chunk(self, state: ChunkState) -> Memory:
        """What is kept of the frames that wait, behind their history."""
        heard = self._speller.remember(np.stack(state.waiting))
        if not self.config.left_frames or state.history is None:
            return heard
        return joined([state.history, heard])

    def _forward(self, state: ChunkState, live: Sequence[_Live], chunks: Sequence[Memory]) -> list[_Live]:
        """Every hypothesis writes one more symbol."""
        c = self.config
        memory = stacked([chunks[h.chunk - state.first] for h in live])
        symbols = np.array([h.symbol for h in live], dtype=np.int64)
        logits, after = self._speller.write(symbols, [h.state for h in live], memory)
        log_probs = log_softmax(logits)
        moved = [
            h._replace(score=h.score + said, symbol=self._end, state=following, chunk=h.chunk + 1, labels=0)
            for h, said, following in zip(live, log_probs[:, self._end].tolist(), after, strict=True)
        ]
        rows, tokens = self._considered(live, log_probs)
        scores = np.array([h.score for h in live])[rows] + log_probs[rows, tokens]
        ranked = np.concatenate([totals(moved), scores + self._fusion.extended([h.prefix for h in live], rows, tokens)])
        # as many as can matter once those with equal labels, two at most, are one
        kept = survivors(ranked, None if c.beam is None else 2 * c.beam, c.margin)
        found = [moved[row] for row in kept[kept < len(moved)].tolist()]
        for place in (kept[kept >= len(moved)] - len(moved)).tolist():
            row, token = int(rows[place]), int(tokens[place])
            h = live[row]
            child = state.prefixes.child(h.prefix, token)
            self._fusion.fill(child)
            # attention in a chunk tells no times: labels stand one behind the other from its beginning
            first = h.chunk * c.chunk_frames
            at = first + min(h.labels, c.chunk_frames - 1, state.frames - first - 1)
            mark = Mark(h.mark, at, at + 1, float(log_probs[row, token]))
            found.append(_Live(child, float(scores[place]), mark, token, after[row], h.chunk, h.labels + 1))
        found = _merged(found)
        return [found[row] for row in survivors(totals(found), c.beam, c.margin).tolist()]

    def _considered(self, live: Sequence[_Live], log_probs: Doubles) -> tuple[Longs, Longs]:
        """Rows and labels worth scoring."""
        legal = np.zeros(log_probs.shape, dtype=np.bool_)
        open_ = [h.prefix.depth < self.config.max_symbols * (h.chunk + 1) for h in live]
        legal[:, 2 : self._end] = np.array(open_)[:, None]
        top_k = self.config.top_k
        if top_k is not None and top_k < self._end - 2:
            best = np.argsort(-log_probs[:, 2 : self._end], axis=1, kind="stable")[:, :top_k] + 2
            few = np.zeros_like(legal)
            np.put_along_axis(few, best, True, axis=1)
            legal &= few
        rows, tokens = np.nonzero(legal)
        return rows, tokens

    def _settle(self, state: ChunkState) -> None:
        """Once in a while the readings that differ from the best where it is old are dropped."""
        c = self.config
        if c.commit_chunks is None or state.count < state.settled + max(1, COMMIT_EVERY // c.chunk_frames):
            return
        state.settled = state.count
        self._commit(state, (state.count - c.commit_chunks) * c.chunk_frames)

    def _floor(self, ranked: Doubles) -> float:
        """Nothing below this can be among the best."""
        floor = float(ranked.max()) - self.config.margin
        beam = self.config.beam
        return max(floor, float(np.partition(ranked, -beam)[-beam])) if beam and len(ranked) >= beam else floor


def _merged(live: Sequence[_Live]) -> list[_Live]:
    """Hypotheses with equal labels as one."""
    found: dict[Prefix, _Live] = {}
    for h in live:
        other = found.get(h.prefix)
        if other is None:
            found[h.prefix] = h
        else:
            better = h if h.score > other.score else other
            found[h.prefix] = better._replace(score=float(np.logaddexp(h.score, other.score)))
    return list(found.values())
