"""Word errors where several people talk and the system's streams carry no names.

Three ways to say which stream answers for which talker: cpWER lets one stream stand for one talker, whichever fits best
(Watanabe et al. 2020, arXiv:2004.09249); ORC-WER lets every utterance lie in whichever stream, in order (Sklyar et al.
2022, arXiv:2112.10200; von Neumann et al. 2023, arXiv:2211.16112); tcpWER is cpWER in which a word may only stand for a
word said at about the same time (von Neumann et al. 2023, arXiv:2307.11394). All are exact minima. ``meeteval``
computes the same, and a test says so where it is installed; it comes as C++ to compile, so nothing needs it.

``N`` words of a stream.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sayso.core.result import Word
from sayso.evaluation.metrics import word_errors

Doubles = NDArray[np.float64]
_MOST_STREAMS = 16
_MOST_CELLS = 20_000_000


class TalkerErrors(NamedTuple):
    """S + D + I at the best assignment, and the words of the reference; sum both over recordings."""

    errors: int
    length: int


def cp_errors(reference: Sequence[str], hypothesis: Sequence[str]) -> TalkerErrors:
    """One text a talker and one a stream (concatenated minimum permutation). A talker without stream is all deletions,
    a stream without talker all insertions. ``ValueError`` above 16 streams.
    """
    cost = [[word_errors(said, heard).errors for heard in hypothesis] for said in reference]
    spoken = [len(said.split()) for said in reference]
    return TalkerErrors(_cheapest(cost, spoken, [len(heard.split()) for heard in hypothesis]), sum(spoken))


def tcp_errors(
    reference: Sequence[Sequence[Word]], hypothesis: Sequence[Sequence[Word]], *, collar_s: float = 5.0
) -> TalkerErrors:
    """The words of every talker and of every stream. One may stand for another, right or wrong, if the middle of the
    heard one lies within ``collar_s`` of the time of the said one; otherwise it is inserted and the other deleted.
    """
    cost = [[_timed_distance(said, heard, collar_s) for heard in hypothesis] for said in reference]
    spoken = [len(said) for said in reference]
    return TalkerErrors(_cheapest(cost, spoken, [len(heard) for heard in hypothesis]), sum(spoken))


def orc_errors(reference: Sequence[str], hypothesis: Sequence[str]) -> TalkerErrors:
    """All utterances of all talkers in the order of their beginnings, and one text a stream (optimal reference
    combination). ``ValueError`` where streams are too long: time and memory are the product of their lengths.
    """
    streams = [np.array(heard.split(), dtype=object) for heard in hypothesis]
    shape = [len(stream) + 1 for stream in streams]
    if prod(shape) > _MOST_CELLS:
        raise ValueError(f"streams of {[size - 1 for size in shape]} words are too long; cut the recording at pauses")
    # best[n1, n2, ...]: fewest errors with the utterances so far and the first n words of each stream
    best: Doubles = sum(np.indices(shape), np.zeros(shape))
    length = 0
    for utterance in reference:
        words = utterance.split()
        length += len(words)
        options = [np.moveaxis(best, axis, -1) for axis in range(len(streams))]
        for axis, stream in enumerate(streams):
            for word in words:
                options[axis] = _next_row(options[axis], (stream != word).astype(np.float64))
        back = [np.moveaxis(option, -1, axis) for axis, option in enumerate(options)]
        best = np.min(back, axis=0) if back else best + len(words)
    return TalkerErrors(int(best[tuple(size - 1 for size in shape)]), length)


def _cheapest(cost: Sequence[Sequence[int]], missed: Sequence[int], extra: Sequence[int]) -> int:
    """The least sum over one-to-one assignments, by sets of streams taken: (talkers x 2^streams) sums."""
    streams = len(extra)
    if streams > _MOST_STREAMS:
        raise ValueError(f"{streams} streams are too many to assign; at most {_MOST_STREAMS}")
    sets = np.arange(2**streams)
    best = np.where(sets == 0, 0.0, np.inf)
    for row, alone in zip(cost, missed, strict=True):
        after = best + alone
        for stream, price in enumerate(row):
            taken = (sets >> stream & 1).astype(bool)
            after[taken] = np.minimum(after[taken], best[sets[taken] ^ 1 << stream] + price - extra[stream])
        best = after
    return int(best.min()) + sum(extra)


def _timed_distance(said: Sequence[Word], heard: Sequence[Word], collar_s: float) -> int:
    gold, got = (sorted(words, key=lambda word: word.start) for words in (said, heard))
    texts = np.array([word.text for word in got], dtype=object)
    middles = np.array([(word.start + word.end) / 2 for word in got])
    row: Doubles = np.arange(len(got) + 1, dtype=np.float64)
    for word in gold:
        near = (middles >= word.start - collar_s) & (middles <= word.end + collar_s)
        row = _next_row(row, np.where(near, (texts != word.text).astype(np.float64), np.inf))
    return int(row[-1])


def _next_row(row: Doubles, swap: Doubles) -> Doubles:
    """One more reference word along the last axis (..., N + 1) of Levenshtein's table; ``swap`` (N,) is the cost of
    standing for each heard word. Insertions run along the row: a running minimum of cost less place.
    """
    place = np.arange(row.shape[-1])
    after = row + 1
    after[..., 1:] = np.minimum(after[..., 1:], row[..., :-1] + swap)
    return np.minimum.accumulate(after - place, axis=-1) + place
