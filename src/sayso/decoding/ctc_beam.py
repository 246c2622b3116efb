"""CTC prefix beam search: the most probable labels, not the most probable path (Graves and Jaitly 2014, Hannun et al.
2014).

Every prefix carries the probability of all paths that collapse to it, apart by whether they end in blank, and equal
prefixes are one; so an unlimited beam is the enumeration of all labels. Beside the sum goes the best path, which says
when each token was heard. Scorers see labels alone and are added once per label, whatever the path.

Shape letters: ``T`` frames, ``V`` tokens, ``n`` prefixes, ``k`` tokens that a frame considers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
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
from sayso.decoding.predictor import Floats


class CtcBeamConfig(Config):
    """Search settings; scores are natural logs. None or inf: no limit."""

    kind: Literal["ctc_beam"] = "ctc_beam"
    beam: int | None = Field(default=4, ge=1)  # prefixes that survive a frame
    margin: float = Field(default=16.0, gt=0)  # a prefix worse than the best by more is dropped
    top_k: int | None = Field(default=16, ge=1)  # tokens that a frame considers
    token_margin: float = Field(default=8.0, gt=0)  # a token less likely than the frame's best by more is not one
    commit_frames: int | None = Field(default=64, ge=1)  # what the best reading heard before that is settled
    nbest: int = Field(default=4, ge=1)

    def build(self, scorers: Scorers | None = None) -> CtcBeam:
        """A search with weighted ``scorers`` by name."""
        return CtcBeam(self, scorers)

    @staticmethod
    def exact(nbest: int = 4) -> CtcBeamConfig:
        """No pruning of any kind: the cost grows with the number of possible labels."""
        return CtcBeamConfig(beam=None, margin=np.inf, top_k=None, token_margin=np.inf, commit_frames=None, nbest=nbest)


@dataclass(kw_only=True)
class CtcBeamState:
    """One stream; rows are live prefixes. Sums and best paths, each ending in blank or in the prefix's last label."""

    prefixes: Prefixes
    live: list[Prefix]
    blank: Doubles
    label: Doubles
    best_blank: Doubles
    best_label: Doubles
    mark_blank: list[Mark | None]
    mark_label: list[Mark | None]
    last: Longs
    children: Longs = field(default_factory=lambda: np.zeros(0, dtype=np.int64))  # rows whose parent is live
    parents: Longs = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    frame: int = 0


