"""Prefix scores are sums over all labelings that begin so; label by label they add up to the likelihood."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from small_domains import random_log_probs
from test_ctc_beam import enumerate_labelings

from sayso.decoding.align import align
from sayso.decoding.ctc_prefix import CtcPrefixScorer


@pytest.mark.parametrize(("frames", "vocabulary"), [(1, 3), (4, 4), (6, 3)])
def test_prefixes_are_sums_over_what_begins_so(frames: int, vocabulary: int) -> None:
    log_probs = random_log_probs(np.random.default_rng(frames), frames, vocabulary, sharpness=1.0)
    totals, _ = enumerate_labelings(log_probs)
    scorer = CtcPrefixScorer(log_probs)
    for length in range(frames + 2):
        for labels in itertools.product(range(1, vocabulary), repeat=length):
            states, total = [scorer.start()], 0.0
            for token in labels:
                scores, states = scorer.score(states, np.array([token]))
                total += scores[0]
            wanted = np.logaddexp.reduce([p for y, p in totals.items() if y[:length] == labels] or [-np.inf])
            if wanted == -np.inf:
                assert total == -np.inf and scorer.final(states)[0] == -np.inf
                continue
            assert total == pytest.approx(wanted, abs=1e-9)
            assert total + scorer.final(states)[0] == pytest.approx(totals.get(labels, -np.inf), abs=1e-9)


def test_many_at_once_are_each_alone_and_labels_are_not_heard() -> None:
    rng = np.random.default_rng(3)
    log_probs = random_log_probs(rng, 12, 5, sharpness=1.0)
    scorer = CtcPrefixScorer(log_probs)
    states = [scorer.start() for _ in range(40)]
    written = rng.integers(1, 8, (5, 40))  # 5, 6 and 7 are labels of a parser
    together = np.zeros(40)
    for tokens in written:
        scores, states = scorer.score(states, tokens)
        assert not scores[tokens >= 5].any()
        together += scores
    together += scorer.final(states)
    for column in range(40):
        words = [int(token) for token in written[:, column] if token < 5]
        state, alone = [scorer.start()], 0.0
        for token in words:
            score, state = scorer.score(state, np.array([token]))
            alone += score[0]
        assert together[column] == pytest.approx(alone + scorer.final(state)[0], abs=1e-9)
        assert together[column] >= align(log_probs, words).score - 1e-9, "a sum is no less than its best path"


def test_no_rows_at_all() -> None:
    scorer = CtcPrefixScorer(np.zeros((0, 4)))
    scores, states = scorer.score([scorer.start()], np.array([2]))
    assert scores[0] == -np.inf and scorer.final(states)[0] == -np.inf
    assert scorer.final([scorer.start()])[0] == 0.0
    with pytest.raises(ValueError, match=r"\(T, V\)"):
        CtcPrefixScorer(np.zeros(4))
