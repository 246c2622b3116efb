"""Greedy decoders for text that no grammar bounds: CTC best path and the transducer's best symbol per step.

Both are streaming state machines whose output does not depend on how the frames are cut into chunks. CTC merges
repeats across chunks (Graves et al. 2006); the transducer (Graves 2012) has a stateless prediction network that
sees the last ``context`` tokens (Ghodsi et al. 2020), so its state is those tokens. A guard bounds the symbols
of one frame: an untrained or mismatched joiner must not loop.

Shape letters: ``T`` frames, ``V`` tokens, ``D`` encoder width, ``J`` predictor width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Predict = Callable[[NDArray[np.int64]], Floats]  # (1, context) -> (1, J)
Join = Callable[[Floats, Floats], Floats]  # (1, D), (1, J) -> logits (V,)


@dataclass(kw_only=True)
class GreedyState:
    """One stream: what was emitted (``log_probs[i]``: best log posterior of token ``i``) and how far it has heard."""

    tokens: list[int] = field(default_factory=list)
    frames: list[int] = field(default_factory=list)  # first frame of each token
    ends: list[int] = field(default_factory=list)  # first frame after each token was last seen
    log_probs: list[float] = field(default_factory=list)
    frame: int = 0
    last: int = 0  # CTC: label of the previous frame
    context: NDArray[np.int64] = field(default_factory=lambda: np.zeros((1, 0), dtype=np.int64))
    predicted: Floats | None = None


class CtcGreedy:
    """The best label of every frame, repeats merged, blanks (token 0) dropped."""

    def start(self) -> GreedyState:
        """A stream before any frame."""
        return GreedyState()

    def step(self, state: GreedyState, log_probs: Floats) -> GreedyState:
        """Advance in place over (T, V) log posteriors and return ``state``."""
        for label, value in zip(log_probs.argmax(axis=1).tolist(), log_probs.max(axis=1).tolist(), strict=True):
            if label != 0 and label == state.last:
                state.ends[-1] = state.frame + 1
                state.log_probs[-1] = max(state.log_probs[-1], value)
            elif label != 0:
                _emit(state, label, value)
            state.last = label
            state.frame += 1
        return state


class TransducerGreedy:
    """The best symbol until blank, at most ``max_symbols`` per frame; token 0 is blank and pads the first contexts."""

    def __init__(self, predict: Predict, join: Join, context: int = 2, max_symbols: int = 3) -> None:
        if context < 1 or max_symbols < 1:
            raise ValueError(f"context ({context}) and max_symbols ({max_symbols}) must be at least 1")
        self._predict, self._join = predict, join
        self._context, self._max_symbols = context, max_symbols

    def start(self) -> GreedyState:
        """A stream before any frame."""
        context = np.zeros((1, self._context), dtype=np.int64)
        return GreedyState(context=context, predicted=self._predict(context))

    def step(self, state: GreedyState, encoded: Floats) -> GreedyState:
        """Advance in place over (T, D) encoder frames and return ``state``."""
        for frame in encoded:
            for _ in range(self._max_symbols):
                assert state.predicted is not None, "a state of another decoder"
                logits = np.asarray(self._join(frame[None], state.predicted), dtype=np.float64).reshape(-1)
                label = int(logits.argmax())
                if label == 0:
                    break
                top = float(logits[label])
                _emit(state, label, -float(np.log(np.exp(logits - top).sum())))
                state.context = np.concatenate([state.context[:, 1:], [[label]]], axis=1)
                state.predicted = self._predict(state.context)
            state.frame += 1
        return state


def _emit(state: GreedyState, label: int, log_prob: float) -> None:
    state.tokens.append(label)
    state.frames.append(state.frame)
    state.ends.append(state.frame + 1)
    state.log_probs.append(log_prob)