class CtcBeam(BeamSearch[CtcBeamState]):
    """Searches log posteriors with blank 0; holds no stream."""

    def __init__(self, config: CtcBeamConfig | None = None, scorers: Scorers | None = None) -> None:
        self.config = config or CtcBeamConfig()
        super().__init__("ctc", scorers, self.config.nbest)

    def start(self, context: Mapping[str, Any] | None = None, *, after: int = 0) -> CtcBeamState:
        """A stream before any frame; ``context`` goes to the scorers. ``after`` is a label that was being heard just
        before, of which more is no new one unless a blank lies between; 0 for none."""
        root = self._fusion.root(context)
        root.token = after
        zero, none = np.zeros(1), np.full(1, -np.inf)
        blank, label = (none, zero) if after else (zero, none)
        return CtcBeamState(
            prefixes=Prefixes(root),
            live=[root],
            blank=blank,
            label=label,
            best_blank=blank,
            best_label=label,
            mark_blank=[None],
            mark_label=[None],
            last=np.full(1, after, dtype=np.int64),
        )

    def step(self, state: CtcBeamState, log_probs: Floats) -> CtcBeamState:
        """Advance in place over (T, V) log posteriors and return ``state``."""
        for frame in np.asarray(log_probs, dtype=np.float64):
            self._advance(state, frame)
            state.frame += 1
            self._settle_old(state, state.frame, self.config.commit_frames)
        return state

    def _alive(self, state: CtcBeamState) -> Alive:
        return Alive(state.live, np.logaddexp(state.blank, state.label), _marks(state))

    def _considered(self, frame: Doubles) -> Longs:
        """Tokens (k,) that may be new in this frame, rising."""
        labels = frame[1:]
        good = np.flatnonzero(labels >= frame.max() - self.config.token_margin) + 1
        if self.config.token_margin == np.inf:
            good = np.flatnonzero(labels > -np.inf) + 1
        top_k = self.config.top_k
        if top_k is not None and len(good) > top_k:
            good = np.sort(good[np.argsort(-frame[good], kind="stable")[:top_k]])
        return good

    def _advance(self, state: CtcBeamState, frame: Doubles) -> None:
        total, best = np.logaddexp(state.blank, state.label), np.maximum(state.best_blank, state.best_label)
        moved = _stay(state, frame, total, best)
        tokens = self._considered(frame)
        if not len(tokens):
            self._settle(state, moved, np.logaddexp(moved.blank, moved.label) + self._fusion.totals(state.live))
            return
        twice = state.last[:, None] == tokens[None]  # a token may follow itself after a blank only
        scores = np.where(twice, state.blank[:, None], total[:, None]) + frame[tokens]
        place = np.searchsorted(tokens, state.last[state.children])
        inside = (place < len(tokens)) & (tokens[np.minimum(place, len(tokens) - 1)] == state.last[state.children])
        scores[state.parents[inside], place[inside]] = -np.inf  # went into the child that is there
        held = np.logaddexp(moved.blank, moved.label) + self._fusion.totals(state.live)
        rows, columns = self._promising(scores, held)
        added = scores[rows, columns]
        ranked = added + self._fusion.extended(state.live, rows, tokens[columns])
        self._settle(state, moved, np.concatenate([held, ranked]), (rows, tokens[columns], added), (frame, best))

    def _promising(self, scores: Doubles, held: Doubles) -> tuple[Longs, Longs]:
        """Rows and columns of ``scores`` (n, k) worth scoring; without scorers, only what can survive."""
        floor, beam = -np.inf, self.config.beam
        if not self._fusion:
            floor = float(held.max()) - self.config.margin
            if beam is not None and len(held) >= beam:
                floor = max(floor, float(np.partition(held, -beam)[-beam]))
        rows, columns = np.nonzero(scores > floor)
        return rows, columns

    def _settle(
        self,
        state: CtcBeamState,
        moved: _Moved,
        ranked: Doubles,
        entries: tuple[Longs, Longs, Doubles] | None = None,
        heard: tuple[Doubles, Doubles] | None = None,
    ) -> None:
        """Keep the best of what stayed (the first rows of ``ranked``) and of the new ``entries``."""
        n = len(state.live)
        kept = survivors(ranked, self.config.beam, self.config.margin)
        fresh = kept[kept >= n] - n
        children: list[Prefix] = []
        if entries is not None and heard is not None and len(fresh):
            moved, children = self._add(state, moved, tuple(part[fresh].tolist() for part in entries), heard)
        _take(state, moved, children, np.concatenate([kept[kept < n], np.arange(n, n + len(fresh))]))

    def _add(
        self, state: CtcBeamState, moved: _Moved, entries: tuple[list[Any], ...], heard: tuple[Doubles, Doubles]
    ) -> tuple[_Moved, list[Prefix]]:
        """``moved`` with new prefixes (rows of the live ones, tokens, scores) at the end."""
        children: list[Prefix] = []
        best: list[float] = []
        marks: list[Mark | None] = []
        for row, token in zip(entries[0], entries[1], strict=True):
            child = state.prefixes.child(state.live[row], token)
            self._fusion.fill(child)
            value, mark = _entered(state, *heard, row, token)
            children.append(child)
            best.append(value)
            marks.append(mark)
        none = np.full(len(children), -np.inf)
        added = _Moved(
            blank=np.concatenate([moved.blank, none]),
            label=np.concatenate([moved.label, entries[2]]),
            best_blank=np.concatenate([moved.best_blank, none]),
            best_label=np.concatenate([moved.best_label, best]),
            mark_blank=moved.mark_blank + [None] * len(children),
            mark_label=moved.mark_label + marks,
        )
        return added, children

    def _keep(self, state: CtcBeamState, rows: Longs) -> None:
        same = _Moved(
            blank=state.blank,
            label=state.label,
            best_blank=state.best_blank,
            best_label=state.best_label,
            mark_blank=state.mark_blank,
            mark_label=state.mark_label,
        )
        _take(state, same, [], rows)


