"""Beam searches of the transducer (Graves 2012), each with exact prefix recombination: equal labels are one hypothesis
and their probabilities add up.

- ``tsd``, time-synchronous: every hypothesis spends a frame before any spends the next; within a frame it may emit.
- ``alsd``, alignment-length synchronous (Saon et al. 2020): hypotheses with equal frames + labels compete, so that one
  step costs one joiner run and long labels do not cost more runs than short ones.
- ``modified``, one symbol a frame: every symbol, blank or label, takes one frame. A lattice of its own, the one that
  k2 calls modified; beam 1 is the greedy search with one symbol a frame.

Without limits the first two give each label sequence its forward probability over the whole lattice (within the guard
on symbols), the third that of its own. What a prediction network says hangs on the prefix, so a recurrent one costs a
search nothing but its runs.

Shape letters: ``T`` frames, ``V`` tokens, ``D`` encoder width, ``n`` hypotheses, ``m`` candidates.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from sayso.core.config import Config
from sayso.decoding.beam import (
    Alive,
    BeamSearch,
    Doubles,
    Longs,
    Mark,
    Prefix,
    Prefixes,
    Scorers,
    families,
    release,
    survivors,
)
from sayso.decoding.predictor import Floats, Join, Predictor

Bools = NDArray[np.bool_]
Entries = tuple[Longs, Longs, Doubles]  # rows of a frontier, labels to add, own scores then; (m,) each


class _BeamConfig(Config):
    beam: int | None = Field(default=4, ge=1)  # hypotheses that survive a step; None: all
    margin: float = Field(default=16.0, gt=0)  # one worse than the best by more is dropped; inf: none
    top_k: int | None = Field(default=16, ge=1)  # labels of a hypothesis that scorers see; None: all
    commit_frames: int | None = Field(default=64, ge=1)  # what the best reading heard before that is settled
    nbest: int = Field(default=4, ge=1)


class TsdConfig(_BeamConfig):
    """Time-synchronous; at most ``max_symbols`` labels per frame."""

    kind: Literal["tsd"] = "tsd"
    max_symbols: int = Field(default=3, ge=1)

    def build(self, predictor: Predictor, join: Join, scorers: Scorers | None = None) -> TimeSynchronous:
        """A search with weighted ``scorers`` by name."""
        return TimeSynchronous(self, predictor, join, scorers)


class AlsdConfig(_BeamConfig):
    """Alignment-length synchronous; at most ``max_symbols`` labels per frame heard so far, on average."""

    kind: Literal["alsd"] = "alsd"
    max_symbols: int = Field(default=3, ge=1)

    def build(self, predictor: Predictor, join: Join, scorers: Scorers | None = None) -> AlignmentSynchronous:
        """A search with weighted ``scorers`` by name."""
        return AlignmentSynchronous(self, predictor, join, scorers)


class ModifiedConfig(_BeamConfig):
    """One symbol a frame, blank or label."""

    kind: Literal["modified"] = "modified"

    def build(self, predictor: Predictor, join: Join, scorers: Scorers | None = None) -> Modified:
        """A search with weighted ``scorers`` by name."""
        return Modified(self, predictor, join, scorers)


@dataclass(frozen=True, kw_only=True)
class Frontier:
    """Live hypotheses: log probability of all their paths, that of the best one, and its tokens in time."""

    prefixes: tuple[Prefix, ...]
    score: Doubles  # (n,)
    best: Doubles  # (n,)
    marks: tuple[Mark | None, ...]

    @property
    def alive(self) -> Alive:
        """As the base of all searches sees it."""
        return Alive(self.prefixes, self.score, self.marks)

    def take(self, rows: Longs) -> Frontier:
        """Some rows."""
        index = rows.tolist()
        return Frontier(
            prefixes=tuple(self.prefixes[i] for i in index),
            score=self.score[rows],
            best=self.best[rows],
            marks=tuple(self.marks[i] for i in index),
        )


@dataclass(kw_only=True)
class TransducerState:
    """One stream. ``waiting`` are frames (D,) that a hypothesis has still to spend, the first of them ``spent``."""

    prefixes: Prefixes
    live: Frontier
    frame: int = 0  # frames taken
    step: int = 0  # alsd: frames + labels of every live hypothesis
    spent: int = 0
    waiting: list[Floats] = field(default_factory=list)


class TransducerBeam(BeamSearch[TransducerState]):
    """Searches encoder frames with blank 0; holds no stream."""

    def __init__(self, config: _BeamConfig, predictor: Predictor, join: Join, scorers: Scorers | None = None) -> None:
        super().__init__("transducer", scorers, config.nbest)
        self._limits, self._predictor, self._join = config, predictor, join

    def start(self, context: Mapping[str, Any] | None = None) -> TransducerState:
        """A stream before any frame; ``context`` goes to the scorers."""
        root = self._fusion.root(context)
        root.predicted = self._predictor.start()
        live = Frontier(prefixes=(root,), score=np.zeros(1), best=np.zeros(1), marks=(None,))
        return TransducerState(prefixes=Prefixes(root), live=live)

    def step(self, state: TransducerState, encoded: Floats) -> TransducerState:
        """Advance in place over (T, D) encoder frames and return ``state``."""
        for frame in encoded:
            self._hear(state, frame)
            state.frame += 1
            self._settle_old(state, state.frame, self._limits.commit_frames)
        return state

    def _alive(self, state: TransducerState) -> Alive:
        return state.live.alive

    def _keep(self, state: TransducerState, rows: Longs) -> None:
        state.live = state.live.take(rows)

    @abstractmethod
    def _hear(self, state: TransducerState, frame: Floats) -> None:
        """Advance over one frame (D,)."""

    def _log_probs(self, frames: Floats, prefixes: Sequence[Prefix]) -> Doubles:
        """(n, V) log posteriors of frames (n, D)."""
        predicted = [prefix.predicted for prefix in prefixes]
        out = np.concatenate([item.out for item in predicted if item is not None])
        assert len(out) == len(prefixes), "a prefix that was released"
        logits = np.asarray(self._join(frames, out), dtype=np.float64)
        logits = logits - logits.max(axis=1, keepdims=True)
        return np.asarray(logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)))

    def _labels(self, live: Frontier, log_probs: Doubles, floor: float) -> Entries:
        """Candidates: what can matter, possible ones above ``floor`` only."""
        scores = live.score[:, None] + log_probs[:, 1:]
        if self._fusion:
            top_k = self._limits.top_k
            if top_k is not None and top_k < scores.shape[1]:
                least = np.partition(log_probs[:, 1:], -top_k, axis=1)[:, -top_k, None]
                scores = np.where(log_probs[:, 1:] >= least, scores, -np.inf)
            floor = -np.inf
        rows, columns = np.nonzero(scores > floor)
        return rows, columns + 1, scores[rows, columns]

    def _grow(
        self, state: TransducerState, live: Frontier, entries: Entries, log_probs: Doubles, at: Longs
    ) -> Frontier:
        """Hypotheses of ``entries``, whose labels were heard in frames ``at[row]``."""
        rows, labels, scores = entries
        heard = log_probs[rows, labels]
        children, marks = [], []
        for row, label, value in zip(rows.tolist(), labels.tolist(), heard.tolist(), strict=True):
            child = state.prefixes.child(live.prefixes[row], label)
            self._fusion.fill(child)
            children.append(child)
            marks.append(Mark(live.marks[row], int(at[row]), int(at[row]) + 1, value))
        silent = [(child, child.parent.predicted) for child in children if child.predicted is None and child.parent]
        before = [predicted for _, predicted in silent if predicted is not None]
        found = self._predictor.extend(before, [child.token for child, _ in silent])
        for (child, _), predicted in zip(silent, found, strict=True):
            child.predicted = predicted
        return Frontier(prefixes=tuple(children), score=scores, best=live.best[rows] + heard, marks=tuple(marks))

    def _advance(
        self, state: TransducerState, live: Frontier, log_probs: Doubles, at: Longs, may: Bools | None = None
    ) -> Frontier:
        """Every hypothesis takes one symbol, blank or (where it ``may``) a label; those with equal labels meet."""
        held, used = _blank_or_meet(live, log_probs, at, may)
        ranked = held.score + self._fusion.totals(held.prefixes)
        rows, labels, scores = self._labels(live, log_probs, self._floor(ranked))
        open_ = ~used[rows, labels] if may is None else ~used[rows, labels] & may[rows]
        rows, labels, scores = rows[open_], labels[open_], scores[open_]
        ranked = np.concatenate([ranked, scores + self._fusion.extended(live.prefixes, rows, labels)])
        kept = survivors(ranked, self._limits.beam, self._limits.margin)
        n = len(live.prefixes)
        stay, fresh = kept[kept < n], kept[kept >= n] - n
        if not len(fresh):
            return held.take(stay)
        grown = self._grow(state, live, (rows[fresh], labels[fresh], scores[fresh]), log_probs, at)
        return _joined(held.take(stay), grown)

    def _floor(self, ranked: Doubles) -> float:
        """No candidate at or below this can survive beside those ranked already (where no scorer adds to it)."""
        floor = float(ranked.max(initial=-np.inf)) - self._limits.margin
        beam = self._limits.beam
        if beam is not None and len(ranked) >= beam:
            floor = max(floor, float(np.partition(ranked, -beam)[-beam]))
        return floor


class Modified(TransducerBeam):
    """One symbol a frame."""

    def _hear(self, state: TransducerState, frame: Floats) -> None:
        live = state.live
        n = len(live.prefixes)
        log_probs = self._log_probs(np.repeat(frame[None], n, axis=0), live.prefixes)
        state.live = self._advance(state, live, log_probs, np.full(n, state.frame))
        release(live.prefixes, state.live.prefixes)


class TimeSynchronous(TransducerBeam):
    """All hypotheses spend a frame together."""

    def __init__(self, config: TsdConfig, predictor: Predictor, join: Join, scorers: Scorers | None = None) -> None:
        super().__init__(config, predictor, join, scorers)
        self._max_symbols = config.max_symbols

    def _hear(self, state: TransducerState, frame: Floats) -> None:
        active, touched = state.live, list(state.live.prefixes)
        done: Frontier | None = None
        for emitted in range(self._max_symbols + 1):
            n = len(active.prefixes)
            log_probs = self._log_probs(np.repeat(frame[None], n, axis=0), active.prefixes)
            blank = log_probs[:, 0]
            spent = Frontier(
                prefixes=active.prefixes, score=active.score + blank, best=active.best + blank, marks=active.marks
            )
            done = spent if done is None else _recombined(done, spent)
            if emitted == self._max_symbols:
                break
            ranked = done.score + self._fusion.totals(done.prefixes)
            rows, labels, scores = self._labels(active, log_probs, self._floor(ranked))
            totals = scores + self._fusion.extended(active.prefixes, rows, labels)
            kept = survivors(totals, self._limits.beam, self._limits.margin)
            kept = kept[totals[kept] > self._floor(ranked)]
            if not len(kept):
                break
            entries = (rows[kept], labels[kept], scores[kept])
            active = self._grow(state, active, entries, log_probs, np.full(n, state.frame))
            touched += active.prefixes
        assert done is not None
        totals = done.score + self._fusion.totals(done.prefixes)
        state.live = done.take(survivors(totals, self._limits.beam, self._limits.margin))
        release(touched, state.live.prefixes)


class AlignmentSynchronous(TransducerBeam):
    """Hypotheses with equal frames + labels compete; a step waits until the one with the fewest labels has a frame."""

    def __init__(self, config: AlsdConfig, predictor: Predictor, join: Join, scorers: Scorers | None = None) -> None:
        super().__init__(config, predictor, join, scorers)
        self._max_symbols = config.max_symbols

    def _hear(self, state: TransducerState, frame: Floats) -> None:
        state.waiting.append(np.array(frame))
        while len(state.live.prefixes) and self._at(state.live, state.step).max() <= state.frame:
            live = state.live
            state.live = self._forward(state, live, state.step)
            release(live.prefixes, state.live.prefixes)
            state.step += 1
        first = int(self._at(state.live, state.step).min())
        del state.waiting[: first - state.spent]
        state.spent = first

    def _ended(self, state: TransducerState) -> Alive:
        """Hypotheses that have spent all frames; the others spend theirs here, on the side."""
        live, step = state.live, state.step
        done: Frontier | None = None
        while len(live.prefixes):
            at = self._at(live, step)
            ended = live.take(np.flatnonzero(at == state.frame))
            done = ended if done is None else _joined(done, ended)
            live = live.take(np.flatnonzero(at < state.frame))
            if len(done.prefixes) and len(live.prefixes):
                ranked = done.score + self._fusion.totals(done.prefixes)
                totals = live.score + self._fusion.totals(live.prefixes)
                live = live.take(np.flatnonzero(totals > self._floor(ranked)))
            if len(live.prefixes):
                live, step = self._forward(state, live, step), step + 1
        assert done is not None
        return done.alive

    def _forward(self, state: TransducerState, live: Frontier, step: int) -> Frontier:
        at = self._at(live, step)
        log_probs = self._log_probs(np.stack([state.waiting[i] for i in (at - state.spent).tolist()]), live.prefixes)
        labels = step - at
        return self._advance(state, live, log_probs, at, labels < self._max_symbols * (at + 1))

    def _at(self, live: Frontier, step: int) -> Longs:
        """(n,) the frame that each hypothesis spends next."""
        return np.array([step - prefix.depth for prefix in live.prefixes], dtype=np.int64)


def _blank_or_meet(live: Frontier, log_probs: Doubles, at: Longs, may: Bools | None) -> tuple[Frontier, Bools]:
    """``live`` after a blank each, met by parents that emitted; and which labels (n, V) were used up by that."""
    score, best, marks = live.score + log_probs[:, 0], live.best + log_probs[:, 0], list(live.marks)
    used = np.zeros(log_probs.shape, dtype=bool)
    for child, parent in zip(*(rows.tolist() for rows in families(live.prefixes)), strict=True):
        if may is None or may[parent]:
            token = live.prefixes[child].token
            used[parent, token] = True
            heard = float(log_probs[parent, token])
            score[child] = np.logaddexp(score[child], live.score[parent] + heard)
            if live.best[parent] + heard > best[child]:
                best[child] = live.best[parent] + heard
                marks[child] = Mark(live.marks[parent], int(at[parent]), int(at[parent]) + 1, heard)
    return Frontier(prefixes=live.prefixes, score=score, best=best, marks=tuple(marks)), used


def _joined(first: Frontier, second: Frontier) -> Frontier:
    """Both, which have no labels in common."""
    return Frontier(
        prefixes=first.prefixes + second.prefixes,
        score=np.concatenate([first.score, second.score]),
        best=np.concatenate([first.best, second.best]),
        marks=first.marks + second.marks,
    )


def _recombined(first: Frontier, second: Frontier) -> Frontier:
    """Both; those with equal labels become one, their probabilities added."""
    rows = {prefix: row for row, prefix in enumerate(first.prefixes)}
    score, best, marks = first.score.copy(), first.best.copy(), list(first.marks)
    fresh = []
    for row, prefix in enumerate(second.prefixes):
        place = rows.get(prefix)
        if place is None:
            fresh.append(row)
            continue
        score[place] = np.logaddexp(score[place], second.score[row])
        if second.best[row] > best[place]:
            best[place], marks[place] = second.best[row], second.marks[row]
    merged = Frontier(prefixes=first.prefixes, score=score, best=best, marks=tuple(marks))
    return _joined(merged, second.take(np.array(fresh, dtype=np.int64))) if fresh else merged


TRANSDUCER_BEAMS = {"tsd": TsdConfig, "alsd": AlsdConfig, "modified": ModifiedConfig}
