"""Word errors where several people talk and the system's streams carry no names.

Three ways to say which stream answers for which talker: cpWER lets one stream stand for one talker, whichever fits best
(Watanabe et al. 2020, arXiv:2004.09249); ORC-WER lets every utterance lie in whichever stream, in order (Sklyar et al.
2022, arXiv:2112.10200; von Neumann et al. 2023, arXiv:2211.16112); tcpWER is cpWER in which a word may only stand for a
word said at about the same time (von Neumann et al. 2023, arXiv:2307.11394). All are exact minima. ``meeteval``
computes the same, and a test says so where it is installed; it comes as C++ to compile, so nothing needs it.

In a labels file, a recording of several talkers is several lines with one ``audio`` and different ``speaker``: an
utterance each, in the order in which they begin, with ``start`` and ``end`` in seconds where known.

``N`` words of a stream.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sayso.core.errors import DataError
from sayso.core.result import Example, Result, Word
from sayso.evaluation.metrics import word_errors
from sayso.text.normalise import normalise

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


def in_company(examples: Sequence[Example]) -> dict[str, list[int]]:
    """The recordings in which several speakers are known to talk: their utterances' places in ``examples``, by audio.
    ``DataError`` where one of these lacks ``speaker`` or ``text``, or where ``start`` and ``end`` are no times."""
    places: dict[str, list[int]] = {}
    for place, example in enumerate(examples):
        places.setdefault(example.audio, []).append(place)
    found = {audio: rows for audio, rows in places.items() if len({examples[row].speaker for row in rows} - {None}) > 1}
    for audio, rows in found.items():
        for row in rows:
            if examples[row].speaker is None or examples[row].text is None:
                raise DataError(f"{audio}: several people talk here; every line of it needs 'speaker' and 'text'")
            _times(examples[row])
    return found


def company_errors(
    utterances: Sequence[Example], streams: Sequence[Result], *, collar_s: float = 5.0
) -> dict[str, TalkerErrors]:
    """``cp_wer`` and ``orc_wer`` of one recording, ``tcp_wer`` where every utterance has ``start`` and ``end``: its
    words get shares of that time by their letters. Texts are normalised. ``DataError`` where it is too long for one."""
    spoken: dict[str, list[Example]] = {}
    for utterance in utterances:
        spoken.setdefault(utterance.speaker or "", []).append(utterance)
    said = {who: [normalise(item.text or "") for item in items] for who, items in spoken.items()}
    heard = [normalise(stream.text) for stream in streams]
    try:
        errors = {
            "cp_wer": cp_errors([" ".join(texts) for texts in said.values()], heard),
            "orc_wer": orc_errors([normalise(item.text or "") for item in utterances], heard),
        }
        if all(_times(item) for item in utterances):
            gold = [[word for item in items for word in _spread(item)] for items in spoken.values()]
            errors["tcp_wer"] = tcp_errors(gold, [_as_said(stream) for stream in streams], collar_s=collar_s)
    except ValueError as error:
        raise DataError(f"{utterances[0].audio}: {error}") from None
    return errors


def _times(example: Example) -> tuple[float, float] | None:
    """``start`` and ``end`` of an utterance, s; None where either is not known."""
    given = [example.custom.get(name) for name in ("start", "end")]
    if None in given:
        return None
    try:
        start, end = (float(value or "") for value in given)
    except ValueError:
        start, end = 0.0, -1.0
    if not 0.0 <= start <= end:
        raise DataError(
            f"{example.audio}: 'start' and 'end' of an utterance are seconds, the end not before the start; found "
            f"{given[0]!r} and {given[1]!r}"
        )
    return start, end


def _spread(example: Example) -> list[Word]:
    words, (start, end) = normalise(example.text or "").split(), _times(example) or (0.0, 0.0)
    ends = np.cumsum([0, *map(len, words)]) * (end - start) / max(1, sum(map(len, words))) + start
    return [Word(text=text, start=ends[place], end=ends[place + 1]) for place, text in enumerate(words)]


def _as_said(result: Result) -> list[Word]:
    """Words as they are compared; one that is written as several ("21") shares its time out."""
    timed = [
        Example(audio="", text=word.text, custom={"start": str(word.start), "end": str(word.end)})
        for word in result.words
    ]
    return [word for item in timed for word in _spread(item)]


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
