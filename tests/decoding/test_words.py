"""Word times and confidences."""

from __future__ import annotations

import math

import pytest

from sayso.decoding.hypothesis import Hypothesis
from sayso.decoding.words import nbest_confidences, spans_of, words, words_of

PIECES = ("<blk>", "<unk>", "▁turn", "▁", "o", "n", "▁up")


def test_words_are_cut_at_openers_and_timed_by_frames() -> None:
    tokens, frames, ends = [2, 3, 4, 5, 6], [1, 4, 5, 7, 8], [3, 5, 7, 10, 11]
    log_probs = [math.log(0.9), math.log(0.5), math.log(0.8), math.log(1.0), math.log(0.7)]
    turn, on, up = words(tokens, frames, log_probs, PIECES, frame_s=0.08, ends=ends, offset_s=2.0)
    assert [w.text for w in (turn, on, up)] == ["turn", "on", "up"]
    assert (turn.start, turn.end) == pytest.approx((2.08, 2.24))
    assert (on.start, on.end) == pytest.approx((2.32, 2.64))  # held to frame 10, but the next word starts at 8
    assert on.confidence == pytest.approx((0.5 * 0.8 * 1.0) ** (1 / 3))
    assert (up.start, up.end) == pytest.approx((2.64, 2.88))


def test_unknowns_have_no_text_and_nothing_gives_nothing() -> None:
    assert words([], [], [], PIECES, frame_s=0.08) == []
    assert words([1], [0], [0.0], PIECES, frame_s=0.08) == []
    assert spans_of([5, 2, 4], PIECES) == [(0, 0), (1, 2)]
    (word,) = words([2, 5], [3, 3], [0.0, 0.0], PIECES, frame_s=0.1)
    assert (word.text, word.start, word.end, word.confidence) == ("turnn", pytest.approx(0.3), pytest.approx(0.4), 1.0)
    with pytest.raises(ValueError, match="not one each"):
        words([2], [], [0.0], PIECES, frame_s=0.08)


def test_words_of_a_hypothesis_are_its_words() -> None:
    h = Hypothesis(tokens=(2, 3, 4), frames=(1, 4, 5), ends=(3, 5, 7), log_probs=(-0.1, -0.2, -0.3))
    wanted = words(h.tokens, h.frames, h.log_probs, PIECES, frame_s=0.08, ends=h.ends, offset_s=1.0)
    assert words_of(h, PIECES, frame_s=0.08, offset_s=1.0) == wanted and len(wanted) == 2
    open_ended = Hypothesis(tokens=(2,), frames=(1,), log_probs=(-0.1,))
    assert words_of(open_ended, PIECES, frame_s=1.0)[0].end == pytest.approx(2.0)


def test_the_list_says_how_sure_each_word_is() -> None:
    def said(tokens: tuple[int, ...], probability: float) -> Hypothesis:
        return Hypothesis(tokens=tokens, scores={"ctc": math.log(probability) - 100.0, "lm": 40.0})

    both, without, other = said((2, 6), 0.3), said((6,), 0.2), said((2, 3, 4), 0.1)  # turn up, up, turn o
    assert nbest_confidences([both, without, other], PIECES) == pytest.approx([0.4 / 0.6, 0.5 / 0.6])
    assert nbest_confidences([said((2, 1, 6), 0.1)], PIECES) == [1.0, 1.0]
    assert nbest_confidences([], PIECES) == nbest_confidences([Hypothesis()], PIECES) == []
