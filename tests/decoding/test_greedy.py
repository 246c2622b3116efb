"""Greedy decoders against a direct reading of their definitions, whole and in any chunks."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from small_domains import random_log_probs
from toy_transducer import Toy, random_packets

from sayso.decoding.greedy import CtcGreedy, GreedyState, TransducerGreedy


def emitted(state: GreedyState) -> tuple[list[int], list[int], list[int], list[float]]:
    return state.tokens, state.frames, state.ends, state.log_probs


@pytest.mark.parametrize("seed", range(20))
def test_ctc_is_groupby_of_the_best_labels(seed: int) -> None:
    rng = np.random.default_rng(seed)
    log_probs = random_log_probs(rng, 25, 4, sharpness=1.0)
    labels = log_probs.argmax(axis=1)
    runs = [list(run) for _, run in itertools.groupby(range(25), key=lambda t: labels[t])]
    runs = [run for run in runs if labels[run[0]] != 0]
    decoder, chunked = CtcGreedy(), CtcGreedy().start()
    for part in random_packets(rng, log_probs):
        decoder.step(chunked, part)
    assert chunked.tokens == [labels[run[0]] for run in runs]
    assert chunked.frames == [run[0] for run in runs] and chunked.ends == [run[-1] + 1 for run in runs]
    assert chunked.log_probs == pytest.approx([log_probs[run].max() for run in runs])


@pytest.mark.parametrize("memory", [False, True], ids=["stateless", "recurrent"])
@pytest.mark.parametrize("seed", range(10))
def test_transducer_is_its_recursion_and_does_not_see_packets(seed: int, memory: bool) -> None:
    rng = np.random.default_rng(seed)
    toy, encoded = Toy(rng, 5, bias=2.0, memory=memory), rng.normal(size=(20, 6)) * 2
    decoder = TransducerGreedy(toy.predictor, toy.join, max_symbols=3)
    cut = decoder.start()
    for part in random_packets(rng, encoded):
        decoder.step(cut, part)
    assert emitted(cut) == emitted(decoder.step(decoder.start(), encoded))
    history, expected = (), []
    for t, frame in enumerate(encoded):
        for _ in range(3):
            log_probs = toy.log_probs(frame, history)
            if log_probs.argmax() == 0:
                break
            history = (*history, int(log_probs.argmax()))
            expected.append((history[-1], t, log_probs.max()))
    assert list(zip(cut.tokens, cut.frames, strict=True)) == [e[:2] for e in expected]
    assert cut.log_probs == pytest.approx([e[2] for e in expected])
    (hypothesis,) = decoder.finish(cut)[0]
    assert hypothesis.tokens == decoder.stable(cut) == history
    assert hypothesis.score == pytest.approx(sum(e[2] for e in expected))


def test_a_joiner_that_never_says_blank_is_stopped() -> None:
    toy = Toy(np.random.default_rng(0), 5, bias=-np.inf)
    decoder = TransducerGreedy(toy.predictor, toy.join, max_symbols=2)
    state = decoder.step(decoder.start(), np.zeros((4, 6)))
    assert state.frames == [0, 0, 1, 1, 2, 2, 3, 3]
    with pytest.raises(ValueError, match="max_symbols"):
        TransducerGreedy(toy.predictor, toy.join, max_symbols=0)
