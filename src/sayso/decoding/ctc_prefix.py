"""How well CTC posteriors agree with words that are written one token after the other: exact prefix scores (Graves
2008; as a scorer of an attention decoder Watanabe et al. 2017).

A prefix scores the log probability of all labelings that begin with it, an ended one that of exactly these labels; what
a token adds is the difference, so the sum over an ended sequence is its CTC likelihood. Tokens that CTC does not know
(labels of a semantic parser) are not heard and cost nothing.

Shape letters: ``T`` rows of posteriors, ``V`` tokens of CTC, ``n`` prefixes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sayso.decoding.beam import Doubles, Longs
from sayso.decoding.predictor import Floats


@dataclass(frozen=True)
class CtcPrefixState:
    """Log-sums (T+1,) over paths of t rows that say exactly the prefix, ending in its last label or in blank; and the
    prefix's score."""

    label: Doubles
    blank: Doubles
    last: int
    score: float


class CtcPrefixScorer:
    """A scorer over log posteriors (T, V) of one utterance, blank 0."""

    def __init__(self, log_probs: Floats) -> None:
        self._log_probs = np.asarray(log_probs, dtype=np.float64)
        if self._log_probs.ndim != 2:
            raise ValueError(f"log_probs {self._log_probs.shape} must be (T, V)")

    def start(self, context: Mapping[str, Any] | None = None) -> CtcPrefixState:
        """No label yet: everything begins so."""
        blank = np.concatenate([[0.0], np.cumsum(self._log_probs[:, 0])])
        return CtcPrefixState(label=np.full_like(blank, -np.inf), blank=blank, last=0, score=0.0)

    def score(
        self, states: Sequence[CtcPrefixState], tokens: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], list[CtcPrefixState]]:
        """Extend state ``i`` by ``tokens[i]``: (n,) log scores and the new states."""
        following, scores = list(states), np.zeros(len(states))
        rows = np.flatnonzero((tokens > 0) & (tokens < self._log_probs.shape[1]))
        if len(rows):
            fresh = self._extended([states[row] for row in rows.tolist()], tokens[rows])
            for row, state in zip(rows.tolist(), fresh, strict=True):
                before = states[row].score
                scores[row] = state.score - before if before > -np.inf else -np.inf
                following[row] = state
        return scores, following

    def final(self, states: Sequence[CtcPrefixState]) -> NDArray[np.float64]:
        """(n,) log scores of ending in each state."""
        whole = np.array([np.logaddexp(state.label[-1], state.blank[-1]) for state in states])
        before = np.array([state.score for state in states])
        return np.where(before > -np.inf, whole - np.where(before > -np.inf, before, 0.0), -np.inf)

    def _extended(self, states: Sequence[CtcPrefixState], tokens: Longs) -> list[CtcPrefixState]:
        label, blank = np.stack([s.label for s in states]), np.stack([s.blank for s in states])
        twice = np.array([s.last for s in states]) == tokens  # the same label again needs a blank between
        ready = np.where(twice[:, None], blank, np.logaddexp(label, blank))[:, :-1]
        said = self._log_probs[:, tokens].T  # (n, T)
        silent = self._log_probs[:, 0]
        enters = ready + said
        new_label, new_blank = np.full_like(label, -np.inf), np.full_like(blank, -np.inf)
        for t in range(len(silent)):
            new_label[:, t + 1] = np.logaddexp(new_label[:, t] + said[:, t], enters[:, t])
            new_blank[:, t + 1] = np.logaddexp(new_label[:, t], new_blank[:, t]) + silent[t]
        scores = np.logaddexp.reduce(enters, axis=1, initial=-np.inf).tolist()
        return [
            CtcPrefixState(label=new_label[i], blank=new_blank[i], last=token, score=scores[i])
            for i, token in enumerate(tokens.tolist())
        ]
