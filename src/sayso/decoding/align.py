"""Forced alignment: when known text was said, and how sure the network is of each word; CTC Viterbi in numpy.

The best path through blank, label, blank, ... (Graves et al. 2006), over a whole recording: two bits per frame and
state are kept, no probabilities, so an hour of speech needs no cutting.

Shape letters: ``T`` frames, ``V`` tokens, ``U`` labels, ``S`` = 2U+1 states.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sayso.core.errors import DataError
from sayso.core.result import Word
from sayso.decoding.hypothesis import Hypothesis
from sayso.decoding.predictor import Floats
from sayso.decoding.words import words_of

_NEVER = -np.inf


def align(log_probs: Floats, tokens: Sequence[int]) -> Hypothesis:
    """The best path of log posteriors (T, V), blank 0, through exactly ``tokens``; its score is that path's.

    ``frames`` and ``ends`` are where each token is held, ``log_probs`` its best log posterior there. No tokens: all
    blank. ``DataError`` where the tokens need more frames than there are or one of them is impossible everywhere;
    ``ValueError`` for tokens that the posteriors do not have.
    """
    scores = np.asarray(log_probs, dtype=np.float64)
    labels = np.asarray(tokens, dtype=np.int64)
    if scores.ndim != 2 or (len(labels) and not (labels.min() >= 1 and labels.max() < scores.shape[1])):
        raise ValueError(f"log_probs {scores.shape} must be (T, V) and tokens labels of it other than the blank 0")
    needed = len(labels) + int((labels[1:] == labels[:-1]).sum())
    if needed > len(scores):
        raise DataError(
            f"{len(labels)} tokens need at least {needed} frames, and the recording has {len(scores)}; "
            "the text is longer than what was said"
        )
    path, score = _viterbi(scores, labels)
    if score == _NEVER:
        raise DataError("the text is impossible: some token has probability zero wherever it could be")
    frames, ends, peaks = [], [], []
    for u, token in enumerate(labels.tolist()):
        held = np.flatnonzero(path == 2 * u + 1)
        frames.append(int(held[0]))
        ends.append(int(held[-1]) + 1)
        peaks.append(float(scores[held, token].max()))
    return Hypothesis(
        tokens=tuple(labels.tolist()),
        frames=tuple(frames),
        ends=tuple(ends),
        log_probs=tuple(peaks),
        scores={"ctc": score},
    )


def align_words(
    log_probs: Floats,
    tokens: Sequence[int],
    pieces: Sequence[str],
    *,
    frame_s: float,
    delay_s: float = 0.0,
) -> list[Word]:
    """Words of known text with times and confidences; arguments and errors as ``align`` and ``words``."""
    return words_of(align(log_probs, tokens), pieces, frame_s=frame_s, delay_s=delay_s)


def _viterbi(scores: NDArray[np.float64], labels: NDArray[np.int64]) -> tuple[NDArray[np.int64], float]:
    """State (T,) of every frame on the best path, and its score."""
    states = np.zeros(2 * len(labels) + 1, dtype=np.int64)
    states[1::2] = labels
    jump = np.zeros(len(states), dtype=bool)  # may skip the blank between different labels
    jump[3::2] = labels[1:] != labels[:-1]
    if not len(scores):
        return np.zeros(0, dtype=np.int64), 0.0
    back = np.zeros((len(scores), len(states)), dtype=np.int8)
    best = np.full(len(states), _NEVER)
    best[:2] = scores[0, states[:2]]
    options = np.full((3, len(states)), _NEVER)
    for t in range(1, len(scores)):
        options[0] = best
        options[1, 1:] = best[:-1]
        options[2, 2:] = np.where(jump[2:], best[:-2], _NEVER)
        back[t] = options.argmax(axis=0)
        best = options.max(axis=0) + scores[t, states]
    last = len(states) - 1
    if last and best[last - 1] > best[last]:
        last -= 1
    path = np.zeros(len(scores), dtype=np.int64)
    state = last
    for t in range(len(scores) - 1, -1, -1):
        path[t] = state
        state -= int(back[t, state])
    return path, float(best[last])
