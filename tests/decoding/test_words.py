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
    turn, on, up = words(tokens, frames, log_probs, PIECES, frame_s=0.08, ends=ends)
    assert [w.text for w in (turn, on, up)] == ["turn", "on", "up"]
    assert (turn.start, turn.end) == pytest.approx((0.08, 0.24))
    assert (on.start, on.end) == pytest.approx((0.32, 0.64))  # held to frame 10, but the next word starts at 8
    assert on.confidence == pytest.approx((0.5 * 0.8 * 1.0) ** (1 / 3))
    assert (up.start, up.end) == pytest.approx((0.64, 0.88))


def test_unknowns_have_no_text_and_nothing_gives_nothing() -> None:
    assert words([], [], [], PIECES, frame_s=0.08) == []
    assert words([1], [0], [0.0], PIECES, frame_s=0.08) == []
    assert spans_of([5, 2, 4], PIECES) == [(0, 0), (1, 2)]
    (word,) = words([2, 5], [3, 3], [0.0, 0.0], PIECES, frame_s=0.1)
    assert (word.text, word.start, word.end, word.confidence) == ("turnn", pytest.approx(0.3), pytest.approx(0.4), 1.0)
    with pytest.raises(ValueError, match="not one each"):
        words([2], [], [0.0], PIECES, frame_s=0.08)


def test_words_begin_before_their_first_token_by_the_delay() -> None:
    def timed(delay_s: float) -> list[tuple[float, float]]:
        more = {"frame_s": 0.1, "delay_s": delay_s}
        found = words([2, 6, 2], [1, 4, 9], [0.0] * 3, PIECES, ends=[3, 8, 11], **more)  # type: ignore[arg-type]
        return [(round(word.start, 6), round(word.end, 6)) for word in found]

    assert timed(0.0) == [(0.1, 0.3), (0.4, 0.8), (0.9, 1.1)]
    # nothing before the beginning; the second word now begins, and the third, before the one in front was last seen
    assert timed(0.15) == [(0.0, 0.25), (0.25, 0.75), (0.75, 1.1)]


def test_words_of_a_hypothesis_are_its_words() -> None:
    h = Hypothesis(tokens=(2, 3, 4), frames=(1, 4, 5), ends=(3, 5, 7), log_probs=(-0.1, -0.2, -0.3))
    wanted = words(h.tokens, h.frames, h.log_probs, PIECES, frame_s=0.08, ends=h.ends)
    assert words_of(h, PIECES, frame_s=0.08) == wanted and len(wanted) == 2
    open_ended = Hypothesis(tokens=(2,), frames=(1,), log_probs=(-0.1,))
    assert words_of(open_ended, PIECES, frame_s=1.0)[0].end == pytest.approx(2.0)


def test_the_list_says_how_sure_each_word_is() -> None:
    def said(tokens: tuple[int, ...], probability: float) -> Hypothesis:
        return Hypothesis(tokens=tokens, scores={"ctc": math.log(probability) - 100.0, "lm": 40.0})

    both, without, other = said((2, 6), 0.3), said((6,), 0.2), said((2, 3, 4), 0.1)  # turn up, up, turn o
    assert nbest_confidences([both, without, other], PIECES) == pytest.approx([0.4 / 0.6, 0.5 / 0.6])
    assert nbest_confidences([said((2, 1, 6), 0.1)], PIECES) == [1.0, 1.0]
    assert nbest_confidences([], PIECES) == nbest_confidences([Hypothesis()], PIECES) == []
