"""Errors of several talkers against every assignment tried one by one, and against meeteval where it is installed."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from sayso.core.result import Word
from sayso.evaluation.metrics import word_errors
from sayso.evaluation.talkers import cp_errors, orc_errors, tcp_errors


def _texts(rng: np.random.Generator, count: int, longest: int) -> list[str]:
    return [" ".join(rng.choice(list("abcd"), rng.integers(0, longest + 1))) for _ in range(count)]


def _cp_by_trying(reference: list[str], hypothesis: list[str]) -> int:
    size = max(len(reference), len(hypothesis))
    gold, got = (texts + [""] * (size - len(texts)) for texts in (reference, hypothesis))
    orders = itertools.permutations(got)
    return min(sum(word_errors(*pair).errors for pair in zip(gold, order, strict=True)) for order in orders)


def _orc_by_trying(reference: list[str], hypothesis: list[str]) -> int:
    found = []
    for streams in itertools.product(range(len(hypothesis)), repeat=len(reference)):
        joined = [
            " ".join(text for text, stream in zip(reference, streams, strict=True) if stream == place)
            for place in range(len(hypothesis))
        ]
        found.append(sum(word_errors(*pair).errors for pair in zip(joined, hypothesis, strict=True)))
    return min(found)


def test_cp_equals_all_permutations() -> None:
    rng = np.random.default_rng(0)
    for _ in range(150):
        reference, hypothesis = _texts(rng, int(rng.integers(0, 5)), 6), _texts(rng, int(rng.integers(0, 5)), 6)
        expected = (_cp_by_trying(reference, hypothesis), sum(len(text.split()) for text in reference))
        assert cp_errors(reference, hypothesis) == expected


def test_orc_equals_all_assignments() -> None:
    rng = np.random.default_rng(1)
    for _ in range(100):
        reference, hypothesis = _texts(rng, int(rng.integers(0, 5)), 4), _texts(rng, int(rng.integers(1, 4)), 6)
        assert orc_errors(reference, hypothesis).errors == _orc_by_trying(reference, hypothesis)
    assert orc_errors(["a b", "c"], []) == (3, 3) and orc_errors([], ["a", "b c"]) == (3, 0)


def test_orc_forgives_a_talker_in_two_streams_and_cp_does_not() -> None:
    talkers, utterances = ["a b e f", "c d"], ["a b", "c d", "e f"]
    streams = ["a b", "c d e f"]
    assert orc_errors(utterances, streams) == (0, 6) and cp_errors(talkers, streams) == (4, 6)


def test_too_much_is_said() -> None:
    with pytest.raises(ValueError, match="17 streams are too many"):
        cp_errors(["a"], ["a"] * 17)
    with pytest.raises(ValueError, match="cut the recording"):
        orc_errors(["a"], ["a " * 9000] * 2)


def _timed(rng: np.random.Generator, count: int) -> list[list[Word]]:
    def words() -> list[Word]:
        starts = np.sort(rng.uniform(0, 6, rng.integers(0, 6)))
        return [Word(text=str(rng.choice(list("abc"))), start=s, end=s + rng.uniform(0.1, 0.5)) for s in starts]

    return [words() for _ in range(count)]


def _timed_by_trying(said: list[Word], heard: list[Word], collar: float) -> int:
    """Edit distance by recursion over both first words."""
    if not said or not heard:
        return len(said) + len(heard)
    middle = (heard[0].start + heard[0].end) / 2
    options = [1 + _timed_by_trying(said[1:], heard, collar), 1 + _timed_by_trying(said, heard[1:], collar)]
    if said[0].start - collar <= middle <= said[0].end + collar:
        options.append((said[0].text != heard[0].text) + _timed_by_trying(said[1:], heard[1:], collar))
    return min(options)


def test_tcp_equals_trying() -> None:
    rng = np.random.default_rng(2)
    for _ in range(60):
        (said,), (heard,) = _timed(rng, 1), _timed(rng, 1)
        assert tcp_errors([said], [heard], collar_s=0.7).errors == _timed_by_trying(said, heard, 0.7)
    said, heard = [Word(text="a", start=0, end=1)], [Word(text="a", start=9, end=10)]
    assert tcp_errors([said], [heard]) == (2, 1) and tcp_errors([said], [heard], collar_s=9) == (0, 1)
    many, others = _timed(rng, 3), _timed(rng, 3)
    texts = [[" ".join(word.text for word in words) for words in side] for side in (many, others)]
    assert tcp_errors(many, others, collar_s=100) == cp_errors(*texts)


def test_all_equal_meeteval() -> None:
    pytest.importorskip("meeteval", reason="meeteval comes as C++ to compile; 'pip install meeteval' runs this test")
    from meeteval.io import SegLST  # type: ignore[import-not-found]
    from meeteval.wer.wer.cp import cp_word_error_rate  # type: ignore[import-not-found]
    from meeteval.wer.wer.orc import orc_word_error_rate  # type: ignore[import-not-found]
    from meeteval.wer.wer.time_constrained import tcp_word_error_rate  # type: ignore[import-not-found]

    def segments(talkers: list[list[Word]]) -> Any:
        rows = [
            {"speaker": str(n), "words": word.text, "start_time": word.start, "end_time": word.end, "session_id": "s"}
            for n, words in enumerate(talkers)
            for word in words
        ]
        return SegLST(rows)

    rng = np.random.default_rng(4)
    for _ in range(50):
        reference, hypothesis = _texts(rng, 3, 8), _texts(rng, int(rng.integers(1, 4)), 8)
        assert cp_errors(reference, hypothesis).errors == cp_word_error_rate(reference, hypothesis).errors
        assert orc_errors(reference, hypothesis).errors == orc_word_error_rate(reference, hypothesis).errors
        said, heard = _timed(rng, 2), _timed(rng, 2)
        if any(said) and any(heard):
            theirs = tcp_word_error_rate(segments(said), segments(heard), collar=0.7)
            assert tcp_errors(said, heard, collar_s=0.7) == (theirs.errors, theirs.length)