@dataclass(kw_only=True)
class _Moved:
    """The live prefixes one frame later, before anything is dropped."""

    blank: Doubles
    label: Doubles
    best_blank: Doubles
    best_label: Doubles
    mark_blank: list[Mark | None]
    mark_label: list[Mark | None]


def _stay(state: CtcBeamState, frame: Doubles, total: Doubles, best: Doubles) -> _Moved:
    """Paths that keep their labels, and those that reach a live child from its live parent."""
    end, heard = state.frame + 1, frame[state.last]
    moved = _Moved(
        blank=total + frame[0],
        label=state.label + heard,
        best_blank=best + frame[0],
        best_label=state.best_label + heard,
        mark_blank=_marks(state),
        mark_label=[
            None if mark is None else Mark(mark.previous, mark.frame, end, max(mark.log_prob, value))
            for mark, value in zip(state.mark_label, heard.tolist(), strict=True)
        ],
    )
    for child, parent in zip(state.children.tolist(), state.parents.tolist(), strict=True):
        token = int(state.last[child])
        source = state.blank if state.last[parent] == token else total
        moved.label[child] = np.logaddexp(moved.label[child], source[parent] + frame[token])
        value, mark = _entered(state, frame, best, parent, token)
        if value > moved.best_label[child]:
            moved.best_label[child], moved.mark_label[child] = value, mark
    return moved


def _entered(state: CtcBeamState, frame: Doubles, best: Doubles, row: int, token: int) -> tuple[float, Mark]:
    """The best path into ``token`` from the prefix in ``row``."""
    by_blank = state.best_blank[row] >= state.best_label[row] or state.last[row] == token
    value = state.best_blank[row] if state.last[row] == token else best[row]
    previous = state.mark_blank[row] if by_blank else state.mark_label[row]
    return float(value + frame[token]), Mark(previous, state.frame, state.frame + 1, float(frame[token]))


def _marks(state: CtcBeamState) -> list[Mark | None]:
    """Where the best path of every prefix heard its tokens."""
    first = (state.best_blank >= state.best_label).tolist()
    return [a if early else b for a, b, early in zip(state.mark_blank, state.mark_label, first, strict=True)]


def _take(state: CtcBeamState, moved: _Moved, children: list[Prefix], kept: Longs) -> None:
    """Make ``kept`` rows of ``moved``, which are the live prefixes and then ``children``, the live ones."""
    if len(kept) == len(moved.blank) and not children:  # nobody came, nobody went
        state.blank, state.label = moved.blank, moved.label
        state.best_blank, state.best_label = moved.best_blank, moved.best_label
        state.mark_blank, state.mark_label = moved.mark_blank, moved.mark_label
        return
    rows, before, either = kept.tolist(), state.live, state.live + children
    state.live = [either[row] for row in rows]
    release(before, state.live)
    state.last = np.array([prefix.token for prefix in state.live], dtype=np.int64)
    state.children, state.parents = families(state.live)
    state.blank, state.label = moved.blank[kept], moved.label[kept]
    state.best_blank, state.best_label = moved.best_blank[kept], moved.best_label[kept]
    state.mark_blank = [moved.mark_blank[row] for row in rows]
    state.mark_label = [moved.mark_label[row] for row in rows]
