"""The competitor of the grammar: any token sequence at a price per token, scored by CTC Viterbi.

What the best in-grammar path loses against the best free path, per non-blank frame, says whether the audio is
in the grammar at all: the filler (garbage) model of keyword spotting, Rose and Paul 1990. It has one state per
token and one for blank, so a frame is a few dense vector operations and needs no history.

Shape letters: ``T`` frames, ``V`` tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_NEVER = -np.inf


@dataclass(kw_only=True)
class FillerState:
    """Viterbi scores: ``tok[v]`` in token ``v`` (index 0 unused), ``blk`` in blank, after any number of tokens."""

    tok: NDArray[np.float64]  # (V,)
    blk: float = 0.0

    @property
    def best(self) -> float:
        """Score of the best free path so far; 0 before any frame."""
        return float(max(self.tok.max(), self.blk))


class Filler:
    """``penalty`` is subtracted once per token; 0 makes the filler's path the greedy one."""

    def __init__(self, vocabulary: int, penalty: float) -> None:
        self._vocabulary, self._penalty = vocabulary, penalty

    def start(self) -> FillerState:
        """Before any frame."""
        return FillerState(tok=np.full(self._vocabulary, _NEVER))

    def step(self, state: FillerState, log_probs: NDArray[np.float64]) -> None:
        """Advance over one frame of (V,) log posteriors, in place."""
        tok = state.tok
        first = int(tok.argmax())
        top = float(tok[first])
        tok[first] = _NEVER
        second = float(tok.max())  # a token may not follow itself without a blank between
        tok[first] = top
        enter = np.full(self._vocabulary, max(top, state.blk) - self._penalty)
        enter[first] = max(second, state.blk) - self._penalty
        state.tok = np.maximum(tok, enter) + log_probs
        state.tok[0] = _NEVER
        state.blk = max(top, state.blk) + float(log_probs[0])
