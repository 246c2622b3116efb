"""The filler against every token sequence."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from small_domains import ctc_viterbi, random_log_probs

from sayso.decoding.filler import Filler


@pytest.mark.parametrize("seed", range(20))
def test_filler_is_enumeration_over_all_sequences(seed: int) -> None:
    rng = np.random.default_rng(seed)
    frames, vocabulary, penalty = int(rng.integers(1, 6)), int(rng.integers(2, 5)), float(rng.choice([0.0, 0.7]))
    log_probs = random_log_probs(rng, frames, vocabulary)
    filler = Filler(vocabulary, penalty)
    state = filler.start()
    assert state.best == 0.0
    for frame in log_probs:
        filler.step(state, frame)
    sequences = (s for n in range(frames + 1) for s in itertools.product(range(1, vocabulary), repeat=n))
    assert state.best == pytest.approx(max(ctc_viterbi(log_probs, s) - penalty * len(s) for s in sequences))
