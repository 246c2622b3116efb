"""Tiny transducers with and without memory, a scorer, and what searches over them should find: plain enumeration."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from sayso.decoding.predictor import Predictor, stateless

Labels = tuple[int, ...]


class Toy:
    """A random transducer over ``V`` tokens; ``memory``: its predictor is recurrent. ``bias`` is added to blank."""

    def __init__(self, rng: np.random.Generator, vocabulary: int = 4, bias: float = 0.0, memory: bool = False) -> None:
        self.embed, self.out = rng.normal(size=(2, vocabulary, 6)), rng.normal(size=(6, vocabulary)) * 1.5
        self.bias = np.concatenate([[bias], np.zeros(vocabulary - 1)])
        self.memory, self.vocabulary, self.runs = memory, vocabulary, 0

    @property
    def predictor(self) -> Predictor:
        return Predictor(self._recur, 1, np.zeros(6)) if self.memory else stateless(self._look)

    def _look(self, labels: np.ndarray) -> np.ndarray:
        assert labels.shape[1:] == (2,) and labels.dtype == np.int64
        return self.embed[0][labels[:, 0]] + self.embed[1][labels[:, 1]]

    def _recur(self, labels: np.ndarray, states: list[Any]) -> tuple[np.ndarray, list[Any]]:
        assert labels.shape[1:] == (1,)
        out = np.tanh(0.9 * np.stack(states) + self.embed[0][labels[:, 0]])
        return out, list(out)

    def join(self, encoded: np.ndarray, predicted: np.ndarray) -> np.ndarray:
        assert encoded.shape == predicted.shape == (len(encoded), 6)
        self.runs += 1
        return np.tanh(encoded + predicted) @ self.out + self.bias

    def log_probs(self, frame: np.ndarray, labels: Labels) -> np.ndarray:
        """(V,) after ``labels``, from the definition."""
        predicted = self.predictor.start()
        for label in labels:
            (predicted,) = self.predictor.extend([predicted], [label])
        logits = self.join(frame[None], predicted.out)[0]
        return logits - np.logaddexp.reduce(logits)

    def forward(self, encoded: np.ndarray, labels: Labels) -> float:
        """Log probability of ``labels`` by listing every path: each label goes to a frame, each frame ends in blank."""
        table = np.stack([[self.log_probs(f, labels[:u]) for u in range(len(labels) + 1)] for f in encoded])
        paths = []
        for places in itertools.combinations_with_replacement(range(len(encoded)), len(labels)):
            emitted = sum(table[t, u, labels[u]] for u, t in enumerate(places))
            blanks = sum(table[t, sum(p <= t for p in places), 0] for t in range(len(encoded)))
            paths.append(emitted + blanks)
        return float(np.logaddexp.reduce(paths))

    def modified_forward(self, encoded: np.ndarray, labels: Labels) -> float:
        """The same where every symbol takes a frame."""
        paths = []
        for places in itertools.combinations(range(len(encoded)), len(labels)):
            u, total = 0, 0.0
            for t, frame in enumerate(encoded):
                row = self.log_probs(frame, labels[:u])
                total += row[labels[u]] if t in places else row[0]
                u += t in places
            paths.append(total)
        return float(np.logaddexp.reduce(paths)) if paths else -np.inf


class Table:
    """A scorer with a random bigram table and an ending; its states are checked to be those it gave."""

    def __init__(self, rng: np.random.Generator, vocabulary: int = 4) -> None:
        self.bigram, self.end = rng.normal(size=(vocabulary, vocabulary)), rng.normal(size=vocabulary)

    def start(self, context: Mapping[str, Any] | None = None) -> Labels:
        return ()

    def score(self, states: Sequence[Labels], tokens: np.ndarray) -> tuple[np.ndarray, list[Labels]]:
        assert len(states) == len(tokens) > 0
        scores = [self.bigram[(0, *s)[-1], t] for s, t in zip(states, tokens, strict=True)]
        return np.array(scores), [(*s, int(t)) for s, t in zip(states, tokens, strict=True)]

    def final(self, states: Sequence[Labels]) -> np.ndarray:
        return np.array([self.end[(0, *s)[-1]] for s in states])

    def whole(self, labels: Labels) -> float:
        inside = sum(self.bigram[a, b] for a, b in zip((0, *labels), labels, strict=False))
        return float(inside + self.end[(0, *labels)[-1]])


def all_labels(vocabulary: int, longest: int) -> Iterator[Labels]:
    for length in range(longest + 1):
        yield from itertools.product(range(1, vocabulary), repeat=length)


def random_packets(rng: np.random.Generator, x: np.ndarray) -> list[np.ndarray]:
    return np.split(x, np.sort(rng.integers(0, len(x) + 1, size=6)))
