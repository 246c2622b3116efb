"""Timed words from tokens: a piece that begins with '▁' opens a word.

A word starts with its first token's first frame, less the delay with which a network writes what it heard begin, and
ends where its last token was last seen, but not after the next word begins. Its confidence is the geometric mean of its
tokens' posteriors: one bad piece must show in a long word.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence

from sayso.core.automaton import is_text
from sayso.core.result import Word
from sayso.decoding.hypothesis import Hypothesis


def words(
    tokens: Sequence[int],
    frames: Sequence[int],
    log_probs: Sequence[float],
    pieces: Sequence[str],
    *,
    frame_s: float,
    ends: Sequence[int] | None = None,
    delay_s: float = 0.0,
) -> list[Word]:
    """Words of one hypothesis; no tokens give no words.

    ``frames[i]`` is the first frame of token ``i``, ``ends[i]`` the first frame after it (default: one frame
    later), ``frame_s`` the length of a frame. Words begin ``delay_s`` before their first token. Pieces such as
    ``<unk>`` have no text.
    """
    if not len(tokens) == len(frames) == len(log_probs) == len(tokens if ends is None else ends):
        raise ValueError(f"{len(tokens)} tokens, {len(frames)} frames, {len(log_probs)} log posteriors: not one each")
    spans = spans_of(tokens, pieces)
    times = times_of(spans, frames, ends, frame_s=frame_s, delay_s=delay_s)
    found: list[Word] = []
    for (first, last), (start, end) in zip(spans, times, strict=True):
        text = "".join(_text(pieces[token]) for token in tokens[first : last + 1])
        if not text:
            continue
        mean = sum(log_probs[first : last + 1]) / (last + 1 - first)
        found.append(
            Word(
                text=text,
                start=start,
                end=end,
                confidence=min(1.0, math.exp(mean)),
            )
        )
    return found


def times_of(
    spans: Sequence[tuple[int, int]],
    frames: Sequence[int],
    ends: Sequence[int] | None = None,
    *,
    frame_s: float,
    delay_s: float = 0.0,
) -> list[tuple[float, float]]:
    """Start and end in seconds of each word (``spans_of``), not before frame 0; arguments as ``words``."""
    found: list[tuple[float, float]] = []
    for position, (first, last) in enumerate(spans):
        start = max(0.0, frames[first] * frame_s - delay_s)
        end = (frames[last] + 1 if ends is None else ends[last]) * frame_s
        if position + 1 < len(spans):
            end = min(end, frames[spans[position + 1][0]] * frame_s - delay_s)
        found.append((start, max(start, end)))
    return found


def words_of(hypothesis: Hypothesis, pieces: Sequence[str], *, frame_s: float, delay_s: float = 0.0) -> list[Word]:
    """``words`` of what a search or an alignment returned."""
    return words(
        hypothesis.tokens,
        hypothesis.frames,
        hypothesis.log_probs,
        pieces,
        frame_s=frame_s,
        ends=hypothesis.ends or None,
        delay_s=delay_s,
    )


def nbest_confidences(nbest: Sequence[Hypothesis], pieces: Sequence[str]) -> list[float]:
    """Per word of the best hypothesis, the share of the n-best list's probability that says it at that place.

    The word posterior of Wessel et al. (2001) on a list: another hypothesis says a word where a run of words that both
    have in common holds it. 1 for each word of a list of one. No hypotheses give none.
    """
    if not nbest:
        return []
    texts = [_texts(hypothesis.tokens, pieces) for hypothesis in nbest]
    scores = [hypothesis.score for hypothesis in nbest]
    weights = [math.exp(score - max(scores)) if score > -math.inf else float(len(nbest) == 1) for score in scores]
    said = [0.0] * len(texts[0])
    for text, weight in zip(texts, weights, strict=True):
        for place in _shared(texts[0], text):
            said[place] += weight
    return [min(1.0, value / sum(weights)) for value in said]


def spans_of(tokens: Sequence[int], pieces: Sequence[str]) -> list[tuple[int, int]]:
    """First and last token index of every word; tokens before the first '▁' make a word too."""
    starts = [i for i, token in enumerate(tokens) if i == 0 or pieces[token].startswith("▁")]
    return list(zip(starts, [start - 1 for start in starts[1:]] + [len(tokens) - 1], strict=True)) if starts else []


def _text(piece: str) -> str:
    return piece.replace("▁", "") if is_text(piece) else ""


def _texts(tokens: Sequence[int], pieces: Sequence[str]) -> list[str]:
    """The texts of ``words``, which leaves out what has none."""
    found = ["".join(_text(pieces[t]) for t in tokens[first : last + 1]) for first, last in spans_of(tokens, pieces)]
    return [text for text in found if text]


def _shared(first: Sequence[str], second: Sequence[str]) -> list[int]:
    """Places of ``first`` that ``second`` has too, in the same order."""
    blocks = difflib.SequenceMatcher(None, first, second, autojunk=False).get_matching_blocks()
    return [place for block in blocks for place in range(block.a, block.a + block.size)]
