"""Greedy decoders against a direct reading of their definitions, whole and in any chunks."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from small_domains import random_log_probs

from sayso.decoding.greedy import CtcGreedy, GreedyState, TransducerGreedy


def emitted(state: GreedyState) -> tuple[list[int], list[int], list[int], list[float]]:
    return state.tokens, state.frames, state.ends, state.log_probs


def random_chunks(rng: np.random.Generator, x: np.ndarray) -> list[np.ndarray]:
    return np.split(x, np.sort(rng.integers(0, len(x) + 1, size=6)))


@pytest.mark.parametrize("seed", range(20))
def test_ctc_is_groupby_of_the_best_labels(seed: int) -> None:
    rng = np.random.default_rng(seed)
    log_probs = random_log_probs(rng, 25, 4, sharpness=1.0)
    labels = log_probs.argmax(axis=1)
    runs = [list(run) for _, run in itertools.groupby(range(25), key=lambda t: labels[t])]
    runs = [run for run in runs if labels[run[0]] != 0]
    decoder, chunked = CtcGreedy(), CtcGreedy().start()
    for part in random_chunks(rng, log_probs):
        decoder.step(chunked, part)
    assert chunked.tokens == [labels[run[0]] for run in runs]
    assert chunked.frames == [run[0] for run in runs] and chunked.ends == [run[-1] + 1 for run in runs]
    assert chunked.log_probs == pytest.approx([log_probs[run].max() for run in runs])


class Toy:
    """A random stateless transducer; ``bias`` is added to blank."""

    def __init__(self, rng: np.random.Generator, bias: float) -> None:
        self.embed, self.out = rng.normal(size=(2, 5, 6)), rng.normal(size=(6, 5))
        self.bias = np.array([bias, 0, 0, 0, 0])

    def predict(self, y: np.ndarray) -> np.ndarray:
        assert y.shape == (1, 2) and y.dtype == np.int64
        return self.embed[0][y[:, 0]] + self.embed[1][y[:, 1]]

    def join(self, enc: np.ndarray, pred: np.ndarray) -> np.ndarray:
        assert enc.shape == (1, 6) and pred.shape == (1, 6)
        return (np.tanh(enc + pred) @ self.out + self.bias)[0]


@pytest.mark.parametrize("seed", range(10))
def test_transducer_is_its_recursion_and_does_not_see_chunks(seed: int) -> None:
    rng = np.random.default_rng(seed)
    toy, encoded = Toy(rng, bias=2.0), rng.normal(size=(20, 6)) * 2
    decoder = TransducerGreedy(toy.predict, toy.join, context=2, max_symbols=3)
    chunked = decoder.start()
    for part in random_chunks(rng, encoded):
        decoder.step(chunked, part)
    assert emitted(chunked) == emitted(decoder.step(decoder.start(), encoded))
    history, expected = [0, 0], []
    for t, frame in enumerate(encoded):
        for _ in range(3):
            logits = toy.join(frame[None], toy.predict(np.array([history[-2:]])))
            if logits.argmax() == 0:
                break
            history.append(int(logits.argmax()))
            expected.append((history[-1], t, np.log(np.exp(logits).max() / np.exp(logits).sum())))
    assert list(zip(chunked.tokens, chunked.frames, strict=True)) == [e[:2] for e in expected]
    assert chunked.log_probs == pytest.approx([e[2] for e in expected])


def test_a_joiner_that_never_says_blank_is_stopped() -> None:
    toy = Toy(np.random.default_rng(0), bias=-np.inf)
    decoder = TransducerGreedy(toy.predict, toy.join, max_symbols=2)
    state = decoder.step(decoder.start(), np.zeros((4, 6)))
    assert state.frames == [0, 0, 1, 1, 2, 2, 3, 3]
    with pytest.raises(ValueError, match="max_symbols"):
        TransducerGreedy(toy.predict, toy.join, max_symbols=0)
