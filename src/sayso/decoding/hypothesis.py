"""What every decoder produces and what every scorer offers: contract 5 of the design.

A ``Hypothesis`` is one token sequence with the frames it was emitted at and one score per scorer. A ``Scorer``
(language model, internal language model, bias trie, graph) is batched over hypotheses and keeps its own opaque
states, so that a decoder can add any weighted set of them without knowing what they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

S = TypeVar("S")


@dataclass(frozen=True, kw_only=True)
class Hypothesis:
    """One hypothesis of one talker; ``frames[i]`` is the first frame of token ``i``, ``ends[i]`` the first after it,
    ``log_probs[i]`` its best log posterior in between."""

    tokens: tuple[int, ...] = ()
    frames: tuple[int, ...] = ()
    ends: tuple[int, ...] = ()
    log_probs: tuple[float, ...] = ()
    scores: Mapping[str, float] = field(default_factory=dict)  # scorer name -> log score, already weighted
    predictor: Any = None  # state of the prediction network, opaque to everyone but the decoder that made it
    graph: Any = None
    talker: int = 0

    @property
    def score(self) -> float:
        """The sum over all scorers; 0 for none."""
        return float(sum(self.scores.values()))


class Scorer(Protocol, Generic[S]):
    """Batched over hypotheses: ``n`` states in, ``n`` scores and states out. Scores are natural logs."""

    def start(self, context: Mapping[str, Any] | None = None) -> S:
        """The state before any token; ``context`` is what is fixed for the stream (languages, phrases, history)."""
        ...

    def score(self, states: Sequence[S], tokens: NDArray[np.int64]) -> tuple[NDArray[np.float64], list[S]]:
        """Extend state ``i`` by ``tokens[i]``: (n,) log scores and the new states."""
        ...

    def final(self, states: Sequence[S]) -> NDArray[np.float64]:
        """(n,) log scores of ending in each state."""
        ...


class Decoder(Protocol, Generic[S]):
    """A streaming search. Whatever it returns does not depend on how the frames were cut into packets."""

    def start(self) -> S:
        """A stream before any frame."""
        ...

    def step(self, state: S, frames: Any) -> S:
        """Advance in place over (T, V) log posteriors (CTC), (T, D) encoder frames, or a pair of both
        (``triggered_beam.Both``); T may be 0. Returns ``state``."""
        ...

    def partial(self, state: S) -> Hypothesis:
        """The best hypothesis so far."""
        ...

    def stable(self, state: S) -> tuple[int, ...]:
        """Tokens that every later answer begins with; only ever grows."""
        ...

    def finish(self, state: S) -> list[list[Hypothesis]]:
        """Per talker the n-best, best first, scorers' endings included. Leaves ``state`` as it is."""
        ...
