"""A network as a scorer: exactly its own log probabilities, read once for each hypothesis that anybody asks about."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from sayso.decoding.ctc_beam import CtcBeamConfig
from sayso.decoding.network import END, NetworkScorer
from sayso.decoding.predictor import Predictor

VOCAB, FRAMES = 4, 4


class Toy:
    """A network whose state is a number that every label changes; its answer is a distribution drawn from that."""

    def __init__(self) -> None:
        self.read: list[tuple[int, ...]] = []

    def run(self, labels: Any, states: list[Any]) -> tuple[Any, list[Any]]:
        following = [(*state, int(label[-1])) for state, label in zip(states, labels, strict=True)]
        self.read += following
        return np.stack([self.says(texts) for texts in following]), following

    @staticmethod
    def says(read: Sequence[int]) -> Any:
        logits = np.random.default_rng(list(read)).normal(size=VOCAB) * 2
        return logits - np.log(np.exp(logits).sum())

    def scorer(self, bonus: float = 0.0) -> NetworkScorer:
        return NetworkScorer(Predictor(self.run, 1, ()), bonus)

    def score(self, tokens: Sequence[int], bonus: float) -> float:
        """Of a whole text, its end included."""
        read, total = [END], 0.0
        for token in (*tokens, END):
            total += float(self.says(read)[token]) + (bonus if token != END else 0.0)
            read.append(token)
        return total


@pytest.mark.parametrize("bonus", [0.0, 1.5])
def test_a_beam_without_limits_finds_what_counting_everything_finds(bonus: float) -> None:
    rng, weight = np.random.default_rng(0), 0.7
    logits = 0.3 * rng.normal(size=(FRAMES, VOCAB))  # in doubt, so that the network decides
    rows = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    alone: dict[tuple[int, ...], float] = {}
    for path in itertools.product(range(VOCAB), repeat=FRAMES):
        labels = tuple(label for label, _ in itertools.groupby(path) if label)
        value = float(sum(rows[frame, label] for frame, label in enumerate(path)))
        alone[labels] = float(np.logaddexp(alone.get(labels, -math.inf), value))
    toy = Toy()
    wanted = {tokens: value + weight * toy.score(tokens, bonus) for tokens, value in alone.items()}
    search = CtcBeamConfig.exact(nbest=len(wanted)).build({"network": (toy.scorer(bonus), weight)})
    found = {h.tokens: h.score for h in search.finish(search.step(search.start(), rows))[0]}
    assert found.keys() == wanted.keys()
    assert all(math.isclose(found[tokens], wanted[tokens], abs_tol=1e-9) for tokens in wanted)
    assert list(found) == sorted(wanted, key=lambda tokens: -wanted[tokens])
    assert list(found)[:3] != sorted(alone, key=lambda tokens: -alone[tokens])[:3], "it must change what is best"


def test_nothing_is_read_twice_and_nothing_that_nobody_asks_about() -> None:
    toy = Toy()
    scorer = toy.scorer()
    root = scorer.start()
    _, (one, two, three) = scorer.score([root, root, root], np.array([1, 2, 3]))
    assert toy.read == [(END,)]
    scorer.score([one, one], np.array([1, 2]))
    scorer.final([one, two])
    assert toy.read == [(END,), (END, 1), (END, 2)]
    assert three.said is None
