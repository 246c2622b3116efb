"""Greedy decoders for text that no grammar bounds: CTC best path and the transducer's best symbol per step.

Both are streaming state machines whose output does not depend on how the frames are cut into chunks. CTC merges
repeats across chunks (Graves et al. 2006); the transducer (Graves 2012) carries what its prediction network said last.
A guard bounds the symbols of one frame: an untrained or mismatched joiner must not loop.

Shape letters: ``T`` frames, ``V`` tokens, ``D`` encoder width.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from sayso.core.config import Config
from sayso.core.errors import ConfigError
from sayso.decoding.beam import Scorers
from sayso.decoding.hypothesis import Hypothesis
from sayso.decoding.predictor import Floats, Join, Predicted, Predictor

_AHEAD = 4  # frames that the joiner hears at once: a chunk of the usual size


class CtcGreedyConfig(Config):
    """CTC best path."""

    kind: Literal["ctc_greedy"] = "ctc_greedy"

    def build(self, scorers: Scorers | None = None) -> CtcGreedy:
        """A search; ``ConfigError`` for scorers, which one path cannot use."""
        _no_scorers(scorers, "ctc_beam")
        return CtcGreedy()


class TransducerGreedyConfig(Config):
    """The transducer's best symbol; at most ``max_symbols`` labels per frame."""

    kind: Literal["greedy"] = "greedy"
    max_symbols: int = Field(default=3, ge=1)

    def build(self, predictor: Predictor, join: Join, scorers: Scorers | None = None) -> TransducerGreedy:
        """A search; ``ConfigError`` for scorers, which one path cannot use."""
        _no_scorers(scorers, "modified, tsd or alsd")
        return TransducerGreedy(predictor, join, self.max_symbols)


@dataclass(kw_only=True)
class GreedyState:
    """One stream: what was emitted (``log_probs[i]``: best log posterior of token ``i``) and how far it has heard."""

    tokens: list[int] = field(default_factory=list)
    frames: list[int] = field(default_factory=list)  # first frame of each token
    ends: list[int] = field(default_factory=list)  # first frame after each token was last seen
    log_probs: list[float] = field(default_factory=list)
    frame: int = 0
    last: int = 0  # CTC: label of the previous frame
    predicted: Predicted | None = None


class _Greedy:
    """What both have in common: one hypothesis, of which nothing changes any more."""

    _name: str

    def partial(self, state: GreedyState) -> Hypothesis:
        """What was emitted so far; its score is the sum of its tokens' log posteriors, blanks left out."""
        return Hypothesis(
            tokens=tuple(state.tokens),
            frames=tuple(state.frames),
            ends=tuple(state.ends),
            log_probs=tuple(state.log_probs),
            scores={self._name: sum(state.log_probs)},
        )

    def stable(self, state: GreedyState) -> tuple[int, ...]:
        """Tokens that will not change: all."""
        return tuple(state.tokens)

    def finish(self, state: GreedyState) -> list[list[Hypothesis]]:
        """One talker, one hypothesis."""
        return [[self.partial(state)]]


class CtcGreedy(_Greedy):
    """The best label of every frame, repeats merged, blanks (token 0) dropped."""

    _name = "ctc"

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


class TransducerGreedy(_Greedy):
    """The best symbol until blank (token 0), at most ``max_symbols`` per frame."""

    _name = "transducer"

    def __init__(self, predictor: Predictor, join: Join, max_symbols: int = 3) -> None:
        if max_symbols < 1:
            raise ValueError(f"max_symbols ({max_symbols}) must be at least 1")
        self._predictor, self._join, self._max_symbols = predictor, join, max_symbols

    def start(self) -> GreedyState:
        """A stream before any frame."""
        return GreedyState(predicted=self._predictor.start())

    def step(self, state: GreedyState, encoded: Floats) -> GreedyState:
        """Advance in place over (T, D) encoder frames and return ``state``."""
        assert state.predicted is not None, "a state of another decoder"
        start, first, given = state.frame, 0, 0  # ``first``: the frame in question, which has ``given`` labels already
        while first < len(encoded):
            labels, logits = self._best(encoded[first : first + _AHEAD], state.predicted)
            blanks = int((labels != 0).argmax()) if labels.any() else len(labels)
            first, given = first + blanks, 0 if blanks else given
            if blanks == len(labels):
                continue
            state.frame, given = start + first, given + 1
            top, row = int(labels[blanks]), np.asarray(logits[blanks], dtype=np.float64)
            _emit(state, top, -float(np.log(np.exp(row - row[top]).sum())))
            (state.predicted,) = self._predictor.extend([state.predicted], [top])
            if given == self._max_symbols:
                first, given = first + 1, 0
        state.frame = start + len(encoded)
        return state

    def _best(self, frames: Floats, predicted: Predicted) -> tuple[NDArray[np.int64], Floats]:
        """Labels (n,) and logits (n, V) of up to ``_AHEAD`` frames (n, D), in one run of the joiner.

        Most frames say blank, and then those behind them were worth asking. The run always has ``_AHEAD`` rows, so that
        a frame's products are rounded the same way wherever a packet ends.
        """
        ahead = np.zeros((_AHEAD, frames.shape[1]), frames.dtype)
        ahead[: len(frames)] = frames
        logits = self._join(ahead, np.repeat(predicted.out, _AHEAD, axis=0))[: len(frames)]
        return logits.argmax(axis=1), logits


def _emit(state: GreedyState, label: int, log_prob: float) -> None:
    state.tokens.append(label)
    state.frames.append(state.frame)
    state.ends.append(state.frame + 1)
    state.log_probs.append(log_prob)


def _no_scorers(scorers: Scorers | None, instead: str) -> None:
    if scorers:
        raise ConfigError(f"greedy search has one hypothesis and no use for {', '.join(scorers)}; choose {instead}")
