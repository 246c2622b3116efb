"""Beam search of monotonic chunkwise attention (Chiu and Raffel 2018), time-synchronous, in linear time.

At each frame every hypothesis says whether it chooses it. If not, it goes on to the next frame and never comes back; if
so, it writes a label from the chunk of frames that ends there, and may choose the same frame for another. So a frame is
taken from the encoder once, left once, and only as many frames as a chunk has are kept. Where a hypothesis would rather
end, nothing is to be said here yet: it listens on, at that price, and ends when the frames do.

Shape letters: ``T`` frames, ``D`` encoder width, ``W`` frames of a chunk, ``V`` tokens, ``n`` hypotheses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from sayso.core.config import Config
from sayso.decoding.beam import (
    Alive,
    Doubles,
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
from sayso.decoding.speller import Memory, Speller, SpellerBeam, State, joined, log_softmax, repeated, tail

AT = "at"  # the state that says from which frame on one may be chosen


class MochaBeamConfig(Config):
    """Search settings; scores are natural logs. None or inf: no limit. The frames of a chunk are the decoder's."""

    kind: Literal["mocha"] = "mocha"
    chunk_frames: int = Field(default=4, ge=1)
    beam: int | None = Field(default=4, ge=1)  # hypotheses that survive a frame
    margin: float = Field(default=16.0, gt=0)  # a hypothesis worse than the best by more is dropped
    top_k: int | None = Field(default=16, ge=1)  # labels that a hypothesis goes on with
    max_symbols: int = Field(default=3, ge=1)  # labels in a frame
    bonus: float = Field(default=0.0, allow_inf_nan=False)  # for every label: against answers that are too short
    commit_frames: int | None = Field(default=64, ge=1)  # what the best reading heard before that is settled
    nbest: int = Field(default=4, ge=1)

    def build(self, speller: Speller, end: int, scorers: Scorers | None = None) -> MochaBeam:
        """A search in which ``end`` ends the text, with weighted ``scorers`` by name."""
        return MochaBeam(self, speller, end, scorers)


class _Live(NamedTuple):
    """One hypothesis: its labels, their score and their places, and the decoder's state before the last of them."""

    prefix: Prefix
    score: float
    mark: Mark | None
    state: State


@dataclass(kw_only=True)
class MochaState:
    """One stream: hypotheses, and the last frames."""

    prefixes: Prefixes
    live: list[_Live]
    window: Memory | None = None
    frame: int = 0


class MochaBeam(SpellerBeam[MochaState]):
    """Searches encoder frames; holds no stream."""

    def __init__(self, config: MochaBeamConfig, speller: Speller, end: int, scorers: Scorers | None = None) -> None:
        super().__init__(speller, end, scorers, config.nbest)
        self.config = config

    def start(self, context: Mapping[str, Any] | None = None) -> MochaState:
        """A stream before any frame; ``context`` goes to the scorers."""
        root = self._fusion.root(context)
        return MochaState(prefixes=Prefixes(root), live=[_Live(root, 0.0, None, self._speller.start())])

    def step(self, state: MochaState, encoded: Floats) -> MochaState:
        """Advance in place over (T, D) encoder frames and return ``state``."""
        for frame in encoded:
            fresh = self._speller.remember(frame[None])
            window = fresh if state.window is None else joined([state.window, fresh])
            state.window = tail(window, self.config.chunk_frames)
            self._hear(state)
            state.frame += 1
            self._settle_old(state, state.frame, self.config.commit_frames)
        return state

    def _ended(self, state: MochaState) -> Alive:
        """With the decoder's own end; one that chose no frame hears nothing, as in training."""
        live = state.live
        if state.window is not None:
            log_probs, _, _ = self._written(live, state.window, self.config.chunk_frames)
            live = [h._replace(score=h.score + said) for h, said in zip(live, log_probs[:, self._end], strict=True)]
        return alive(live)

    def _hear(self, state: MochaState) -> None:
        """Advance over the last frame of the window."""
        c, touched = self.config, [h.prefix for h in state.live]
        active: list[_Live] = list(state.live)
        done: list[_Live] = []
        assert state.window is not None, "a frame is there"
        for symbols in range(c.max_symbols + 1):
            log_probs, after, chosen = self._written(active, state.window, c.chunk_frames - 1)
            may = symbols < c.max_symbols
            for h, ends, chose in zip(active, log_probs[:, self._end].tolist(), chosen.tolist(), strict=True):
                done.append(h._replace(score=h.score + ends) if chose and may else h)
            done = _merged(done)
            grown = self._grown(state, active, log_probs, after, chosen) if may else []
            # all compete, those that are through with the frame and those that are not
            kept = survivors(totals([*done, *grown]), c.beam, c.margin).tolist()
            active = [grown[row - len(done)] for row in kept if row >= len(done)]
            done = [done[row] for row in kept if row < len(done)]
            touched += [h.prefix for h in active]
            if not active:
                break
        state.live = done
        release(touched, [h.prefix for h in done])

    def _written(
        self, live: Sequence[_Live], window: Memory, at: int
    ) -> tuple[Doubles, list[State], NDArray[np.bool_]]:
        """Log probabilities (n, V), next states, and whether frame ``at`` of the window was chosen."""
        labels = np.array([h.prefix.token for h in live], dtype=np.int64)
        states = [{**h.state, AT: np.array([at], dtype=np.int64)} for h in live]
        logits, after = self._speller.write(labels, states, repeated(window, len(live)))
        chosen = np.array([int(state[AT][0]) == at for state in after])
        return log_softmax(logits), after, chosen

    def _grown(
        self,
        state: MochaState,
        live: Sequence[_Live],
        log_probs: Doubles,
        after: Sequence[State],
        chosen: NDArray[np.bool_],
    ) -> list[_Live]:
        """Hypotheses with one more label."""
        c, labels = self.config, log_probs[:, 2 : self._end]
        legal = np.repeat(chosen[:, None], labels.shape[1], axis=1)
        if c.top_k is not None and c.top_k < labels.shape[1]:
            np.put_along_axis(legal, np.argsort(-labels, axis=1, kind="stable")[:, c.top_k :], False, axis=1)
        rows, tokens = np.nonzero(legal)
        tokens = tokens + 2
        scores = np.array([h.score for h in live])[rows] + log_probs[rows, tokens] + c.bonus
        ranked = scores + self._fusion.extended([h.prefix for h in live], rows, tokens)
        found = []
        for place in survivors(ranked, c.beam, c.margin).tolist():
            row, token = int(rows[place]), int(tokens[place])
            child = state.prefixes.child(live[row].prefix, token)
            self._fusion.fill(child)
            mark = Mark(live[row].mark, state.frame, state.frame + 1, float(log_probs[row, token]))
            found.append(_Live(child, float(scores[place]), mark, after[row]))
        return found


def _merged(live: Sequence[_Live]) -> list[_Live]:
    """Of hypotheses with equal labels, which chose different frames, the likelier one."""
    found: dict[Prefix, _Live] = {}
    for h in live:
        other = found.get(h.prefix)
        if other is None or h.score > other.score:
            found[h.prefix] = h
    return list(found.values())
