"""A network as a language model in a search: the next token's log probability after all tokens so far.

A search asks for many tokens that it then drops. So a state is told its token at once and read by the network only when
somebody asks what follows it, all that are asked for at a time in one run.

Shape letters: ``n`` hypotheses, ``V`` tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sayso.decoding.beam import Doubles, Longs
from sayso.decoding.predictor import Predicted, Predictor

END = 0  # the network's label for both ends of a text


class Told:
    """A hypothesis and, once the network has read it, what it says of the next token."""

    __slots__ = ("before", "said", "token")

    def __init__(self, before: Predicted | None, token: int, said: Predicted | None = None) -> None:
        self.before, self.token, self.said = before, token, said


class NetworkScorer:
    """``predictor`` gives log probabilities (n, V) of the next token, the first time after ``END`` alone. ``bonus`` is
    added for every token, because each lowers the probability of the whole and short texts would win without it."""

    def __init__(self, predictor: Predictor, bonus: float = 0.0) -> None:
        self._predictor, self._bonus = predictor, bonus

    def start(self, context: Mapping[str, Any] | None = None) -> Told:
        """Before any token."""
        return Told(None, END, self._predictor.start())

    def score(self, states: Sequence[Told], tokens: Longs) -> tuple[Doubles, list[Told]]:
        """Log probabilities of ``tokens``, the bonus added, and the states after them."""
        said = self._read(states)
        scores = np.array([float(after.out[0, token]) for after, token in zip(said, tokens.tolist(), strict=True)])
        following = [Told(after, token) for after, token in zip(said, tokens.tolist(), strict=True)]
        return scores + self._bonus, following

    def final(self, states: Sequence[Told]) -> Doubles:
        """Log probabilities of the end."""
        return np.array([float(after.out[0, END]) for after in self._read(states)])

    def _read(self, states: Sequence[Told]) -> list[Predicted]:
        """What the network says after each state; those that it has not read yet, each once."""
        fresh = list({id(state): state for state in states if state.said is None}.values())
        before = [state.before for state in fresh if state.before is not None]
        said = self._predictor.extend(before, [state.token for state in fresh])
        for state, found in zip(fresh, said, strict=True):
            state.said, state.before = found, None
        return [state.said for state in states if state.said is not None]
